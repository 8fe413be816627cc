"""The stages of a run, in order: what each does, what it needs, its key and how it runs here."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, count
from typing import Any

from ..estimates.candidates import common_vocabulary
from ..estimates.placement import placement
from ..estimates.workload import row_lengths, student_teaching
from ..extensions.extension_record import with_extensions
from ..extensions.families import FAMILIES
from ..extensions.stage_kinds import stage_kinds
from ..resolve.engines import TRANSFORMERS, Engine, choose_engine, engine_settings
from ..resolve.objective import objective_settings
from ..resolve.reference import MadeModel, ResolvedModel
from ..resolve.run import ResolvedRun
from ..resolve.scoring import label_metrics, scoring_settings
from ..resolve.site import Site
from ..resolve.student import ResolvedStudent
from ..spec.experiment import ORIGINAL, Experiment, Labeller, Training
from .keys import stage_key
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


class Stages(list[dict[str, Any]]):
    """The stages so far, in order; each gets its key from those it needs. Stages of other runs, which have the
    run's name before their ids (`small/train`), are there once beside equal ones of this run."""

    def __init__(self) -> None:
        super().__init__()
        self._renamed: dict[str, str] = {}  # ids of other runs' stages that turned out to be stages of this one

    def add(
        self,
        id: str,
        kind: str,
        settings: Mapping[str, Any],
        needs: Mapping[str, str] | None = None,
        **execution: Any,
    ) -> str:
        keys = {stage["id"]: stage["key"] for stage in self}
        needs = {role: self._renamed.get(needed, needed) for role, needed in (needs or {}).items()}
        settings = with_extensions(kind, settings, [stage for stage in self if stage["id"] in needs.values()])
        key = stage_key(kind, settings, {role: keys[needed] for role, needed in needs.items()})
        if (same := next((stage for stage in self if stage["key"] == key and "/" in stage["id"]), None)) is not None:
            self._rename(same, id)
            return id
        self.append(
            {
                "id": id,
                "kind": kind,
                "key": key,
                "needs": needs,
                "settings": dict(settings),
                "execution": {
                    "locations": {},
                    "micro_batch_tokens": None,
                    "save_minutes": None,
                    "deepspeed": None,
                    **execution,
                },
            }
        )
        return id

    def writing(
        self, settings: dict[str, Any], needs: dict[str, str], engine: Engine
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Settings and needs of a stage in which an engine writes texts by the model that it needs: with the
        engine, and the model in the engine's form, which is made once for each model and compute type."""
        if settings["generation"] is None or engine.compute_type is None:
            return settings, needs
        converted = self._converted(needs["model"], engine.compute_type)
        generation = engine_settings(settings["generation"], engine)
        return {**settings, "generation": generation}, {**needs, "converted": converted}

    def _converted(self, model: str, compute_type: str) -> str:
        """The stage that puts a model into the fast engine's form; added where it is not there yet."""
        model = self._renamed.get(model, model)
        for stage in self:
            of_it = stage["kind"] == "convert" and stage["needs"] == {"model": model}
            if of_it and stage["settings"]["compute_type"] == compute_type:
                return str(stage["id"])
        name = f"convert-{model.replace('/', '-').replace('.', '-')}"
        name += "" if compute_type == "fp32" else f"-{compute_type}"
        taken = {stage["id"] for stage in self}
        id = next(id for id in chain([name], (f"{name}-{n}" for n in count(2))) if id not in taken)
        return self.add(id, "convert", convert_settings(compute_type), {"model": model})

    def include(self, made: MadeModel) -> dict[str, str]:
        """Add the stages that make another run's model; what is here already, by its key, is not added again.
        Returns what each is called here."""
        here = {stage["key"]: stage["id"] for stage in self}
        ids: dict[str, str] = {}
        for stage in made.stages:
            id = ids[stage["id"]] = here.setdefault(stage["key"], f"{made.owner}/{stage['id']}")
            if not any(other["id"] == id for other in self):
                self.append(_with_ids(stage, ids))
        return ids

    def _rename(self, stage: dict[str, Any], id: str) -> None:
        """A stage of another run is one of this run, too: it is called as this run does."""
        old = stage["id"]
        self[:] = [_with_ids(other, {old: id}) for other in self]
        self._renamed = {**{one: id if now == old else now for one, now in self._renamed.items()}, old: id}


def _with_ids(stage: Mapping[str, Any], ids: Mapping[str, str]) -> dict[str, Any]:
    """A stage with other ids, its own and those of the stages that it reads."""

    def renamed(roles: Mapping[str, str]) -> dict[str, str]:
        return {role: ids.get(id, id) for role, id in roles.items()}

    execution = stage["execution"]
    if "signals" in execution:
        execution = {**execution, "signals": renamed(execution["signals"])}
    return {**stage, "id": ids.get(stage["id"], stage["id"]), "needs": renamed(stage["needs"]), "execution": execution}


def made_model(owner: str, stages: Stages, model: str) -> MadeModel:
    """What it takes to make the model of a run: the stage `model` of its `stages`, and all that this one reads,
    directly or not. Its tokenizer is the one that the run's rows are made with."""
    tokenizer = next(stage["needs"]["tokenizer"] for stage in stages if stage["id"] == "data")
    wanted = {model, tokenizer}
    for stage in reversed(stages):
        if stage["id"] in wanted:
            wanted |= {*stage["needs"].values(), *stage["execution"].get("signals", {}).values()}
    return MadeModel(owner, [stage for stage in stages if stage["id"] in wanted], model, tokenizer)


def build_stages(experiment: Experiment, found: ResolvedRun, site: Site) -> Stages:
    """The stages of a run. A stage that another run has with the same settings and needs has the same key."""
    stages = Stages()
    tokenizer, best = _teacher_stages(stages, experiment, found)
    rows = stages.add("data", "data", found.data.settings, {"tokenizer": tokenizer}, locations=found.data.locations)
    _baseline_stages(stages, experiment, found, rows)
    teacher, student = found.teacher, found.student
    task, evaluation, own = experiment.task, experiment.evaluation, experiment.teacher.train
    length = default_max_length(experiment, teacher)  # the student's checkpoint says what its teacher's does

    def add_evaluation(id: str, model: str, settings: dict[str, Any], engine: Engine) -> None:
        tokens = placement(None, teacher.architecture, site)["micro_batch_tokens"]
        settings |= scoring_settings(experiment, settings["metrics"], line_break=teacher.line_break)
        settings, needs = stages.writing(settings, {"model": model, "data": rows}, engine)
        stages.add(id, "evaluate", settings, needs, micro_batch_tokens=tokens)

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
            **placement(trained, teacher.architecture, site, lengths=row_lengths(experiment)),
        )
    needs = {"data": _target_stages(stages, experiment, found, rows, tokenizer, best, site)}
    retention = experiment.training.stopping.retention
    if retention:
        validation = experiment.training.validation
        needs["reference"] = "evaluate-teacher-validation"
        add_evaluation(
            needs["reference"],
            best,
            evaluate_settings(
                task, "validation", validation.limit, sorted(retention), validation.generation, found.precision, length
            ),
            TRANSFORMERS,  # as the student's validations, which it is held against
        )
    needs["model"] = _student_stages(stages, student, best)
    if experiment.training.loss.needs_teacher:
        needs["teacher"] = best
    trained_student = _student_training(stages, experiment, experiment.training, found, needs, best, site)
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
            measured, needs = stages.writing(measured, {"model": model, "data": rows}, engine)
            stages.add(f"benchmark-{who}", "benchmark", measured, needs)
    roles = {"student": trained_student, "teacher": best, "data": rows}
    for kind, settings in experiment.stages.items():
        if kind not in stage_kinds():
            continue  # its package cannot be used, which was reported
        needs = {role: roles[role] for role in stage_kinds()[kind]["needs"]}
        tokens = placement(None, teacher.architecture, site)["micro_batch_tokens"]
        stages.add(kind, kind, {"own": settings}, needs, micro_batch_tokens=tokens)
    return stages


def default_max_length(experiment: Experiment, model: ResolvedModel) -> int | None:
    """How long a text of this model, or of a student of it, may be where the spec does not say it: None, as long as
    its checkpoint says; of one that does not, as long as a target. (transformers' own default would be 20.)"""
    return None if model.says_length else experiment.data.max_target_tokens


def _teacher_stages(stages: Stages, experiment: Experiment, found: ResolvedRun) -> tuple[str, str]:
    """(the stage with the tokenizer, the stage with the teacher)."""
    if (made := found.teacher.made) is not None:
        ids = stages.include(made)
        return ids[made.tokenizer], ids[made.model]
    needs: dict[str, str] = {}
    trained = experiment.teacher.tokenizer
    if trained is not None:
        settings = {
            "algorithm": trained.kind,
            "vocab_size": trained.vocab_size,
            "family": found.teacher.architecture.layout,  # sequences are laid out so
            "train": found.data.settings["train"],
            "columns": found.data.settings["columns"],
        }
        needs = {"tokenizer": stages.add("tokenizer", "tokenizer", settings, locations=found.data.train_locations)}
    teacher = stages.add("teacher", "teacher", found.teacher.settings, needs, locations=dict(found.teacher.locations))
    return needs.get("tokenizer", teacher), teacher


def _baseline_stages(stages: Stages, experiment: Experiment, found: ResolvedRun, rows: str) -> None:
    """Systems of others need the rows alone: a file of theirs that does not go with these ends a run in seconds."""
    evaluation = experiment.evaluation
    for name, files in found.baselines.items():
        fingerprints = {test_set: fingerprint for test_set, (fingerprint, _) in files.items()}
        settings = baseline_settings(
            experiment.task, experiment.baselines[name], fingerprints, evaluation.limit, evaluation.metrics
        )
        settings |= scoring_settings(experiment, settings["metrics"], line_break=found.teacher.line_break)
        stages.add(f"baseline-{name}", "baseline", settings, {"data": rows}, locations=dict(files.values()))


def _model_stage(stages: Stages, id: str, model: ResolvedModel) -> str:
    """The stage with a model other than the teacher: one of its own, or of the run that makes it."""
    if model.made is not None:
        return stages.include(model.made)[model.made.model]
    return stages.add(id, "teacher", model.settings, locations=dict(model.locations))


def _target_stages(
    stages: Stages, experiment: Experiment, found: ResolvedRun, rows: str, tokenizer: str, teacher: str, site: Site
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
            stages.add(id, "pseudo-labels", settings, locations={fingerprint: place, **found.data.train_locations})
        else:
            model = teacher
            if resolved.model is not None:
                model = _model_stage(stages, f"labeller-{name}", resolved.model)
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
            written, written_needs = stages.writing(written, {"model": model}, engine)
            stages.add(
                f"written-{name}" if rules else id,
                "pseudo-labels",
                written,
                written_needs,
                locations=found.data.train_locations,
            )
            if rules:  # a stage of its own: another rule does not write the labels anew
                held = rule_settings(settings, rules)
                held |= _label_scoring(experiment, held, found.teacher, writer)
                stages.add(
                    id, "pseudo-labels", held, {"labels": f"written-{name}"}, locations=found.data.train_locations
                )
        needs[f"labels.{name}"] = id
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


def _student_stages(stages: Stages, student: ResolvedStudent, teacher: str) -> str:
    needs = {"teacher": teacher}
    for stack, origin in student.origins.items():
        needs[f"{stack}_origin"] = _model_stage(stages, f"{stack}-origin", origin)
    return stages.add("student", "student", student.settings, needs)


def _student_training(
    stages: Stages,
    experiment: Experiment,
    training: Training,
    found: ResolvedRun,
    needs: dict[str, str],
    teacher: str,
    site: Site,
) -> str:
    student = found.student
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
            common_vocabulary(found.teacher.architecture, student.architecture),
        ),
        warmup_of(training, found.data.settings, found.data.locations, shares),
        default_max_length(experiment, found.teacher),
        found.teacher.line_break,
    )
    teaching = None
    if "teacher" in needs:
        teaching = student_teaching(settings["objective"], found.teacher.architecture, student)
    run = placement(settings, student.architecture, site, lengths=row_lengths(experiment), teaching=teaching)
    if training.loss.logits is not None and training.loss.logits.candidates is not None:
        needs["candidates"] = stages.add(
            "candidates",
            "signals",
            candidate_settings(settings),
            {"model": teacher, "data": needs["data"]},
            micro_batch_tokens=run["micro_batch_tokens"],
        )
    return stages.add("train", "train", settings, needs, **run)
