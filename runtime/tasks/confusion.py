"""How often each class was taken for each: counted, written as a table, and drawn from that table.

confusion.<test set>.csv  the counts: a line a true class, a column a predicted one
confusion.<test set>.png  the same as a figure, with the share of each line in percent
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MOST_NUMBERED = 30  # classes; of more the cells are too small for numbers
LONGEST_NAME = 24  # letters
DARK = 0.6  # from this share on numbers are white
DPI = 120


def confusion(labels: NDArray[np.int64], predicted: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """(classes, classes): how often class i was taken for class j."""
    counts = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts


def write_confusion(file: Path, names: Sequence[str], counts: NDArray[np.int64]) -> None:
    """The table, and the figure of it beside it. counts (classes, classes)."""
    with file.open("w", encoding="utf-8", newline="") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["class \\ predicted", *names])
        writer.writerows([of, *row] for of, row in zip(names, counts.tolist(), strict=True))
    draw_confusion(file, file.with_suffix(".png"))


def draw_confusion(table: Path, figure: Path) -> None:
    """The figure of a table: true classes from the top down, predicted ones from left to right. In each cell stand the
    count and its share of the row in percent, which is also its colour."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # here: it takes a second, and evaluations alone draw
    from matplotlib.figure import Figure

    with table.open(encoding="utf-8", newline="") as file:
        (_, *names), *rows = csv.reader(file)
    counts = np.array([row[1:] for row in rows], np.int64)  # (classes, classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    num_classes = len(names)
    numbered = num_classes <= MOST_NUMBERED
    inches = max(4.0, min(num_classes, MOST_NUMBERED) * (0.9 if num_classes <= 12 else 0.55))
    size = 9.0 if num_classes <= 12 else 8.0
    told = [name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…" for name in names]
    drawn = Figure(figsize=(inches + 2.5, inches + 2.0), dpi=DPI, layout="constrained")
    FigureCanvasAgg(drawn)
    axes = drawn.add_subplot()
    image = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
    drawn.colorbar(image, ax=axes, label="% of the true class", shrink=0.8)
    if numbered or num_classes <= 100:
        axes.set_xticks(range(num_classes), told, rotation=45, ha="right", rotation_mode="anchor", fontsize=size)
        axes.set_yticks(range(num_classes), told, fontsize=size)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    for i, j in np.ndindex(*counts.shape) if numbered else ():
        text = f"{counts[i, j]:,}\n{100 * shares[i, j]:.0f} %" if counts[i, j] else "0"
        colour = "white" if shares[i, j] > DARK else "black"
        axes.text(j, i, text, ha="center", va="center", fontsize=size, color=colour, parse_math=False)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)  # "$" is a letter here
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that the font lacks: boxes stand for them
        drawn.savefig(figure, format="png", metadata={"Software": None})
