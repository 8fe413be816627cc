"""The stages of a run, in order: what each does, what it needs, its key and how it runs here."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, count
from typing import Any

from ..estimates.candidates import common_vocabulary
from ..estimates.placement import Execution, generation_tokens, training_placement
from ..estimates.workload import Teaching, row_lengths, student_teaching
from ..extensions.extension_record import with_extensions
from ..extensions.families import FAMILIES
from ..extensions.stage_kinds import stage_kinds
from ..resolve.architecture import Architecture
from ..resolve.engines import TRANSFORMERS, Engine, choose_engine, engine_settings
from ..resolve.objective import objective_settings
from ..resolve.reference import MadeModel, ResolvedModel
from ..resolve.run import ResolvedRun
from ..resolve.scoring import label_metrics, scoring_settings
from ..resolve.site import Site
from ..resolve.student import ResolvedStudent
from ..spec.experiment import ORIGINAL, Experiment, Labeller, Training
from ..spec.phases import phase_stage
from ..tasks.task import TASKS
from .keys import canonical, stage_key
from .plan import Stage, Stages
from .stage_settings import (
    baseline_settings,
    benchmark_settings,
    candidate_settings,
    convert_settings,
    evaluate_settings,
    file_label_settings,
    label_settings,
    rule_settings,
    train_settings,
    without_rules,
)
from .warmup import warmup_of


class StageBuilder:
    """The stages of a run as they are added, by key. What they are called is settled at the end: a stage of another
    run, which has the run's name before its id (`small/train`), is called as this run does where it has an equal one.
    """

    def __init__(self) -> None:
        self._stages: dict[str, Stage] = {}
        self._names: list[tuple[str, str]] = []  # (id, key), in order

    def add(
        self,
        id: str,
        kind: str,
        settings: Mapping[str, Any],
        needs: Mapping[str, str] | None = None,
        execution: Execution | None = None,
        *,
        model: Architecture | None = None,
        teaching: Teaching | None = None,
    ) -> str:
        """Returns the key of the stage. `needs`: role -> key."""
        needs = needs or {}
        settings = with_extensions(kind, settings, [self._stages[key].settings for key in needs.values()])
        key = stage_key(kind, settings, needs)
        if key not in self._stages:
            self._stages[key] = Stage(kind, key, dict(settings), needs, execution or Execution(), model, teaching)
        self._names.append((id, key))
        return key

    def include(self, owner: str, stages: Stages, *wanted: str) -> None:
        """Add the stages of another run that make what it calls `wanted`, those that they need among them. What is
        here already is not added again."""
        keys = {stages[id].key for id in wanted}
        for stage in reversed(list(stages.values())):
            if stage.key in keys:
                keys |= {*stage.needs.values()}
        for id, stage in stages.items():
            if stage.key in keys and stage.key not in self._stages:
                self._stages[stage.key] = stage
                self._names.append((f"{owner}/{id}", stage.key))

    def answering(
        self, settings: dict[str, Any], needs: dict[str, str], engine: Engine
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Settings and needs of a stage in which an engine answers by the model that it needs: with the engine, and
        the model in the engine's form, which is made once for each model and compute type."""
        if engine.compute_type is None:
            return settings, needs
        if engine.name == "onnx":
            served = {"engine": engine.name, "compute_type": engine.compute_type}
            of_rows = {"model": needs["model"], "data": needs["data"]}
            return {**settings, "served": served}, {
                **needs, "converted": self._converted(of_rows, engine, settings["task"])
            }  # fmt: skip
        if settings["generation"] is None:
            return settings, needs
        converted = self._converted({"model": needs["model"]}, engine, settings["task"])
        generation = engine_settings(settings["generation"], engine)
        return {**settings, "generation": generation}, {**needs, "converted": converted}

    def _converted(self, needs: dict[str, str], engine: Engine, task: str) -> str:
        """The stage that puts a model into an engine's form; added where it is not there yet."""
        settings = convert_settings(engine, task)
        for stage in self._stages.values():
            of_it = stage.kind == "convert" and stage.needs == needs
            if of_it and settings.items() <= stage.settings.items():
                return stage.key
        stages = self.finished()
        name = f"convert-{stages.called(needs['model']).replace('/', '-').replace('.', '-')}"
        name += "" if engine.compute_type == "fp32" else f"-{engine.compute_type}"
        id = next(id for id in chain([name], (f"{name}-{n}" for n in count(2))) if id not in stages)
        return self.add(id, "convert", settings, needs)

    def finished(self) -> Stages:
        """The stages, with their ids."""
        own: dict[str, str] = {}
        for id, key in self._names:
            if "/" not in id:
                own.setdefault(key, id)
        found: dict[str, Stage] = {}
        for id, key in self._names:
            found.setdefault(own.get(key, id) if "/" in id else id, self._stages[key])
        return Stages(found)


def build_stages(experiment: Experiment, found: ResolvedRun, site: Site, made: Mapping[str, Stages]) -> Stages:
    """The stages of a run. A stage that another run has with the same settings and needs has the same key. `made`: the
    stages of the runs that are named for models, by what those are called here."""
    stages = StageBuilder()
    tokenizer, best = _teacher_stages(stages, experiment, found, made)
    of_data = Execution(locations=found.data.locations)
    rows = stages.add("data", "data", found.data.settings, {"tokenizer": tokenizer}, of_data)
    _baseline_stages(stages, experiment, found, rows)
    teacher, student = found.teacher, found.student
    task, evaluation, own = experiment.task, experiment.evaluation, experiment.teacher.train
    length = default_max_length(experiment, teacher)  # the student's checkpoint says what its teacher's does

    generating = Execution(micro_batch_tokens=generation_tokens(teacher.architecture, site))

    def add_evaluation(id: str, model: str, settings: dict[str, Any], engine: Engine) -> str:
        settings |= scoring_settings(experiment, settings["metrics"], line_break=teacher.line_break)
        settings, needs = stages.answering(settings, {"model": model, "data": rows}, engine)
        return stages.add(id, "evaluate", settings, needs, generating)

    if own is not None:
        trained = train_settings(
            experiment,
            own,
            experiment.teacher.seed,
            found.teacher_precision,
            (),
            teacher.architecture.trainable(()),
            objective_settings(own.loss, None),
            warmup_of(own, found.data.settings, found.data.locations),
            length,
            teacher.line_break,
        )
        best = stages.add(
            "teacher-train",
            "train",
            trained,
            {"model": best, "data": rows},
            training_placement(trained, teacher.architecture, site, lengths=row_lengths(experiment)),
            model=teacher.architecture,
        )
    needs = {"data": _target_stages(stages, experiment, found, rows, tokenizer, best, site, made)}
    trained_student = ""
    references: dict[str, str] = {}  # settings -> key: phases that are held against the same scores share them
    for i, training in enumerate(experiment.phases):
        id = phase_stage(i, len(experiment.phases))
        number = id.removeprefix("train")  # "-1" of an earlier phase, nothing of the last
        own_needs = dict(needs)
        retention, validation = training.stopping.retention, training.validation
        if retention:
            scored = evaluate_settings(
                task, "validation", validation.limit, sorted(retention), validation.generation, found.precision, length
            )
            if (asked := canonical(scored)) not in references:
                # TRANSFORMERS: as the student's validations, which it is held against
                references[asked] = add_evaluation(f"evaluate-teacher-validation{number}", best, scored, TRANSFORMERS)
            own_needs["reference"] = references[asked]
        own_needs["model"] = _student_stages(stages, student, best, made) if not i else trained_student
        if training.needs_teacher:
            own_needs["teacher"] = best
        trained_student = _student_training(stages, id, experiment, training, found, own_needs, best, site)
    families = {"teacher": teacher.architecture.family, "student": student.architecture.family}
    candidates = [
        (who, model, generation, choose_engine(generation, families[who], found.precision, site))
        for who, model, generation in (
            ("teacher", best, evaluation.of_teacher(experiment.teacher.architecture is not None)),
            ("student", trained_student, evaluation.generation),
        )
    ]
    candidates += [
        (f"student-{export.compute_type}", trained_student, evaluation.generation,
         Engine(export.engine, export.compute_type, True))
        for export in evaluation.exports
    ]  # fmt: skip
    for who, model, generation, engine in candidates:
        add_evaluation(
            f"evaluate-{who}",
            model,
            evaluate_settings(task, "test", evaluation.limit, evaluation.metrics, generation, found.precision, length),
            engine,
        )
    if evaluation.speed is not None:
        for who, model, generation, engine in candidates:
            measured = benchmark_settings(task, evaluation.speed, generation, found.precision, site.device_name, length)
            measured, needs = stages.answering(measured, {"model": model, "data": rows}, engine)
            stages.add(f"benchmark-{who}", "benchmark", measured, needs)
    roles = {"student": trained_student, "teacher": best, "data": rows}
    for kind, settings in experiment.stages.items():
        if kind not in stage_kinds():
            continue  # its package cannot be used, which was reported
        needs = {role: roles[role] for role in stage_kinds()[kind]["needs"]}
        stages.add(kind, kind, {"own": settings}, needs, generating)
    return stages.finished()


def default_max_length(experiment: Experiment, model: ResolvedModel) -> int | None:
    """How long a text of this model, or of a student of it, may be where the spec does not say it: None, as long as
    its checkpoint says; of one that does not, as long as a target. (transformers' own default would be 20.)"""
    return None if model.says_length else experiment.data.max_target_tokens


def _teacher_stages(
    stages: StageBuilder, experiment: Experiment, found: ResolvedRun, made: Mapping[str, Stages]
) -> tuple[str, str]:
    """(the stage with the tokenizer, the stage with the teacher)."""
    if found.teacher.made is not None:
        other = made[found.teacher.made.owner]
        return other["data"].needs["tokenizer"], _made_model(stages, found.teacher.made, made)
    needs: dict[str, str] = {}
    trained = experiment.teacher.tokenizer
    if trained is not None:
        columns = found.data.settings["columns"]
        settings = {
            "algorithm": trained.kind,
            "vocab_size": trained.vocab_size,
            "family": found.teacher.architecture.layout,  # sequences are laid out so
            "train": found.data.settings["train"],
            "columns": columns if TASKS[experiment.task].writes_texts else {**columns, "target": ""},
        }
        execution = Execution(locations=found.data.train_locations)
        needs = {"tokenizer": stages.add("tokenizer", "tokenizer", settings, execution=execution)}
    teacher = _added_model(stages, "teacher", found.teacher, needs)
    return needs.get("tokenizer", teacher), teacher


def _made_model(stages: StageBuilder, model: MadeModel, made: Mapping[str, Stages]) -> str:
    """The stage with a model that another run makes, all that this run's rows need of it among the stages before. Its
    student is made of its teacher: the stage that it needs is the teacher as it was trained. Its tokenizer is the one
    that its rows are made with."""
    other = made[model.owner]
    key = other["train"].key if model.model == "student" else other["student"].needs["teacher"]
    stages.include(model.owner, other, other.called(key), other.called(other["data"].needs["tokenizer"]))
    return key


def _added_model(stages: StageBuilder, id: str, model: ResolvedModel, needs: Mapping[str, str] | None = None) -> str:
    execution = Execution(locations=dict(model.locations))
    return stages.add(id, "teacher", model.settings, needs, execution, model=model.architecture)


def _baseline_stages(stages: StageBuilder, experiment: Experiment, found: ResolvedRun, rows: str) -> None:
    """Systems of others need the rows alone: a file of theirs that does not go with these ends a run in seconds."""
    evaluation = experiment.evaluation
    for name, files in found.baselines.items():
        fingerprints = {test_set: fingerprint for test_set, (fingerprint, _) in files.items()}
        settings = baseline_settings(
            experiment.task, experiment.baselines[name], fingerprints, evaluation.limit, evaluation.metrics
        )
        settings |= scoring_settings(experiment, settings["metrics"], line_break=found.teacher.line_break)
        execution = Execution(locations=dict(files.values()))
        stages.add(f"baseline-{name}", "baseline", settings, {"data": rows}, execution)


def _model_stage(stages: StageBuilder, id: str, model: ResolvedModel, made: Mapping[str, Stages]) -> str:
    """The stage with a model other than the teacher: one of its own, or of the run that makes it."""
    return _added_model(stages, id, model) if model.made is None else _made_model(stages, model.made, made)


def _target_stages(
    stages: StageBuilder,
    experiment: Experiment,
    found: ResolvedRun,
    rows: str,
    tokenizer: str,
    teacher: str,
    site: Site,
    made: Mapping[str, Stages],
) -> str:
    """The stage with the rows that the student is trained on: the data's own, or a mix with labels."""
    shares = {name: share for name, share in experiment.target_shares.items() if share != 1}
    if experiment.targets == (ORIGINAL,) and not shares:
        return rows
    needs = {"data": rows, "tokenizer": tokenizer}
    for name in experiment.targets:
        if name == ORIGINAL or name not in found.labels:
            continue  # a name that is nobody's was reported
        labeller, resolved = experiment.pseudo_labels[name], found.labels[name]
        id = f"labels-{name}"
        if resolved.file is not None:
            fingerprint, place = resolved.file
            settings = file_label_settings(labeller, fingerprint, found.data.settings)
            settings |= _label_scoring(experiment, settings, found.teacher)
            execution = Execution(locations={fingerprint: place, **found.data.train_locations})
            key = stages.add(id, "pseudo-labels", settings, execution=execution)
        else:
            model = teacher
            if resolved.model is not None:
                model = _model_stage(stages, f"labeller-{name}", resolved.model, made)
            writer = resolved.model or found.teacher
            architecture = writer.architecture
            settings = label_settings(
                labeller,
                found.data.settings,
                _label_prefix(experiment, labeller, writer, found.teacher),
                found.precision if found.precision != "fp16" or FAMILIES[architecture.family].fp16_safe else "fp32",
                architecture.max_positions,
                default_max_length(experiment, writer),
            )
            written, rules = without_rules(settings)
            written |= _label_scoring(experiment, written, found.teacher, writer)
            engine = choose_engine(labeller.generation, architecture.family, settings["precision"], site)
            written, written_needs = stages.answering(written, {"model": model}, engine)
            execution = Execution(locations=found.data.train_locations)
            key = stages.add(f"written-{name}" if rules else id, "pseudo-labels", written, written_needs, execution)
            if rules:  # a stage of its own: another rule does not write the labels anew
                held = rule_settings(settings, rules)
                held |= _label_scoring(experiment, held, found.teacher, writer)
                key = stages.add(id, "pseudo-labels", held, {"labels": key}, execution)
        needs[f"labels.{name}"] = key
    mixed: dict[str, Any] = {
        "targets": list(experiment.targets),
        "max_target_tokens": experiment.data.max_target_tokens,
        **({"shares": shares} if shares else {}),
    }
    return stages.add("targets", "targets", mixed, needs)


def _label_scoring(experiment: Experiment, settings: Mapping[str, Any], *models: ResolvedModel) -> dict[str, Any]:
    """How labels are held against the original targets."""
    line_break = any(model.line_break for model in models)
    return scoring_settings(experiment, label_metrics(experiment.task, settings), line_break=line_break)


def _label_prefix(experiment: Experiment, labeller: Labeller, writer: ResolvedModel, teacher: ResolvedModel) -> str:
    """What a labeller's sources begin with: the language, where it has a token for it, and what it was trained with. To
    a model of another family than the teacher's the data's own prefix means nothing."""
    own = labeller.prefix
    if own is None:
        own = experiment.data.prefix if writer.architecture.family == teacher.architecture.family else ""
    return writer.languages.prefix(experiment.data.target_language) + own


def _student_stages(
    stages: StageBuilder, student: ResolvedStudent, teacher: str, made: Mapping[str, Stages]
) -> str:
    needs = {"teacher": teacher}
    for part, origin in student.origins.items():
        needs[f"{part}_origin"] = _model_stage(stages, f"{part}-origin", origin, made)
    return stages.add("student", "student", student.settings, needs, model=student.architecture)


def _student_training(
    stages: StageBuilder,
    id: str,
    experiment: Experiment,
    training: Training,
    found: ResolvedRun,
    needs: dict[str, str],
    teacher: str,
    site: Site,
) -> str:
    student, shape = found.student, found.teacher.architecture
    shares = [experiment.target_shares.get(name, 1.0) for name in experiment.targets]
    settings = train_settings(
        experiment,
        training,
        experiment.seed,
        found.precision,
        student.freeze,
        student.architecture.trainable(student.freeze),
        objective_settings(
            training.loss,
            {str(stack): layers for stack, layers in student.phi.items()},
            common_vocabulary(shape, student.architecture),
        ),
        warmup_of(training, found.data.settings, found.data.locations, shares),
        default_max_length(experiment, found.teacher),
        found.teacher.line_break,
    )
    teaching = None
    if "teacher" in needs:
        teaching = student_teaching(settings["objective"], shape, student)
    run = training_placement(settings, student.architecture, site, lengths=row_lengths(experiment), teaching=teaching)
    if training.loss.logits is not None and training.loss.logits.candidates is not None:
        needs["candidates"] = stages.add(
            f"candidates{id.removeprefix('train')}",
            "signals",
            candidate_settings(settings),
            {"model": teacher, "data": needs["data"]},
            Execution(micro_batch_tokens=run.micro_batch_tokens),
        )
    return stages.add(id, "train", settings, needs, run, model=student.architecture, teaching=teaching)
