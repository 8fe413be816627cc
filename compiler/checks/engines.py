"""Rules about the engines that write texts."""

from __future__ import annotations

from dataclasses import replace

from ..diagnostics.diagnostic import Reporter, Trail
from ..resolve.engines import ONNX_TYPES, lacking, own_way, wanted_engine
from ..resolve.site import Site
from ..spec.experiment import Export, Generation
from ..tasks.task import TASKS
from .context import ModelContext


def check_engines(models: ModelContext) -> None:
    """Every engine that is asked for by name can do what it is asked for."""
    run, teacher, student = models.run, models.teacher, models.student
    evaluation = run.evaluation
    written: list[tuple[Trail, Generation, str]] = [
        (("evaluation", "teacher_generation"), evaluation.teacher_generation, teacher.architecture.family)
    ]
    if student is not None:
        family = student.architecture.family
        written.append((("evaluation", "generation"), evaluation.generation, family))
        for i, export in enumerate(evaluation.exports):
            if not _check_export(export, i, run.task, models.reporter) or export.engine != "ctranslate2":
                continue
            served = replace(evaluation.generation, engine=export.engine, compute_type=export.compute_type)
            written.append((("evaluation", "exports", i), served, family))
    for name, resolved in models.labels.items():
        if resolved.file is None:
            family = (resolved.model or teacher).architecture.family
            labeller = run.pseudo_labels[name]
            written.append((("pseudo_labels", name, "generation"), labeller.generation, family))
    for path, generation, family in written:
        _check_engine(generation, path, family, models.precision, models.reporter, models.site)


def _check_export(export: Export, i: int, task: str, reporter: Reporter) -> bool:
    """The engine of a form serves models of the task (E571), in its type (E572)."""
    path: Trail = ("evaluation", "exports", i)
    served_by = TASKS[task].served_by
    if export.engine != served_by:
        written = reporter.written((*path, "engine"))
        reporter.error(
            "E571",
            (*path, "engine") if written else path,
            f"{export.engine} does not serve models of the task {task}" if written or served_by else
            f"models of the task {task} have no other form in which they are served",
            f"write `engine: {served_by}`" if served_by else "remove it",
            because=[("task",)],
        )  # fmt: skip
        return False
    if export.engine == "onnx" and export.compute_type not in ONNX_TYPES:
        reporter.error(
            "E572",
            (*path, "compute_type"),
            f"onnx does not support {export.compute_type}",
            "write `compute_type: fp32`, or `compute_type: int8`",
        )
        return False
    return True


def _check_engine(
    generation: Generation, path: Trail, family: str, precision: str, reporter: Reporter, site: Site
) -> None:
    """An engine that is asked for by name, or by a compute type, can do what it is asked for (E571, E572); where
    it does so in its own way, that is said (W571). Sampling has no beams (E573)."""
    sampling, compute_type = generation.sampling, generation.compute_type
    if sampling is not None and (generation.beams or 1) > 1:
        reporter.error(
            "E573",
            (*path, "sampling"),
            f"sampling and a beam search exclude each other, and beams is {generation.beams}",
            "write `beams: 1`, or remove sampling",
            because=[(*path, "beams")],
        )
    wanted = wanted_engine(generation, site)
    if compute_type is not None and wanted == "transformers":
        reporter.error(
            "E572",
            (*path, "compute_type"),
            f"transformers uses the run's precision, {precision}",
            "remove compute_type, or write `engine: ctranslate2`",
            because=[(*path, "engine")] if generation.engine == "transformers" else [],
        )
        return
    if wanted != "ctranslate2" and compute_type is None:
        return
    where: Trail = (*path, "engine") if generation.engine == "ctranslate2" else (*path, "compute_type")
    if generation.engine != "ctranslate2" and compute_type is None:
        where = path  # the site names the engine
    if (found := lacking(generation, family, compute_type or precision, site)) is not None:
        code = "E572" if found[0] == "compute_type" else "E571"
        reporter.error(
            code,
            (*path, "compute_type") if found[0] == "compute_type" and compute_type is not None else where,
            f"ctranslate2 {found[1]}",
            "write `compute_type: fp32`" if found[0] == "compute_type" else "write `engine: transformers`",
            because=[(*path, found[0])] if found[0] == "sampling" else [],
        )
    elif (own := own_way(generation)) is not None:
        reporter.warning(
            "W571",
            (*path, own[0]),
            f"ctranslate2 treats {own[0]} differently: {own[1]}",
            "`engine: auto` uses transformers here",
        )
