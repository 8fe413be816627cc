"""A comparison of runs, for people and for programs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from ..diagnostics.diagnostic import quoted
from ..spec.setting_paths import Change
from .diff import Pairing, Result, RunDifference, StageDifference
from .sides import Subject
from .text_table import table


def diff_text(differences: Sequence[RunDifference], pairing: Pairing) -> str:
    """The pairs one below the other, and the runs that have no partner; ends with a newline."""
    blocks = ["\n".join(_pair(found)) for found in differences]
    for side, alone in (("A", pairing.only_a), ("B", pairing.only_b)):
        if alone:
            blocks.append("\n".join([f"only in {side}:", *(f"  {run.name}" for run in alone)]))
    return "\n\n".join(blocks) + "\n"


def _pair(found: RunDifference) -> Iterator[str]:
    a, b = found.a.name, found.b.name
    name = a if a == b else f"{a} | {b}"
    if found.equal and found.stages is not None:
        yield f"{name}: the same ({len(found.stages)} stages shared)"
        return
    yield f"{name}: A | B"
    yield from _changes("spec", found.values)
    yield from _changes("inputs", found.inputs)
    if found.stages is None:
        yield "  stages: not known, because one of them cannot be compiled here"
    else:
        yield from _stages(found.stages, {change.key for change in found.values})
    if found.results is not None:
        yield from _results(found.results)
    elif found.a.summary is not None or found.b.summary is not None:
        yield f"  results: only of {'A' if found.a.summary is not None else 'B'}"


def _changes(title: str, changes: Sequence[Change]) -> Iterator[str]:
    if not changes:
        yield f"  {title}: the same"
        return
    yield f"  {title}"
    yield from table([(change.key, f"{_value(change.a)} | {_value(change.b)}") for change in changes], indent=4)


def _stages(stages: Sequence[StageDifference], told: Collection[str]) -> Iterator[str]:
    shared = [stage.id for stage in stages if stage.same]
    if len(shared) == len(stages):
        yield f"  stages: all {len(stages)} shared"
        return
    yield f"  stages: {len(shared)} of {len(stages)} shared" + (f" ({', '.join(shared)})" if shared else "")
    yield from table(
        [(stage.id, f"{_key(stage.a)} | {_key(stage.b)}", _reason(stage, told)) for stage in stages if not stage.same],
        indent=4,
    )


def _reason(stage: StageDifference, told: Collection[str]) -> str:
    """Why two stages of a name are not the same. `told`: keys whose values are shown already."""
    if stage.a is None or stage.b is None:
        return f"only in {'B' if stage.a is None else 'A'}"
    reasons = [
        change.key if change.key in told else f"{change.key}: {_value(change.a)} | {_value(change.b)}"
        for change in stage.changed
    ]
    if stage.same is None and not reasons:
        return "not known: an input cannot be found here"
    if stage.upstream:
        differ = "differs" if len(stage.upstream) == 1 else "differ"
        reasons.append(f"because {' and '.join(stage.upstream)} {differ}")
    return "; ".join(dict.fromkeys(reasons)) or "another format of this stage's code"


def _results(results: Sequence[Result]) -> Iterator[str]:
    yield "  results: A | B | B - A"
    yield from table(
        [
            (result.name, f"{_number(result.a)} | {_number(result.b)}", _signed(result))
            for result in results
        ],
        indent=4,
    )  # fmt: skip


def _value(value: Any) -> str:
    if isinstance(value, str) and len(value) == 64:
        return value[:12]  # a fingerprint
    return "absent" if value is None else quoted(value)


def _key(key: str | None) -> str:
    return "-" if key is None else key if len(key) != 64 else key[:8]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


def _signed(result: Result) -> str:
    difference = result.difference
    if difference is None:
        return ""
    return f"{difference:+,}" if isinstance(difference, int) else f"{difference:+.2f}"


def diff_json(differences: Sequence[RunDifference], pairing: Pairing) -> dict[str, Any]:
    """`{"version": 1, "equal", "pairs": [{a, b, equal, values, inputs, stages, results}], "only_a", "only_b"}`.
    A value that is not there is null."""
    return {
        "version": 1,
        "equal": not pairing.only_a and not pairing.only_b and all(found.equal for found in differences),
        "pairs": [
            {
                "a": _subject(found.a),
                "b": _subject(found.b),
                "equal": found.equal,
                "values": [_change(change) for change in found.values],
                "inputs": [_change(change) for change in found.inputs],
                "stages": None if found.stages is None else [_stage(stage) for stage in found.stages],
                "results": None if found.results is None else [_result(result) for result in found.results],
            }
            for found in differences
        ],
        "only_a": [run.name for run in pairing.only_a],
        "only_b": [run.name for run in pairing.only_b],
    }


def _subject(run: Subject) -> dict[str, Any]:
    return {
        "name": run.name,
        "key": None if run.planned is None else run.planned.key,
        "finished": run.summary is not None,
    }


def _change(change: Change) -> dict[str, Any]:
    return {"path": change.key, "a": change.a, "b": change.b}


def _stage(stage: StageDifference) -> dict[str, Any]:
    return {
        "id": stage.id,
        "a": stage.a,
        "b": stage.b,
        "same": stage.same,
        "changed": [_change(change) for change in stage.changed],
        "upstream": list(stage.upstream),
    }


def _result(result: Result) -> dict[str, Any]:
    return {"name": result.name, "a": result.a, "b": result.b, "difference": result.difference}
