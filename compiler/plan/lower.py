"""A typed run -> its plan: every model resolved, every layer chosen, every stage with its key.

In: `Experiment`, the tree that it was bound from, the site. Out: the plan as plain JSON data, which
`schema/plan.schema.json` describes. What a device decides and results depend on (the precision) is decided
here and enters the keys; where and how a stage runs goes into `execution`, which does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..checks.check import DATA, MODELS, PLAN, SITE, TEACHER, WRITERS, hold
from ..checks.context import DataContext, ModelContext, NamedContext, PlanContext, SiteContext, WriterContext
from ..diagnostics.credentials import without_credentials
from ..diagnostics.diagnostic import Trail
from ..resolve.copies import STACKS
from ..resolve.fingerprint import Fingerprints
from ..resolve.reference import ResolvedModel
from ..resolve.run import (
    ResolvedRun,
    baseline_facts,
    resolve_baselines,
    resolve_data,
    resolve_labels,
    resolve_teacher,
    training_precision,
)
from ..resolve.site import Site
from ..resolve.student import resolve_student
from ..spec.compiled import Run

if TYPE_CHECKING:
    from .stages import Stages

FORMAT = 1


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

    def lower(self, run: Run) -> dict[str, Any] | None:
        """The plan of a run, or None: an error was reported, or there are no `fingerprints`."""
        found = self._resolved(run)
        return None if found is None or self.memory is None else self._plan(run, found)

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
        hold(SITE, SiteContext(experiment, reporter, site))
        hold(WRITERS, WriterContext(experiment, reporter, writers))
        if self.memory is None:  # else the plan is looked at
            hold(DATA, DataContext(experiment, reporter, data.settings))
        if teacher is None:
            return None
        student = resolve_student(experiment, teacher.architecture, reporter, site, self.memory, made)
        own = experiment.teacher.train
        precision = training_precision(experiment.training, site)
        teacher_precision = "fp32" if own is None else training_precision(own, site)
        models = ModelContext(
            experiment, reporter, site, teacher, student, labels or {}, precision, teacher_precision
        )
        hold(TEACHER, models)
        if run.unsure:
            return None  # of a student with stand-ins, the parts that are known were judged, and no more can be
        hold(MODELS, models)
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
        from .stages import build_stages

        for owner, path, named in owners(run):
            other = named.run
            assert other is not None
            if id(other) not in self._named:
                found = self._resolved(other)
                stages = None
                if found is not None and self.memory is not None:
                    stages = build_stages(other.experiment, found, self.site)
                self._named[id(other)] = other, found, stages
            _, found, stages = self._named[id(other)]
            if check_work(NamedContext(run.experiment, run.reporter, path, named)) and found is not None:
                models[path] = resolve_made(named, owner, found, stages)
        return models

    def _plan(self, run: Run, found: ResolvedRun) -> dict[str, Any]:
        from .keys import run_key
        from .made_models import named_places, named_record
        from .stages import build_stages

        experiment, reporter = run.experiment, run.reporter
        stages = build_stages(experiment, found, self.site)
        named = named_record(run, stages)
        teacher, student = found.teacher, found.student
        shape = student.architecture
        plan: dict[str, Any] = {
            "format": FORMAT,
            "name": experiment.name,
            "variant": experiment.variant,
            "task": experiment.task,
            "seed": experiment.seed,
            "key": run_key(stages),
            "teacher": _summary(
                teacher.name, teacher.architecture, () if experiment.teacher.train is not None else None
            ),
            "student": _summary(
                f"{shape.family} {shape.size}",
                shape,
                student.freeze,
            ),
            "copy": {stack: _layers(student.copies.get(stack)) for stack in STACKS},
            "phi": {stack: _layers(student.phi.get(stack)) for stack in STACKS},
            "metrics": experiment.evaluation.metrics,
            "expect": {who: asdict(expectation) for who, expectation in experiment.expect.items()},
            "stages": list(stages),
            "site": _site(self.site),
            "tracking": asdict(experiment.tracking),
            "spec": run.tree,
            "places": {**reporter.all_places(), **named_places(run, stages)},
            **({"named": named} if named else {}),
            **({"baselines": baseline_facts(experiment)} if experiment.baselines else {}),
        }
        result: dict[str, Any] = plain(plan)
        hold(PLAN, PlanContext(result, reporter))
        return result

def plain(value: Any) -> Any:
    """A copy of the values of a plan as JSON has them: mappings are dicts, tuples are lists."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def _is_of_teacher(path: Trail) -> bool:
    """Is it about which model the teacher is? What is wrong with how it is trained changes nothing of its shape."""
    return not path or (path[0] == "teacher" and (len(path) == 1 or path[1] in NAMES_A_TEACHER))


NAMES_A_TEACHER = (
    "hub", "revision", "path", "spec", "variant", "model", "mlflow", "architecture", "tokenizer",
)  # fmt: skip


def _summary(model: str, architecture: Any, freeze: tuple[str, ...] | None) -> dict[str, Any]:
    return {
        "model": model,
        "family": architecture.family,
        "parameters": architecture.parameters,
        "trainable_parameters": 0 if freeze is None else architecture.trainable(freeze),
        "encoder_layers": architecture.encoder_layers,
        "decoder_layers": architecture.decoder_layers,
    }


def _layers(found: Any) -> list[int] | None:
    return None if found is None else list(found.layers)


def _site(site: Site) -> dict[str, Any]:
    return {
        "workspace": str(site.workspace),
        "shared_stores": [str(store) for store in site.shared_stores],
        "offline": site.offline,
        "device": site.device,
        "nodes": site.nodes,
        "per_node": site.per_node,
        "hostfile": None if site.hostfile is None else str(site.hostfile),
        "tracking": {"uri": None if site.tracking_uri is None else without_credentials(site.tracking_uri)},
        **({} if site.scratch is None else {"scratch": str(site.scratch)}),
    }
