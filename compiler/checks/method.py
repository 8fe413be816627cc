"""Rules about ways to train."""

from __future__ import annotations

from ..diagnostics.diagnostic import Trail
from ..extensions.families import FAMILIES
from ..extensions.methods import method_needs_teacher
from ..extensions.terms import needs_of
from ..resolve.student import ResolvedStudent
from ..spec.ways import trainings
from .context import ModelContext, SpecContext
from .schedules import times_within


def check_method(spec: SpecContext) -> None:
    """A way to train has what it looks at (E597) and is of use (W597), and no term of the loss looks at layers
    that it takes out (E598)."""
    reporter = spec.reporter
    for path, part in trainings(spec.run):
        method = part.optimization.method
        if method is None:
            continue
        where: Trail = (*path, "training", "method", method.name)
        if path and method_needs_teacher(method.name):
            reporter.error(
                "E597",
                where,
                f"{method.name} looks at a teacher; the teacher itself has none",
                "write it into `training.method` of the student, or remove it",
                at="key",
            )
            continue
        if part.stopping.max_steps == 0:
            reporter.warning(
                "W597",
                where,
                f"{method.name} does nothing in a training without a step",
                "remove it, or `stopping.max_steps`",
                at="key",
                because=[(*path, "stopping", "max_steps")],
            )
            continue
        for setting, schedule in method.schedules.items():
            times_within(schedule, part.stopping, (*where, setting), reporter)
        paired = [name for name in part.loss.terms if "phi" in needs_of(name)]
        if paired:
            reporter.error(
                "E598",
                where,
                f"the term {paired[0]} compares single layers, and {method.name} has other ones run in their places",
                f"remove `loss.{paired[0]}`, or `training.method`",
                at="key",
                because=[(*path, "loss", paired[0])],
            )


def check_layers_replaced(models: ModelContext) -> None:
    """Reports E599: the layers of the models cannot take each other's places, or be passed over."""
    run, teacher, student = models.run, models.teacher.architecture, models.student
    for path, part in trainings(run):
        method = part.optimization.method
        if method is None or method.name not in ("layer_drop", "theseus"):
            continue
        where: Trail = (*path, "training", "method", method.name)
        if FAMILIES[teacher.family].positions == "relative":
            models.reporter.error(
                "E599",
                where,
                f"only the first layer of a {teacher.family} model knows positions: the others cannot do without it",
                "remove it",
                at="key",
                because=[("teacher",)],
            )
        elif method.name == "theseus" and not path and student is not None:
            _check_theseus(models, student, where)


def _check_theseus(models: ModelContext, found: ResolvedStudent, where: Trail) -> None:
    student, teacher, reporter = found.architecture, models.teacher.architecture, models.reporter
    if student.family != teacher.family:
        reporter.error(
            "E599",
            where,
            f"a {student.family} student has layers of another kind than its {teacher.family} teacher",
            "remove it, or `student.family`",
            at="key",
            because=[("student", "family")],
        )
    elif student.d_model != teacher.d_model:
        reporter.error(
            "E599",
            where,
            f"the student's layers read {student.d_model} numbers, the teacher's {teacher.d_model}",
            "remove it, or `student.d_model`",
            at="key",
            because=[("student", "d_model")],
        )
    elif not found.replaces(teacher):
        reporter.error(
            "E599",
            where,
            "no stack of the student that is trained has fewer layers than the teacher's: there is nothing to replace",
            "remove it, or write fewer layers, for example `student: {decoder_layers: 3}`",
            at="key",
            because=[("student",)],
        )
