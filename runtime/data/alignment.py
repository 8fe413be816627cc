"""Predictions held against references: by id where both have ids, else row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..failure import Failure
from .text_files import Texts

By = Literal["id", "line"]


@dataclass(frozen=True)
class Aligned:
    """Texts in the order of the references, of which a row may have several, and what they were aligned by."""

    predictions: list[str]
    references: list[str | Sequence[str]]
    by: By


def align(
    predictions: Texts, references: Texts, by: By | None = None, *, all_of: bool = True, spec_path: str | None = None
) -> Aligned:
    """The prediction of each reference.

    `by` None: by id where both have ids, else by line. `all_of` False: `references` are only some of those that
    were predicted, and by id the other predictions are no fault. Raises `Failure` R363: a row has no partner.
    """
    if by is None:
        by = "id" if predictions.ids is not None and references.ids is not None else "line"
    if by == "line":
        return _by_line(predictions, references, spec_path)
    return _by_id(predictions, references, all_of, spec_path)


def _by_line(predictions: Texts, references: Texts, spec_path: str | None) -> Aligned:
    if len(predictions) != len(references):
        long, short = sorted((predictions, references), key=len, reverse=True)
        raise Failure(
            "R363",
            f"{predictions.name} has {len(predictions):,} rows and {references.name} has {len(references):,}: "
            f"{long.places[len(short)]} is the first one without a partner",
            "they are compared row by row: give both the same rows, or an id to every row of both",
            spec_path=spec_path,
        )
    return Aligned(list(predictions.texts), _all_of(references), "line")


def _by_id(predictions: Texts, references: Texts, all_of: bool, spec_path: str | None) -> Aligned:
    for texts in (predictions, references):
        if texts.ids is None:
            raise Failure("R363", f"the rows of {texts.name} have no ids", "compare row by row instead",
                          spec_path=spec_path)  # fmt: skip
    assert predictions.ids is not None and references.ids is not None
    known = dict(zip(predictions.ids, predictions.texts, strict=True))
    lacking = [i for i, id in enumerate(references.ids) if id not in known]
    if lacking:
        first = lacking[0]
        raise Failure(
            "R363",
            f"{len(lacking):,} of {len(references):,} references have no prediction in {predictions.name}, the first: "
            f"{references.places[first]} (id {references.ids[first]!r})",
            "rows are aligned by id; a system is compared on all of the rows or not at all",
            spec_path=spec_path,
        )
    wanted = set(references.ids)
    unknown = [i for i, id in enumerate(predictions.ids) if id not in wanted]
    if unknown and all_of:
        first = unknown[0]
        raise Failure(
            "R363",
            f"{predictions.places[first]}: the id {predictions.ids[first]!r} is none of {references.name}"
            + (f", nor are {len(unknown) - 1:,} more" if len(unknown) > 1 else ""),
            "rows are aligned by id: are these the predictions for other data?",
            spec_path=spec_path,
        )
    return Aligned([known[id] for id in references.ids], _all_of(references), "id")


def _all_of(references: Texts) -> list[str | Sequence[str]]:
    return [references.several.get(i, text) for i, text in enumerate(references.texts)]
