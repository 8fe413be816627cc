"""What a rule looks at: one context a kind of rule, by what has to be known first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..diagnostics.diagnostic import Reporter, Trail
from ..resolve.data_sizes import DataSize
from ..resolve.reference import ResolvedModel
from ..resolve.run import ResolvedLabels
from ..resolve.site import Site
from ..resolve.student import ResolvedStudent
from ..spec.compiled import NamedRun
from ..spec.experiment import Experiment


class SpecContext(NamedTuple):
    """A run as it is written. `tree`: its resolved tree."""

    run: Experiment
    tree: Mapping[str, Any]
    reporter: Reporter


class SiteContext(NamedTuple):
    """A run and where it is to run."""

    run: Experiment
    reporter: Reporter
    site: Site


class NamedContext(NamedTuple):
    """A run of another spec that a run names for a model, and where it does."""

    run: Experiment
    reporter: Reporter
    path: Trail
    named: NamedRun


class DataContext(NamedTuple):
    """A run and the settings of its data stage."""

    run: Experiment
    reporter: Reporter
    settings: Mapping[str, Any]


class WriterContext(NamedTuple):
    """A run and the models that write its labels, by the name of the labeller."""

    run: Experiment
    reporter: Reporter
    writers: Mapping[str, ResolvedModel]


class ModelContext(NamedTuple):
    """A run and its models. `student` None: it could not be made out; `labels`: who writes them, all or none.
    `precision` of the student's training, `teacher_precision` of the teacher's own."""

    run: Experiment
    reporter: Reporter
    site: Site
    teacher: ResolvedModel
    student: ResolvedStudent | None
    labels: Mapping[str, ResolvedLabels]
    precision: str
    teacher_precision: str


Count = Callable[[], DataSize | None]


class PlanContext(NamedTuple):
    """A run whose data can be counted. `trainings`: id -> the settings of the stage, and the rows that it sees; `data`:
    those that the student's targets are made of. None: not known."""

    run: Experiment
    reporter: Reporter
    trainings: Mapping[str, tuple[Mapping[str, Any], Count]]
    data: Count
