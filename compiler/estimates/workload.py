"""One training on one device, as the estimates see it: what is trained, what a teacher adds, where it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ..diagnostics.record import record
from ..extensions.terms import looks_at_teacher, needs_of, terms_on
from ..resolve.architecture import Architecture
from ..resolve.site import Site
from ..resolve.student import ResolvedStudent
from ..spec.experiment import Experiment


@record
class Teaching:
    """What a training asks of its teacher.

    `needs`: of the terms of the loss that look at it. `shared_encoder`: the student's encoder is
    the teacher's and frozen, so it is stored and run once for both. `resting`: stacks that are not run, because
    their states are read.
    """

    architecture: Architecture
    needs: frozenset[str]
    shared_encoder: bool
    resting: frozenset[str] = frozenset()


@record
class Workload:
    """One training on one device. `memory_gb` in GiB; None: unknown, nothing is ever too large. `lengths`:
    the longest source and target in tokens, None: not known. `step_tokens`: what an optimizer step has at most, None:
    not known. `teaching` None: no term needs a teacher.
    `shard_teacher`, `checkpointing`: what the site says; "auto" is whole, and nothing computed twice, until
    `estimate.place` has decided."""

    architecture: Architecture
    freeze: tuple[str, ...]
    precision: Literal["fp32", "bf16", "fp16"]
    optimizer: Literal["adamw", "adafactor"]
    offload: Literal["none", "optimizer", "parameters"]
    world: int
    per_node: int
    device: Literal["cpu", "cuda"]
    memory_gb: float | None
    lengths: tuple[int, int] | None = None
    step_tokens: int | None = None
    teaching: Teaching | None = None
    shard_teacher: Literal["auto"] | bool = "auto"
    checkpointing: Literal["auto"] | bool = "auto"

    @property
    def teacher_can_be_sharded(self) -> bool:
        """Is there a teacher, and another place for its weights: another device, or the host?"""
        return self.teaching is not None and (self.world > 1 or self.offload == "parameters")

    @property
    def width(self) -> int:
        """Bytes of a number in the precision of the run."""
        return 4 if self.precision == "fp32" else 2

    @property
    def accumulation_width(self) -> int:
        """Bytes of a number in the sums over micro-batches: DeepSpeed is told to keep those of bf16 in fp32."""
        return 2 if self.precision == "fp16" else 4


def training_workload(
    settings: Mapping[str, Any],
    architecture: Architecture,
    site: Site,
    *,
    lengths: tuple[int, int] | None = None,
    teaching: Teaching | None = None,
) -> Workload:
    """The load of a `train` stage's settings on the site."""
    return Workload(
        architecture=architecture,
        freeze=tuple(settings["freeze"]),
        precision=settings["precision"],
        optimizer=settings["optimizer"]["name"],
        offload=site.offload,
        world=site.nodes * site.per_node,
        per_node=site.per_node,
        device=site.device,
        memory_gb=site.memory_gb,
        lengths=lengths,
        step_tokens=planned_step_tokens(settings["batch"], lengths),
        teaching=teaching,
        shard_teacher=site.shard_teacher,
        checkpointing=site.checkpointing,
    )


def row_lengths(experiment: Experiment) -> tuple[int, int]:
    """The longest source and target that a run lets through, in tokens."""
    return experiment.data.max_source_tokens, experiment.data.max_target_tokens


def planned_step_tokens(batch: Mapping[str, Any], lengths: tuple[int, int] | None) -> int | None:
    """`step_tokens` of the `batch` of a `train` stage's settings."""
    by_examples = batch["unit"] == "examples"
    return step_tokens(batch["size"] if by_examples else None, None if by_examples else batch["size"], lengths)


def step_tokens(examples: int | None, tokens: int | None, lengths: tuple[int, int] | None) -> int | None:
    """The most source + target tokens of a step of so many examples or tokens, a row at least; None: not known. Its
    rows are alike in length, so padding is not reckoned with."""
    if lengths is None:
        return None
    longest = sum(lengths)
    return longest * examples if examples is not None else max(longest, tokens or 0)


def student_teaching(objective: Mapping[str, Any], teacher: Architecture, student: ResolvedStudent) -> Teaching:
    """What an objective with a term that looks at the teacher asks of it."""
    shared = student.shares_encoder_of(teacher)
    terms = [name for name, settings in terms_on(objective) if looks_at_teacher(name, settings)]
    needs = frozenset[str]().union(*map(needs_of, terms))
    return Teaching(architecture=teacher, needs=needs, shared_encoder=shared)
