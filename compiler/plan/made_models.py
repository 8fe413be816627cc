"""A run of another spec that is named for a model -> the model, as the run that names it sees it."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics.diagnostic import Trail
from ..resolve.reference import MadeModel, ResolvedModel
from ..resolve.run import ResolvedRun
from ..spec.compiled import NamedRun, Run
from .plan import Stages


def resolve_made(named: NamedRun, owner: str, found: ResolvedRun) -> ResolvedModel:
    """The student of a run, or its teacher. `owner`: what the run is called among those that are named beside it."""
    assert named.run is not None
    run = named.run.experiment
    if named.model == "teacher":
        name, architecture = f"teacher of {run.name}", found.teacher.architecture
    else:
        name, architecture = run.name, found.student.architecture
    made = MadeModel(owner, named.model)
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


def named_runs(run: Run, stages: Stages, before: str = "") -> Iterator[tuple[str, Run]]:
    """The runs that are named, directly or not, of which a stage is there under their own name, by what stands before
    the ids of these."""
    told = set()
    for owner, _, named in owners(run):
        other, name = named.run, f"{before}{owner}"
        if other is None or name in told:
            continue
        told.add(name)
        ids = [id for id in stages if id.startswith(f"{name}/")]
        if any(id.rpartition("/")[0] == name for id in ids):
            yield name, other
        if ids:  # else all that it makes has other names already
            yield from named_runs(other, stages, f"{name}/")
