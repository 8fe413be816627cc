"""Memory of a training on one device, from shapes alone: what `zero: auto` and `explain` go by.

Model states are those of DeepSpeed 0.19, counted tensor by tensor on two processes; activations are an
estimate (`activations`). Everything is in bytes on one device unless a name says gigabytes (GiB).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Literal

from ..diagnostics.record import record
from ..resolve.architecture import Architecture, decoder_layer, encoder_layer
from .activations import BatchMemory, batch_memory
from .deepspeed_config import STAGE_3_LIVE_NUMBERS
from .workload import Workload

GIB = 2**30
ZERO_STAGES = (0, 1, 2, 3)
CPU_MICRO_BATCH_TOKENS = 4096
MICRO_BATCH_TOKENS = (4096, 65536)  # the smallest that is wanted and the largest that is derived
SHORT_OF_MEMORY_TOKENS = 1024  # the smallest when the lengths of the rows are not known

USABLE = 0.9  # of a device's memory; the rest goes to fragmentation
_REDUCE_BUCKET_NUMBERS = 500_000_000  # DeepSpeed's default
_FRAMEWORK_BYTES = 1 << 30  # the device's context, kernels and their scratch space
_STEP = 256  # a derived micro-batch is a multiple of it below 4096 tokens, of 1024 above


@record
class MemoryTable:
    """Bytes on one device: weights of the student, their gradients, master weights and moments, weights of
    the teacher, what backward needs, logits, states of the teacher, buffers of the framework."""

    weights: int
    gradients: int
    optimizer: int
    teacher: int
    activations: int
    logits: int
    signals: int
    workspace: int

    @property
    def states(self) -> int:
        """What is there between two steps, the teacher not counted."""
        return self.weights + self.gradients + self.optimizer

    @property
    def total(self) -> int:
        return sum(self.parts().values())

    def parts(self) -> dict[str, int]:
        """By name, in the order in which they are shown."""
        return {part.name: getattr(self, part.name) for part in fields(self)}


@record
class Placement:
    """How a load runs: ZeRO stage, micro-batch in padded source + target tokens, is each device's a share of the
    teacher, are activations computed again, what that takes. `fits` None: the memory of the device is not known."""

    zero: int
    micro_batch_tokens: int
    shard_teacher: bool
    checkpointing: bool
    table: MemoryTable
    fits: bool | None


def memory_table(load: Workload, zero: int, micro_batch_tokens: int) -> MemoryTable:
    """What one device holds while the load is trained at a ZeRO stage with micro-batches of so many tokens, or of
    whole steps, where those have fewer."""
    micro_batch_tokens = min(micro_batch_tokens, load.step_tokens or micro_batch_tokens)
    batch = batch_memory(load, micro_batch_tokens) if micro_batch_tokens else BatchMemory(0, 0, 0)
    weights, gradients, optimizer = _states(load, zero)
    return MemoryTable(
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        teacher=teacher_bytes(load),
        activations=batch.activations,
        logits=batch.logits,
        signals=batch.signals,
        workspace=_FRAMEWORK_BYTES + _buffers(load, zero),
    )


def place(load: Workload, zero: Literal["auto"] | int = "auto", micro_batch_tokens: int | None = None) -> Placement:
    """How a load runs; what the site fixes stays as it is."""
    load, stage, _ = choose(load, zero, micro_batch_tokens)
    tokens = micro_batch_tokens or choose_micro_batch_tokens(load, stage)
    table = memory_table(load, stage, tokens)
    fits = None if load.memory_gb is None else table.total <= available(load)
    return Placement(stage, tokens, load.shard_teacher is True, load.checkpointing is True, table, fits)


def choose(load: Workload, zero: Literal["auto"] | int, micro_batch_tokens: int | None) -> tuple[Workload, int, int]:
    """(the load with its teacher whole or sharded, and checkpointing on or off; its ZeRO stage; the micro-batch
    with which the ways were compared).

    The first way that fits, with micro-batches of the wanted size or, where no stage has room for those, with the
    smallest: the whole teacher, a sharded one, activations computed again. Where nothing fits, what needs least.
    """
    floor = lowest_zero(load)
    shared = load.memory_gb is not None and load.world > 1 and load.optimizer != "adafactor"  # see E596
    stages = (zero,) if zero != "auto" else tuple(range(floor, 4)) if shared else (floor,)
    ways = _ways(load)
    wanted = micro_batch_tokens or MICRO_BATCH_TOKENS[0]
    if load.memory_gb is None:
        return ways[0], stages[0], wanted
    sizes = tuple(dict.fromkeys((wanted, micro_batch_tokens or smallest(load))))
    room = available(load)
    for way in ways:
        for tokens in sizes:
            for stage in stages:
                if memory_table(way, stage, tokens).total <= room:
                    return way, stage, tokens
    pairs = [(way, stage) for way in ways for stage in stages]
    way, stage = min(pairs, key=lambda pair: memory_table(pair[0], pair[1], sizes[-1]).total)
    return way, stage, sizes[-1]


def _ways(load: Workload) -> list[Workload]:
    """The load with what the site leaves open decided, what costs least time first."""
    teachers = (False, True) if load.shard_teacher == "auto" else (load.shard_teacher,)
    if not load.teacher_can_be_sharded:
        teachers = (False,)
    activations = (False, True) if load.checkpointing == "auto" else (load.checkpointing,)
    return [replace(load, shard_teacher=sharded, checkpointing=again) for again in activations for sharded in teachers]


def lowest_zero(load: Workload) -> int:
    """The lowest stage that the load can have: 0 in fp32, 1 in 16 bits (see E516) or when the optimizer is
    offloaded, 3 when the parameters are. On a single device there is nothing to shard across: it gets this one, too."""
    return {"none": 0 if load.precision == "fp32" else 1, "optimizer": 1, "parameters": 3}[load.offload]


def choose_micro_batch_tokens(load: Workload, zero: int) -> int:
    """Padded source + target tokens that fit beside the model's states. A CPU gets 4096 of them: more do not
    make it faster. Where memory is short, fewer, down to the longest row that there can be."""
    wanted, most = MICRO_BATCH_TOKENS
    if load.memory_gb is None:
        return wanted
    if load.device == "cpu":
        most = CPU_MICRO_BATCH_TOKENS
    least = smallest(load)
    tokens = most_tokens(load, zero, most)
    return max(least, tokens // 1024 * 1024 if tokens >= wanted else tokens // _STEP * _STEP)


def most_tokens(load: Workload, zero: int, most: int = MICRO_BATCH_TOKENS[1]) -> int:
    """The largest micro-batch up to `most` tokens that fits at a stage; 0: not even the smallest."""
    assert load.memory_gb is not None
    room = available(load) - memory_table(load, zero, 0).total
    if batch_memory(load, most).total <= room:
        return most
    low, high = 0, most
    while high - low > _STEP:
        middle = (low + high) // 2
        if batch_memory(load, middle).total <= room:
            low = middle
        else:
            high = middle
    return low


def smallest(load: Workload) -> int:
    """The smallest micro-batch that helps: one row of the greatest length cannot be cut."""
    if load.lengths is None:
        return SHORT_OF_MEMORY_TOKENS
    return min(MICRO_BATCH_TOKENS[0], -(-sum(load.lengths) // _STEP) * _STEP)


def available(load: Workload) -> float:
    """Bytes of a device that a load may count on; the processes of a CPU share its memory."""
    assert load.memory_gb is not None
    return load.memory_gb * GIB * USABLE / (load.per_node if load.device == "cpu" else 1)


def teacher_bytes(load: Workload) -> int:
    """The teacher's weights in the precision of the run; the layers of an encoder that is the student's, too, are
    counted with the student, and those of a stack that is not run are dropped. Whole on every device, or a share of
    them and what is gathered at a time."""
    if load.teaching is None:
        return 0
    teacher = load.teaching.architecture
    numbers, resting = teacher.parameters, load.teaching.resting
    if load.teaching.shared_encoder or "encoder" in resting:
        numbers -= teacher.encoder_layers * encoder_layer(teacher)
    if "decoder" in resting:
        numbers -= teacher.decoder_layers * decoder_layer(teacher)
    if load.shard_teacher is True:
        kept = 0 if load.offload == "parameters" else numbers // load.world
        numbers = kept + _gathered(teacher, numbers)
    return numbers * load.width


def zero_tables(load: Workload, micro_batch_tokens: int) -> Mapping[int, MemoryTable]:
    """All four stages with the same micro-batch, to compare."""
    return {zero: memory_table(load, zero, micro_batch_tokens) for zero in ZERO_STAGES}


def _states(load: Workload, zero: int) -> tuple[int, int, int]:
    """(weights, gradients, master weights and moments).

    From stage 1 on DeepSpeed steps on an fp32 copy of a device's shard of what is trained, in fp32 too.
    Gradients are summed over micro-batches in fp32 (fp16: in fp16). In stage 1 every device keeps all of
    them, bf16's beside those that backward has just made; from stage 2 on its share.
    """
    total, trained = load.architecture.parameters, load.architecture.trainable(load.freeze)
    weights = total * load.width
    gradients = trained * load.accumulation_width
    if zero == 1 and load.precision == "bf16":
        gradients += trained * load.width
    master = 4 if zero or load.precision != "fp32" else 0
    moments = 8
    if load.optimizer == "adafactor":
        # Rows and columns of each matrix; on the flat shard of ZeRO there are no matrices any more.
        moments = 4 if zero else 0
    optimizer = trained * (master + moments)
    if zero >= 1:
        optimizer //= load.world
    if zero >= 2:
        gradients //= load.world
    if zero >= 3:
        weights //= load.world
    if load.offload != "none":
        optimizer = 0
        gradients = 0 if zero >= 2 else gradients
    if load.offload == "parameters":
        weights = 0
    return weights, gradients, optimizer


def _buffers(load: Workload, zero: int) -> int:
    """DeepSpeed's buffers: the bucket in which gradients are reduced, and the weights that ZeRO 3 has gathered
    at a time. A CPU commits only what is written of a bucket."""
    shape = load.architecture
    bucketed = zero >= 2 or (zero == 1 and load.precision != "bf16")
    bucket = _REDUCE_BUCKET_NUMBERS if bucketed else 0
    if load.device == "cpu":
        bucket = min(bucket, shape.trainable(load.freeze))
    gathered = _gathered(shape, shape.parameters) if zero == 3 else 0
    return (bucket + gathered) * load.width


def _gathered(shape: Architecture, numbers: int) -> int:
    """Of so many sharded numbers of a model, those that are whole at a time. The largest module at work is the
    embedding, or the head."""
    return min(numbers, STAGE_3_LIVE_NUMBERS + shape.vocab_size * shape.d_model)
