"""`evaluate`: a file of predictions and a file of references -> their scores, with the code of the evaluate stage."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ..data.alignment import Aligned, align
from ..data.text_files import Layout, Texts, read_texts
from ..execution.console import Console
from ..extensions import TASKS, entries
from ..failure import Failure
from ..messages.terminal import drawing_console, tell
from ..metrics.score import how_scored, needing, score
from ..metrics.words import unseen
from ..plan.settings import Scoring

PREDICTIONS = ("prediction", "predictions", "hypothesis", "text")
REFERENCES = ("reference", "references", "target", "label", "text")


def main(argv: Sequence[str]) -> int:
    """`evaluate PREDICTIONS [REFERENCES] [options]`. Returns the exit code."""
    options = _parser().parse_args(argv)
    try:
        predictions, references = _read(options)
        aligned = align(predictions, references, options.by)
        metrics = options.metric
        if not metrics and options.task:
            metrics = list(TASKS[options.task].metrics)
        elif not metrics:
            metrics = needing([metric for task in entries("tasks") for metric in TASKS[task].metrics], "texts")
        scoring = Scoring(
            rouge_tokenizer=options.rouge_tokenizer,
            stemmer=options.stemmer == "yes",
            bleu_tokenize=options.bleu_tokenize,
            line_break="<n>",  # Pegasus's; no other text has it
        )
        scores = score_texts(metrics, aligned, scoring)
        warnings = [found._asdict() for found in unseen(list(scores), aligned.references, scoring)]
        result = {
            "version": 1,
            "predictions": predictions.name,
            "references": references.name,
            "examples": len(aligned.references),
            "aligned_by": aligned.by,
            "scores": scores,
            **({"warnings": warnings} if warnings else {}),
        }
        text = json.dumps(result, indent=1, allow_nan=False) + "\n" if options.format == "json" else scores_text(result)
        if options.output is None:
            tell(text, end="")
        else:
            write_whole(options.output, text)
    except Failure as failure:
        Console().failure(failure, None)
        return failure.exit_code
    return 0


def score_texts(metrics: Sequence[str], aligned: Aligned, scoring: Scoring | None = None) -> dict[str, dict[str, Any]]:
    """Metric -> {value, low, high, ...}. Raises `Failure` R305 (no such metric), R364 (not one of texts)."""
    if of_loss := needing(metrics, "loss"):
        raise Failure("R364", f"{', '.join(of_loss)} is computed from a model, not from its texts", "leave it out")
    waiting: Any = nullcontext()
    if sys.stderr.isatty():
        waiting = drawing_console(stderr=True).status(f"scoring {len(aligned.references):,} texts")
    with waiting:
        return score(metrics, aligned.predictions, aligned.references, scoring)


def scores_text(result: Mapping[str, Any]) -> str:
    """For people: one line a metric, and how it was computed."""
    by = "id" if result["aligned_by"] == "id" else "line"
    lines = [f"{result['predictions']}: {result['examples']:,} examples, aligned by {by} with {result['references']}"]
    width = max(map(len, result["scores"]))
    notes = []
    for name, entry in result["scores"].items():
        interval = f"  [{entry['low']:.2f}, {entry['high']:.2f}]" if "low" in entry else ""
        lines.append(f"  {name:<{width}}  {entry['value']:7.2f}{interval}")
        notes += [f"{name}: {note} {entry[note]}" for note in ("signature", "splitter") if note in entry]
    if any("low" in entry for entry in result["scores"].values()):
        lines.append("in brackets: 95 % interval (bootstrap over examples)")
    notes += how_scored(result["scores"])
    notes += [f"warning: {found['message']} (see --language)" for found in result.get("warnings", ())]
    return "\n".join(lines + notes) + "\n"


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all. Raises `Failure` R369: it cannot be written."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text(text, "utf-8")
        temporary.replace(path)
    except OSError as error:
        raise Failure("R369", f"cannot write {path}: {error.strerror or error}", "name another file with -o") from error


def _read(options: argparse.Namespace) -> tuple[Texts, Texts]:
    """Predictions and references; without a file of references those that stand beside the predictions."""
    file = options.references or options.predictions
    theirs = Layout(options.prediction_column, PREDICTIONS, "--prediction-column", options.id_column)
    usual = REFERENCES if options.references is not None else REFERENCES[:3]
    ours = Layout(options.reference_column, usual, "--reference-column", options.id_column, several=True)
    predictions = read_texts(options.predictions, theirs)
    if options.references is None and predictions.column is None:
        raise Failure("R361", f"{file} has no references beside its predictions", "name a file of references, too")
    references = read_texts(file, ours)
    if options.references is None and references.column == predictions.column:
        raise Failure("R361", f"{file} has no references beside its predictions",
                      "name a file of references, or their column with --reference-column")  # fmt: skip
    return predictions, references


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="distilc evaluate", description=__doc__)
    parser.add_argument("predictions", type=Path)
    parser.add_argument("references", type=Path, nargs="?")
    parser.add_argument("--task", choices=list(entries("tasks")))
    parser.add_argument("--metric", action="append", default=[])
    parser.add_argument("--prediction-column")
    parser.add_argument("--reference-column")
    parser.add_argument("--id-column")
    parser.add_argument("--rouge-tokenizer", choices=["default", "unicode"], default="default")
    parser.add_argument("--stemmer", choices=["yes", "no"], default="yes")
    parser.add_argument("--bleu-tokenize", default="13a")
    parser.add_argument("--by", choices=["id", "line"])
    parser.add_argument("--format", choices=["text", "json"], default="text")
    parser.add_argument("-o", "--output", type=Path)
    return parser
