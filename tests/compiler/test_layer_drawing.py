"""The drawing says what the maps say: every wire is followed with a finger."""

import random
import re

import pytest

from distilc.compiler.explain.layer_drawing import MOST_LANES, WHOLE_UP_TO, LayerMap, draw_layers
from distilc.compiler.resolve.layers import COPY_TABLES, PHI_TABLES

WIDTH = 110


class Read:
    """A drawing, read: `copies` and `phi` as student layer -> teacher layer."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.copies: dict[int, int] = {}
        self.phi: dict[int, int] = {}
        label = -1
        for y, line in enumerate(lines):
            inside = line[3:].split("│")[0].split("├")[0].strip() if len(line) > 3 else ""
            label = int(inside) if inside.isdigit() else label
            if "▶│" in line and "├" in line:
                box = line.index("▶│")
                student = int(line[box + 2 :].split("│")[0])
                self.copies[student] = label
                right = line.index("│", box + 2) + 1
                if right < len(line):
                    self.phi[student] = self.row(self.follow(y, right))

    def at(self, y: int, x: int) -> str:
        return self.lines[y][x] if x < len(self.lines[y]) else " "

    def row(self, y: int) -> int:
        """The layer of a line: its own number or the one above."""
        while not (inside := self.lines[y][3:].split("│")[0].split("├")[0].strip()).isdigit():
            y -= 1
        return int(inside)

    def follow(self, y: int, x: int) -> int:
        """The line at which the wire that starts here arrives, straight on at every crossing."""
        while self.at(y, x) in "┄┼":
            x += 1
        assert self.at(y, x) in "┐┘", (y, x, self.at(y, x))
        step = 1 if self.at(y, x) == "┐" else -1
        y += step
        while self.at(y, x) in "┊┼":
            y += step
        assert self.at(y, x) == ("┘" if step == 1 else "┐")
        x -= 1
        while self.at(y, x) != "◀":
            assert self.at(y, x) in "┄┼ 0123456789", self.at(y, x)
            x -= 1
        return y


def drawn(depth: int, copied, phi) -> list[str]:
    return draw_layers(LayerMap("teacher", depth, depth, copied, phi))


def as_map(layers) -> dict[int, int]:
    return dict(enumerate(layers))


TABLED = [
    (depth, COPY_TABLES[depth][student], phi) for depth, rows in PHI_TABLES.items() for student, phi in rows.items()
]


@pytest.mark.parametrize(("depth", "copied", "phi"), TABLED)
def test_the_published_maps(depth, copied, phi):
    lines = drawn(depth, copied, phi)
    read = Read(lines)
    assert (read.copies, read.phi) == (as_map(copied), as_map(phi))
    assert max(map(len, lines)) <= 80


def test_every_layer_of_the_teacher_has_a_row():
    lines = drawn(12, [0, 6, 11], [3, 7, 11])
    assert [line.split()[1] for line in lines if line.startswith("  │") and line[4:6].strip()] == [
        str(layer) for layer in range(12)
    ]


@pytest.mark.parametrize(
    ("copied", "phi"),
    [
        ([0, 0, 0], [3, 7, 11]),  # repeats: a line for each
        ([9, 10, 11], [3, 7, 11]),  # upwards
        ([11, 6, 0], [3, 7, 11]),  # the other way round: crossings
        ([0, 6, 11], [0, 6, 11]),  # its own row
        ([0, 6, 11], [11, 11, 11]),  # one layer supervises all
        ([0, 6, 11], None),
    ],
)
def test_maps_of_all_kinds(copied, phi):
    read = Read(drawn(12, copied, phi))
    assert (read.copies, read.phi) == (as_map(copied), as_map(phi or []))


def test_any_maps():
    source = random.Random(20201013)
    for _ in range(300):
        depth = source.randint(1, 24)
        student = source.randint(1, min(depth, MOST_LANES))
        copied = [source.randrange(depth) for _ in range(student)]
        phi = [source.randrange(depth) for _ in range(student)]
        lines = drawn(depth, copied, phi)
        read = Read(lines)
        assert (read.copies, read.phi) == (as_map(copied), as_map(phi)), "\n".join(lines)
        assert max(map(len, lines)) <= WIDTH


def test_deep_stacks_lose_their_idle_stretches_only():
    lines = drawn(24, [0, 12, 23], [7, 15, 23])
    assert len(lines) < 24 and any("⋮" in line for line in lines)
    read = Read(lines)
    assert (read.copies, read.phi) == ({0: 0, 1: 12, 2: 23}, {0: 7, 1: 15, 2: 23})
    assert not any("⋮" in line for line in drawn(WHOLE_UP_TO, [0], [WHOLE_UP_TO - 1]))


def test_random_layers_stand_where_they_learn():
    lines = drawn(12, None, [3, 7, 11])
    rows = {int(line[4:6]): line for line in lines if line[4:6].strip().isdigit()}
    for student, layer in enumerate([3, 7, 11]):
        assert "◀" in rows[layer] and rows[layer].rstrip().endswith(f"│ {student} │")
    assert sum("◀" in line for line in lines) == 3


def test_layers_of_another_model_and_the_teacher_are_two_columns():
    lines = draw_layers(LayerMap("org/other", 6, 12, [0, 2, 5], [3, 7, 11], foreign=True))
    assert lines[0].split() == ["org/other", "student", "teacher"]
    copies = {int(line[4:6]): line for line in lines if line.startswith("  │") and "▶│ " in line and "├─" in line}
    assert [int(copies[layer].split("▶│")[1].split("│")[0]) for layer in (0, 2, 5)] == [0, 1, 2]
    arrows = [line.rsplit("▶│", 1)[1] for line in lines if line.rstrip().endswith("│") and "┄▶│" in line]
    assert [int(text.split("│")[0]) for text in arrows] == [3, 7, 11]


def test_the_end_of_a_long_name_is_shown():
    name = "organisation/" + "a" * 60 + "-end"
    lines = draw_layers(LayerMap(name, 4, 4, [0, 3], [1, 3], foreign=True))
    assert "…" in lines[0] and "-end" in lines[0]
    assert max(map(len, lines)) <= WIDTH


def test_nothing_to_draw():
    assert drawn(12, None, None) == []


def test_colours_change_nothing_but_the_colour():
    layers = LayerMap("teacher", 12, 12, [0, 6, 11], [3, 7, 11])
    colored = draw_layers(layers, color=True)
    assert [re.sub(r"\033\[\d*m", "", line) for line in colored] == draw_layers(layers)
    assert all(line.endswith("\033[0m") for line in colored if "\033" in line)
