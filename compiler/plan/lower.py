"""A typed run -> its plan: every model resolved, every layer chosen, every stage with its key.

In: `Experiment`, the tree that it was bound from, the site. Out: a `Plan`. What a device decides and results depend on
(the precision) is decided here and enters the keys; where and how a stage runs goes into `execution`, which does not.
"""

from __future__ import annotations

from functools import partial

from ..checks.check import DATA, MODELS, PLAN, SITE, TEACHER, WRITERS, hold
from ..checks.context import DataContext, ModelContext, NamedContext, PlanContext, SiteContext, WriterContext
from ..diagnostics.diagnostic import Trail
from ..resolve.fingerprint import Fingerprints
from ..resolve.reference import ResolvedModel
from ..resolve.run import (
    ResolvedRun,
    resolve_baselines,
    resolve_data,
    resolve_labels,
    resolve_teacher,
    training_precision,
)
from ..resolve.site import Site
from ..resolve.student import resolve_student
from ..spec.compiled import Run
from ..spec.phases import phases_of
from .plan import Plan, Stages
from .plan_sizes import data_size, rows_of, trained_size


class Lowering:
    """Lowers the runs of a spec on a site.

    `fingerprints` False: everything is judged, files are looked for and not hashed, the network is left
    alone, and there are no plans.
    """

    def __init__(self, site: Site, *, fingerprints: bool = True) -> None:
        self.site = site
        self.memory = Fingerprints(site.workspace / "fingerprints.json") if fingerprints else None
        self._named: dict[int, tuple[Run, ResolvedRun | None, Stages | None]] = {}

    def close(self) -> None:
        """Keep what was hashed for the next time."""
        if self.memory is not None:
            self.memory.save()

    def lower(self, run: Run) -> Plan | None:
        """The plan of a run, or None: an error was reported, or there are no `fingerprints`."""
        found = self._resolved(run)
        if found is None or self.memory is None:
            return None
        plan = self._plan(run, found)
        data = partial(data_size, plan, rows_of(plan, plan.train))
        for phase in phases_of(run.experiment, run.tree, run.reporter):
            trainings = {"teacher-train": plan.stages.get("teacher-train"), "train": plan.stages[phase.stage]}
            counted = {
                id: (stage.settings, partial(trained_size, plan, stage))
                for id, stage in trainings.items()
                if stage is not None
            }
            hold(PLAN, PlanContext(phase.run, phase.reporter, counted, data))
        return plan

    def _resolved(self, run: Run) -> ResolvedRun | None:
        """Everything that a run needs, found and judged; None: an error was reported."""
        site, experiment, reporter = self.site, run.experiment, run.reporter
        failed_before = reporter.failed
        made = self._made(run)
        unknown = any(map(_is_of_teacher, run.unsure))
        teacher = None if unknown else resolve_teacher(experiment, reporter, site, self.memory, made)
        data = resolve_data(experiment, teacher, reporter, site, self.memory)
        labels, writers = resolve_labels(experiment, teacher, reporter, site, self.memory, made)
        baselines = resolve_baselines(experiment, reporter, self.memory)
        phases = phases_of(experiment, run.tree, reporter)
        for phase in phases:
            hold(SITE, SiteContext(phase.run, phase.reporter, site))
        hold(WRITERS, WriterContext(experiment, reporter, writers))
        if self.memory is None:  # else the plan is looked at
            for phase in phases:
                hold(DATA, DataContext(phase.run, phase.reporter, data.settings))
        if teacher is None:
            return None
        student = resolve_student(experiment, teacher.architecture, reporter, site, self.memory, made)
        own = experiment.teacher.train
        precision = training_precision(experiment.training, site)
        teacher_precision = "fp32" if own is None else training_precision(own, site)
        models = [
            ModelContext(phase.run, phase.reporter, site, teacher, student, labels or {}, precision, teacher_precision)
            for phase in phases
        ]
        for model in models:
            hold(TEACHER, model)
        if run.unsure:
            return None  # of a student with stand-ins, the parts that are known were judged, and no more can be
        for model in models:
            hold(MODELS, model)
        if student is None or labels is None or (reporter.failed and not failed_before):
            return None
        return ResolvedRun(data, teacher, student, labels, precision, teacher_precision, baselines)

    def _made(self, run: Run) -> dict[Trail, ResolvedModel]:
        """The models that runs of other specs make, by where they are named. Each of those runs is looked at once."""
        models: dict[Trail, ResolvedModel] = {}
        if not run.named:
            return models
        from ..checks.named_models import check_work
        from .made_models import owners, resolve_made

        for owner, path, named in owners(run):
            other = named.run
            assert other is not None
            if id(other) not in self._named:
                found = self._resolved(other)
                stages = None
                if found is not None and self.memory is not None:
                    stages = self._stages(other, found)
                self._named[id(other)] = other, found, stages
            _, found, _ = self._named[id(other)]
            if check_work(NamedContext(run.experiment, run.reporter, path, named)) and found is not None:
                models[path] = resolve_made(named, owner, found)
        return models

    def _plan(self, run: Run, found: ResolvedRun) -> Plan:
        from .made_models import named_runs

        stages = self._stages(run, found)
        return Plan(run, found, self.site, stages, dict(named_runs(run, stages)))

    def _stages(self, run: Run, found: ResolvedRun) -> Stages:
        from .made_models import owners
        from .stages import build_stages

        made = {}
        for owner, _, named in owners(run):
            assert named.run is not None
            _, _, stages = self._named[id(named.run)]
            if stages is not None:
                made[owner] = stages
        return build_stages(run.experiment, found, self.site, made)


def _is_of_teacher(path: Trail) -> bool:
    """Is it about which model the teacher is? What is wrong with how it is trained changes nothing of its shape."""
    return not path or (path[0] == "teacher" and (len(path) == 1 or path[1] in NAMES_A_TEACHER))


NAMES_A_TEACHER = (
    "hub", "revision", "path", "spec", "variant", "model", "mlflow", "architecture", "tokenizer",
)  # fmt: skip
