"""Does a training fit into the memory of the site's devices, and if not, which changes make it fit?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import ceil
from typing import Literal

from ..diagnostics.diagnostic import Reporter, Trail, listed
from ..estimates.memory import GIB, USABLE, Placement, place
from ..estimates.workload import Workload, row_lengths, step_tokens, student_teaching
from ..resolve.architecture import Architecture
from ..resolve.objective import objective_settings
from ..resolve.site import Site
from ..spec.experiment import Experiment, Training
from .context import ModelContext

_MOST_DEVICES = 64
_CARDS_GIB = (8, 12, 16, 24, 32, 40, 48, 64, 80, 96, 141, 192, 288)
_SHARE_NAMED = 0.15  # of the whole: smaller parts are not worth a word


def check_memory(models: ModelContext) -> None:
    """Reports E541 (W541 on a CPU, whose memory others use and swap extends): a training that does not fit
    the devices, whatever is sharded and however small the micro-batches are. Nothing is
    reported where the memory of a device is not known."""
    experiment, reporter, site = models.run, models.reporter, models.site
    teacher, student = models.teacher.architecture, models.student
    if site.memory_gb is None:
        return
    own = experiment.teacher.train
    if own is not None:
        load = _load(experiment, own, teacher, (), models.teacher_precision, site)
        _check("the teacher", load, ("teacher", "train"), reporter, site)
    if student is None:
        return
    training = experiment.training
    load = _load(experiment, training, student.architecture, student.freeze, models.precision, site)
    if training.needs_teacher:
        objective = objective_settings(training.loss, None)
        load = replace(load, teaching=student_teaching(objective, teacher, student))
    _check("the student", load, ("student",), reporter, site)


def _load(
    experiment: Experiment,
    training: Training,
    architecture: Architecture,
    freeze: tuple[str, ...],
    precision: str,
    site: Site,
) -> Workload:
    return Workload(
        architecture=architecture,
        freeze=freeze,
        precision=precision,  # type: ignore[arg-type]
        optimizer=training.optimization.optimizer.name,
        offload=site.offload,
        world=site.nodes * site.per_node,
        per_node=site.per_node,
        device=site.device,
        memory_gb=site.memory_gb,
        lengths=row_lengths(experiment),
        step_tokens=step_tokens(training.batch.examples, training.batch.tokens, row_lengths(experiment)),
        shard_teacher=site.shard_teacher,
        checkpointing=site.checkpointing,
    )


def _check(who: str, load: Workload, path: Trail, reporter: Reporter, site: Site) -> None:
    assert load.memory_gb is not None
    chosen = place(load, site.zero, site.micro_batch_tokens)
    share = load.memory_gb / (load.per_node if load.device == "cpu" else 1)
    if chosen.table.total <= share * GIB:
        return
    message = (
        f"training {who} needs {chosen.table.total / GIB:.1f} GiB per "
        f"{'process' if load.device == 'cpu' else 'device'}, which has {share:.1f}, at ZeRO stage {chosen.zero} "
        f"{_saved(chosen)}with {chosen.micro_batch_tokens:,} tokens at a time: {_largest(chosen)}"
    )
    hint = f"what fits: {listed(_remedies(load, chosen, site))}"
    if load.device == "cpu":
        reporter.warning("W541", path, message, hint, at="key")
    else:
        reporter.error("E541", path, message, hint, at="key")


def _saved(chosen: Placement) -> str:
    """What else was done to make it fit, in words."""
    done = {"a sharded teacher": chosen.shard_teacher, "checkpointing": chosen.checkpointing}
    return "".join(f"and {name} " for name, on in done.items() if on)


def _largest(chosen: Placement) -> str:
    """The parts that take most, at most three of them, in words."""
    parts = sorted(chosen.table.parts().items(), key=lambda part: -part[1])
    named = [(name, size) for name, size in parts[:3] if size >= _SHARE_NAMED * chosen.table.total]
    words = listed([f"{name} {size / GIB:.1f}" for name, size in named], "and")
    return f"{words} take{'s' if len(named) == 1 else ''} most"


def _remedies(load: Workload, chosen: Placement, site: Site) -> Iterator[str]:
    """What would make it fit, one change each: site settings first, then other devices."""
    if site.micro_batch_tokens is not None and (smaller := place(load, site.zero)).fits:
        yield f"`micro_batch_tokens: {smaller.micro_batch_tokens}`"
    if site.zero != "auto" and place(load, "auto", site.micro_batch_tokens).fits:
        yield "`zero: auto`"
    fixed = (site.zero, site.micro_batch_tokens)
    if load.shard_teacher is False and place(replace(load, shard_teacher="auto"), *fixed).fits:
        yield "`shard_teacher: auto`"
    if load.checkpointing is False and place(replace(load, checkpointing="auto"), *fixed).fits:
        yield "`checkpointing: auto`"
    if load.device == "cpu":
        number = _most_processes(load, site.nodes)
        if number:
            yield f"{number} process{'' if number == 1 else 'es'}"
    else:
        yield from _offloads(load)
        number = load.world * 2
        while number <= _MOST_DEVICES:
            if place(replace(load, world=number)).fits:
                yield f"{number} devices"
                break
            number *= 2
    yield _enough_memory(load, chosen)


def _most_processes(load: Workload, nodes: int) -> int:
    """The most processes on a machine, fewer than there are, that fit into its memory; 0: not even one. What fits
    fits with fewer, each of which has more of the memory."""

    def fits(number: int) -> bool:
        return place(replace(load, world=nodes * number, per_node=number)).fits is True

    fitting, beyond = 0, load.per_node
    while beyond - fitting > 1:
        middle = (fitting + beyond) // 2
        fitting, beyond = (middle, beyond) if fits(middle) else (fitting, middle)
    return fitting


def _offloads(load: Workload) -> Iterator[str]:
    if load.optimizer != "adamw":
        return
    more: dict[str, tuple[Literal["optimizer", "parameters"], ...]] = {
        "none": ("optimizer", "parameters"),
        "optimizer": ("parameters",),
    }
    for offload in more.get(load.offload, ()):
        if place(replace(load, offload=offload)).fits:
            yield f"`offload: {offload}`"
            return


def _enough_memory(load: Workload, chosen: Placement) -> str:
    needed = chosen.table.total / GIB / USABLE
    if load.device == "cpu":
        return f"{ceil(needed * load.per_node)} GiB of memory"
    return f"devices of {next((card for card in _CARDS_GIB if card >= needed), ceil(needed))} GiB"
