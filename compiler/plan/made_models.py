"""A run of another spec that is named for a model -> the model, as the run that names it sees it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..diagnostics.diagnostic import Trail
from ..resolve.reference import MadeModel, ResolvedModel
from ..resolve.run import ResolvedRun
from ..spec.compiled import NamedRun, Run
from .stages import Stages, made_model


def resolve_made(named: NamedRun, owner: str, found: ResolvedRun, stages: Stages | None) -> ResolvedModel:
    """The student of a run, or its teacher. `owner`: what the run is called among those that are named beside it;
    `stages` None: a quick look."""
    assert named.run is not None
    run = named.run.experiment
    if named.model == "teacher":
        name, architecture = f"teacher of {run.name}", found.teacher.architecture
    else:
        name, architecture = run.name, found.student.architecture
    made = MadeModel(owner, (), "", "")
    if stages is not None:
        # The student is made of its teacher: the stage that it needs is the teacher as it was trained.
        trained = next(stage["needs"]["teacher"] for stage in stages if stage["id"] == "student")
        made = made_model(owner, stages, trained if named.model == "teacher" else "train")
    teacher = found.teacher  # its tokenizer is the student's, and so is what its checkpoint says of texts
    return ResolvedModel(
        name, architecture, {}, {}, {}, made, says_length=teacher.says_length, languages=teacher.languages,
        line_break=teacher.line_break,
    )  # fmt: skip


def owners(run: Run) -> Iterator[tuple[str, Trail, NamedRun]]:
    """The runs that a run names, with where it does and what each is called here: by its name, which gets a number
    where another run has it."""
    names: dict[int, str] = {}
    for path, named in run.named.items():
        if named.run is None:
            continue
        if id(named.run) not in names:
            name, number = named.run.experiment.name, 1
            while name in names.values():
                number += 1
                name = f"{named.run.experiment.name}-{number}"
            names[id(named.run)] = name
        yield names[id(named.run)], path, named


def named_record(run: Run, stages: Stages) -> dict[str, dict[str, Any]]:
    """The runs whose stages are among those of a run: what stands before their ids -> file, name, resolved spec."""
    return {
        owner: {"file": str(other.spec_file), "run": other.experiment.name, "spec": other.tree}
        for owner, other in _owned(run, stages)
    }


def named_places(run: Run, stages: Stages) -> dict[str, tuple[str, int, int]]:
    """Where the values of those runs are written: paths with what stands before the ids of their stages."""
    return {
        f"{owner}/{path}": place
        for owner, other in _owned(run, stages)
        for path, place in other.reporter.all_places().items()
    }


def _owned(run: Run, stages: Stages, before: str = "") -> Iterator[tuple[str, Run]]:
    """The runs that are named, directly or not, of which a stage is there under their own name."""
    told = set()
    for owner, _, named in owners(run):
        other, name = named.run, f"{before}{owner}"
        if other is None or name in told:
            continue
        told.add(name)
        ids = [stage["id"] for stage in stages if stage["id"].startswith(f"{name}/")]
        if any(id.rpartition("/")[0] == name for id in ids):
            yield name, other
        if ids:  # else all that it makes has other names already
            yield from _owned(other, stages, f"{name}/")
