"""What differs between two runs: values of their specs, inputs, stages and why, results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..diagnostics.diagnostic import dotted
from ..diagnostics.record import record
from ..plan.lock import plan_inputs
from ..resolve.fingerprint import UNRESOLVED
from ..spec.differences import differences
from ..spec.resolved import without_locations
from ..spec.setting_paths import Change, changed_settings
from .explain import stage_states
from .sides import Planned, Subject

SHAPE = ("encoder_layers", "decoder_layers", "d_model", "heads", "ffn_dim")


@record
class StageDifference:
    """A stage of one or both runs. `a`, `b`: its keys, None where it is not; "unresolved" where an input is not
    known here. `changed`: its own settings that differ; `upstream`: the needed stages that do."""

    id: str
    a: str | None
    b: str | None
    changed: Sequence[Change]
    upstream: Sequence[str]

    @property
    def same(self) -> bool | None:
        """Do both runs share the artifact? None: it cannot be told."""
        if UNRESOLVED in (self.a, self.b):
            return False if self.changed else None
        return self.a == self.b


@record
class Result:
    """A number of a finished run, in both; None: not measured."""

    name: str
    a: float | None
    b: float | None

    @property
    def difference(self) -> float | None:
        return None if self.a is None or self.b is None else self.b - self.a


@record
class RunDifference:
    """Two runs beside each other. `stages` None: one of them could not be lowered; `results` None: not both are
    finished."""

    a: Subject
    b: Subject
    values: Sequence[Change]
    inputs: Sequence[Change]
    stages: Sequence[StageDifference] | None
    results: Sequence[Result] | None

    @property
    def equal(self) -> bool:
        """Nothing differs that is known of."""
        stages = self.stages or ()
        results = self.results or ()
        return not self.values and not self.inputs and not any(s.same is False for s in stages) and not any(
            result.a != result.b for result in results
        )  # fmt: skip


@record
class Pairing:
    """The runs of two sides that belong together, and those that are alone."""

    pairs: list[tuple[Subject, Subject]]
    only_a: list[Subject]
    only_b: list[Subject]


def pair_runs(a: Sequence[Subject], b: Sequence[Subject]) -> Pairing:
    """Runs belong together that have the same name, then those that have the same label; a run that is the only
    one of its side belongs to the only one of the other."""
    if len(a) == len(b) == 1:
        return Pairing([(a[0], b[0])], [], [])
    partners: dict[int, Subject] = {}
    left = list(b)
    for name in ("name", "label"):
        known = {getattr(run, name): run for run in left if getattr(run, name)}
        for i, run in enumerate(a):
            if i not in partners and (found := known.pop(getattr(run, name), None)) is not None:
                partners[i] = found
                left.remove(found)
    pairs = [(run, partners[i]) for i, run in enumerate(a) if i in partners]
    return Pairing(pairs, [run for i, run in enumerate(a) if i not in partners], left)


def diff_runs(a: Subject, b: Subject) -> RunDifference:
    """Everything in which two runs differ."""
    stages = None if a.planned is None or b.planned is None else list(_stages(a.planned, b.planned))
    results = None if a.summary is None or b.summary is None else list(_results(a.summary, b.summary))
    return RunDifference(a, b, list(_values(a, b, stages)), list(_inputs(a, b)), stages, results)


def _values(a: Subject, b: Subject, stages: Sequence[StageDifference] | None) -> Iterator[Change]:
    """Keys of the spec. Where something lies is no value, as long as it is known what it is."""
    trees = (a.tree, b.tree) if stages is None else (without_locations(a.tree), without_locations(b.tree))
    student = next((stage for stage in stages or () if stage.id == "student"), None)
    same_shape = student is not None and not student.changed
    for path, one, other in differences(*trees):
        if same_shape and path[0] == "student" and path[-1] in SHAPE and None in (one, other):
            continue  # written in one, the same without a word in the other: it is the teacher's
        yield Change(dotted(path), one, other)
    if a.planned is not None and b.planned is not None:
        specs_a, specs_b = a.planned.named, b.planned.named
        for owner in [name for name in specs_a if name in specs_b]:  # one that is new is told as its stages
            before, now = (without_locations(specs[owner]) for specs in (specs_a, specs_b))
            for path, one, other in differences(before, now):
                yield Change(f"{dotted(path)} of {owner}", one, other)


def _inputs(a: Subject, b: Subject) -> Iterator[Change]:
    """Models and data from outside of the spec, as they were found."""
    if a.planned is not None and b.planned is not None:
        for path, one, other in differences(plan_inputs(a.planned.stages), plan_inputs(b.planned.stages)):
            yield Change(dotted(path), one, other)


def _stages(a: Planned, b: Planned) -> Iterator[StageDifference]:
    keys_a, keys_b = (
        {state["id"]: state["key"] for state in stage_states(side.stages, side.stores)} for side in (a, b)
    )
    for id in [*a.stages, *(id for id in b.stages if id not in a.stages)]:
        one, other = a.stages.get(id), b.stages.get(id)
        changed: list[Change] = []
        upstream: list[str] = []
        if one is not None and other is not None:
            changed = changed_settings(id, one.kind, one.settings, other.settings)
            needs_a, needs_b = a.stages.ids(one.needs), b.stages.ids(other.needs)
            for role in [*needs_a, *(role for role in needs_b if role not in needs_a)]:
                from_a, from_b = needs_a.get(role), needs_b.get(role)
                if from_a is None or from_b is None:
                    changed.append(Change(f"needs.{role}", from_a, from_b))
                elif keys_a.get(from_a) == keys_b.get(from_b):
                    continue
                elif from_a != from_b:
                    changed.append(Change(f"needs.{role}", from_a, from_b))
                else:
                    upstream.append(str(from_a))
        yield StageDifference(id, keys_a.get(id), keys_b.get(id), changed, list(dict.fromkeys(upstream)))


def _results(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Result]:
    """The numbers of two summaries, by test set where there are several."""
    numbers_a, numbers_b = dict(_numbers(a)), dict(_numbers(b))
    for name in dict.fromkeys([*numbers_a, *numbers_b]):
        yield Result(name, numbers_a.get(name), numbers_b.get(name))


def _numbers(summary: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    sets = summary.get("test_sets", {})
    for name, found in sets.items():
        suffix = f" ({name})" if len(sets) > 1 else ""
        for who in ("student", "teacher"):
            for metric, entry in found[who].items():
                yield f"{who} {metric}{suffix}", entry["value"]
        for metric, share in found["retention"].items():
            yield f"retention {metric}{suffix}", share
    training, parameters = summary.get("training", {}), summary.get("parameters", {})
    others = {
        "speed-up": summary.get("speedup"),
        "student parameters": parameters.get("student"),
        "teacher parameters": parameters.get("teacher"),
        "training steps": training.get("steps"),
        f"best validation {training.get('monitor')}": training.get("best"),
    }
    yield from ((name, value) for name, value in others.items() if value is not None)
