"""A typed run -> its plan: every model resolved, every layer chosen, every stage with its key.

In: `Experiment`, the tree that it was bound from, the site. Out: the plan as plain JSON data, which
`schema/plan.schema.json` describes. What a device decides and results depend on (the precision) is decided
here and enters the keys; where and how a stage runs goes into `execution`, which does not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from os.path import isfile
from pathlib import Path
from typing import Any

from ..checks.fit import check_memory
from ..checks.limits import (
    check_beams,
    check_described_end,
    check_encoder,
    check_known_end,
    check_label_lengths,
    check_lengths,
    check_offload,
    check_reach,
    check_retention,
    check_shares,
    check_stacks,
    choose_precision,
)
from ..checks.targets import STUDENT
from ..diagnostics.credentials import without_credentials
from ..diagnostics.diagnostic import Reporter, Trail
from ..diagnostics.regular_file import why_not
from ..estimates.candidates import check_candidates
from ..resolve.baselines import baseline_facts, resolve_baselines
from ..resolve.copies import STACKS
from ..resolve.data_sources import resolve_sources
from ..resolve.engines import check_engine
from ..resolve.fingerprint import Fingerprints, fingerprint_of
from ..resolve.heads import fit_head
from ..resolve.hub import is_offline
from ..resolve.languages import check_languages
from ..resolve.reference import ResolvedModel, resolve_reference, use_of
from ..resolve.scoring import check_scoring
from ..resolve.scratch import resolve_scratch
from ..resolve.site import Site
from ..resolve.student import ResolvedStudent, resolve_student
from ..spec.compiled import Run
from ..spec.experiment import ORIGINAL, Experiment, Generation, Labeller, ModelReference
from ..spec.paths import missing_hint, shown_location
from .keys import run_key
from .made_models import check_work, named_places, named_record, owners, resolve_made
from .stages import ResolvedData, ResolvedLabels, ResolvedRun, Stages, build_stages

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
        teacher = None if any(map(_is_of_teacher, run.unsure)) else self._teacher(experiment, reporter, made)
        data = self._data(experiment, teacher, reporter)
        check_scoring(experiment, reporter, offline=is_offline(site.offline))
        labels = self._labels(experiment, teacher, reporter, made)
        baselines = resolve_baselines(experiment, reporter, self.memory)
        check_offload(experiment, reporter, site)
        check_retention(experiment, reporter)
        if self.memory is None:  # else the plan is looked at
            check_described_end(experiment, data.settings, reporter)
        if teacher is None:
            return None
        shape = teacher.architecture
        others = {name: one.model.languages for name, one in (labels or {}).items() if one.model is not None}
        check_languages(experiment, shape.layout, teacher.languages, others, reporter)
        student = resolve_student(experiment, shape, reporter, site, self.memory, made)
        check_lengths(experiment, shape, reporter)
        check_beams(experiment, shape, reporter)
        check_stacks(experiment, shape, reporter)
        check_encoder(experiment, shape, reporter)
        precision = choose_precision(experiment.training, (), shape.family, reporter, site)
        own = experiment.teacher.train
        teacher_precision = "fp32"
        if own is not None:
            teacher_precision = choose_precision(own, ("teacher", "train"), shape.family, reporter, site)
        if run.unsure:
            return None  # of a student with stand-ins, the parts that are known were judged, and no more can be
        check_memory(experiment, shape, student, (precision, teacher_precision), reporter, site)
        self._check_engines(experiment, teacher, student, labels, precision, reporter)
        if student is not None:
            check_reach(experiment, student.phi, reporter)
            check_candidates(experiment, shape, student.architecture, precision, reporter)
        if student is None or labels is None or (reporter.failed and not failed_before):
            return None
        return ResolvedRun(data, teacher, student, labels, precision, teacher_precision, baselines)

    def _check_engines(
        self,
        experiment: Experiment,
        teacher: ResolvedModel,
        student: ResolvedStudent | None,
        labels: Mapping[str, ResolvedLabels] | None,
        precision: str,
        reporter: Reporter,
    ) -> None:
        """Every engine that is asked for by name can do what it is asked for."""
        evaluation = experiment.evaluation
        written: list[tuple[Trail, Generation, str]] = [
            (("evaluation", "teacher_generation"), evaluation.teacher_generation, teacher.architecture.family)
        ]
        if student is not None:
            family = student.architecture.family
            written.append((("evaluation", "generation"), evaluation.generation, family))
            for i, export in enumerate(evaluation.exports):
                served = replace(evaluation.generation, engine=export.engine, compute_type=export.compute_type)
                written.append((("evaluation", "exports", i), served, family))
        for name, resolved in (labels or {}).items():
            if resolved.file is None:
                family = (resolved.model or teacher).architecture.family
                labeller = experiment.pseudo_labels[name]
                written.append((("pseudo_labels", name, "generation"), labeller.generation, family))
        for path, generation, family in written:
            check_engine(generation, path, family, precision, reporter, self.site)

    def _made(self, run: Run) -> dict[Trail, ResolvedModel]:
        """The models that runs of other specs make, by where they are named. Each of those runs is looked at once."""
        models: dict[Trail, ResolvedModel] = {}
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
            if check_work(run.experiment, path, named, run.reporter) and found is not None:
                models[path] = resolve_made(named, owner, found, stages)
        return models

    def _plan(self, run: Run, found: ResolvedRun) -> dict[str, Any]:
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
        result: dict[str, Any] = json.loads(json.dumps(plan, allow_nan=False))  # tuples are lists from here on
        check_known_end(result, reporter)
        check_shares(result, reporter)
        return result

    def _teacher(
        self, experiment: Experiment, reporter: Reporter, made: Mapping[Trail, ResolvedModel]
    ) -> ResolvedModel | None:
        teacher, use = experiment.teacher, use_of(experiment)
        found = (
            resolve_reference(teacher.reference, ("teacher",), reporter, self.site, self.memory, use, made)
            if isinstance(teacher.reference, ModelReference)
            else resolve_scratch(teacher, reporter, use)
        )
        if found is not None:
            found = fit_head(experiment, found, reporter)
        return found

    def _labels(
        self,
        experiment: Experiment,
        teacher: ResolvedModel | None,
        reporter: Reporter,
        made: Mapping[Trail, ResolvedModel],
    ) -> dict[str, ResolvedLabels] | None:
        """Who writes the labels that are used, by name; None: one of them cannot be found."""
        found: dict[str, ResolvedLabels] = {}
        complete = True
        for name in experiment.targets:
            labeller = experiment.pseudo_labels.get(name)
            if name == ORIGINAL or labeller is None:
                continue
            path = ("pseudo_labels", name)
            if labeller.file is not None:
                file = self._label_file(labeller, (*path, "file"), reporter)
                complete &= file is not None
                found[name] = ResolvedLabels(None, file)
                continue
            model = None
            if labeller.by is not None and labeller.by.hub == STUDENT:
                complete = False  # the rules said so
            elif labeller.by is not None:
                model = resolve_reference(
                    labeller.by, (*path, "by"), reporter, self.site, self.memory, use_of(experiment), made
                )
                complete &= model is not None
            writer = teacher if labeller.by is None else model
            if writer is not None:
                check_label_lengths(labeller, path, writer.architecture, reporter)
            found[name] = ResolvedLabels(model, None)
        return found if complete else None

    def _label_file(self, labeller: Labeller, path: tuple[str, ...], reporter: Reporter) -> tuple[str, str] | None:
        assert labeller.file is not None
        file = Path(labeller.file)
        if not isfile(file):
            message = f"the file of labels {shown_location(file, path, reporter)} {why_not(file)}"
            reporter.error("E508", path, message, missing_hint(str(file), path, reporter))
            return None
        try:
            return fingerprint_of(file, self.memory), str(file)
        except OSError as error:
            message = f"cannot read {shown_location(file, path, reporter)}: {error.strerror}"
            reporter.error("E508", path, message, "check its permissions")
            return None

    def _data(self, experiment: Experiment, teacher: ResolvedModel | None, reporter: Reporter) -> ResolvedData:
        data, site, memory = experiment.data, self.site, self.memory
        train, train_files = resolve_sources(data.train, ("data", "train"), "train", reporter, site, memory)
        validation, files = resolve_sources(
            data.validation, ("data", "validation"), "validation", reporter, site, memory
        )
        locations = {**train_files, **files}
        test: dict[str, Any] = {}
        for name, sources in data.test.items():
            test[name], files = resolve_sources(sources, ("data", "test", name), "test", reporter, site, memory)
            locations |= files
        settings = {
            "task": experiment.task,
            "train": train,
            "validation": validation,
            "test": test,
            "columns": asdict(data.columns),
            "max_source_tokens": data.max_source_tokens,
            "max_target_tokens": data.max_target_tokens,
            "prefix": data.prefix if teacher is None else teacher.languages.prefix(data.target_language) + data.prefix,
            "source_language": data.source_language,
            "target_language": data.target_language,
            "labels": data.labels,
        }
        return ResolvedData(settings, locations, train_files)


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
