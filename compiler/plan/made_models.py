"""A run of another spec that is named for a model -> the model, as the run that names it sees it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..diagnostics.diagnostic import Reporter, Trail, listed, quoted, shown_path
from ..resolve.reference import MadeModel, ResolvedModel
from ..spec.compiled import NamedRun, Run
from ..spec.experiment import Experiment
from ..tasks.task import TASKS, WRITING
from .stages import ResolvedRun, Stages, made_model


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


def check_work(run: Experiment, path: Trail, named: NamedRun, reporter: Reporter) -> bool:
    """Does the model do what it is wanted for? Layers alone are taken from any.

    Reports E436 (another task, or other classes), W431 (another language or prefix).
    """
    assert named.run is not None
    other, shown = named.run.experiment, shown_path(named.run.spec_file)
    if path[0] == "student":
        return True
    trained_on = path == ("teacher",) and run.teacher.train is not None
    if other.task != run.task and not (trained_on and {other.task, run.task} <= {*WRITING}):
        reporter.error(
            "E436",
            (*path, "spec"),
            f"{shown} trains a model for {other.task}, and this run is {run.task}",
            f"name a spec whose task is {run.task}",
            because=[("task",)],
        )
        return False
    if TASKS[run.task].has_labels and other.data.labels != run.data.labels:
        theirs, ours = (listed(data.labels or ("?",), "and") for data in (other.data, run.data))
        reporter.error(
            "E436",
            (*path, "spec"),
            f"{shown} trains a model that tells {theirs} apart, in this order; the labels here are {ours}",
            f"write `labels: [{', '.join(other.data.labels or ())}]` into `data`",
            because=[("data", "labels")],
        )
        return False
    for name in ("source_language", "target_language", "prefix"):
        theirs, ours = getattr(other.data, name), getattr(run.data, name)
        if theirs != ours and not trained_on:
            reporter.warning(
                "W431",
                (*path, "spec"),
                f"{shown} trains its model with data.{name} {quoted(theirs)}, and here it is {quoted(ours)}",
                f"write `{name}: {theirs}` into `data`" if theirs else f"leave {name} out of `data`",
                because=[("data", name)],
            )
    return True
