"""Which states of the teacher are kept on disk, for all runs of a command at once.

In a training with a fixed teacher nothing that the teacher computes changes between epochs, and no state of a
frozen encoder. Where keeping them costs less than computing them again, and there is room, the plan gets a stage
that writes them once; the training reads them. They equal what would be computed, so nothing of this is in the
key of a training. Encoder and decoder are decided apart: the encoder's states belong to the sources, the
decoder's to the pairs, and runs that need the same share them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ..estimates.devices import COMMON, DEVICES, TRAINING_UTILISATION, Device, shown_devices
from ..estimates.effort import forward_flops, training_effort
from ..estimates.placement import Execution, training_placement
from ..estimates.workload import row_lengths
from ..extensions.extension_record import with_extensions
from ..extensions.families import FAMILIES
from ..extensions.methods import method_needs_teacher
from ..extensions.terms import is_built_in, stacks_of, terms_on, why_computed
from ..resolve.architecture import Architecture
from ..resolve.data_sizes import DataSize
from ..resolve.site import Site
from ..tasks.task import TASKS
from .keys import stage_key
from .plan import Plan, Stage, Stages
from .plan_sizes import data_size, trained_size

Side = Literal["encoder", "decoder"]
SIDES: tuple[Side, Side] = ("encoder", "decoder")
HEADER_BYTES = 128  # of an array's file
GB = 10**9


@dataclass
class Signals:
    """One side of a teacher for one set of rows, which `plans` read. `epochs`: of all plans together; `num_bytes`: None
    where the data are not known. `kept`: is it written; `why`, in words."""

    side: Side
    settings: dict[str, Any]
    needs: Mapping[str, str]
    teacher: Architecture
    plans: list[Plan] = field(default_factory=list)
    num_bytes: int | None = None
    epochs: float | None = None
    compute_seconds: float = 0.0
    read_seconds: float = 0.0
    kept: bool = False
    why: str = ""

    @property
    def key(self) -> str:
        """Of the stage that writes it."""
        return stage_key("signals", self.settings, self.needs)


def choose_signals(plans: Sequence[Plan]) -> list[Signals]:
    """Everything that the trainings of these runs could read instead of computing, the decoders' sides first, each
    with the decision. What `limit_gb` of the site's scratch allows is given away in this order."""
    found: dict[tuple[Any, ...], Signals] = {}
    for plan in plans:
        for signals in _of_run(plan):
            group = (signals.side, signals.settings["precision"], *signals.needs.values())
            known = found.setdefault(group, signals)
            known.settings["last"] |= signals.settings["last"]
            known.settings["layers"] = sorted({*known.settings["layers"], *signals.settings["layers"]})
            known.plans.append(plan)
    chosen = sorted(found.values(), key=lambda signals: signals.side)  # decoder, encoder
    room = plans[0].site.scratch_limit_gb * GB if plans else 0
    for signals in chosen:
        _weigh(signals)
        if signals.kept and signals.num_bytes is not None:
            if signals.num_bytes > room:
                signals.kept = False
                limit = f"scratch.limit_gb {signals.plans[0].site.scratch_limit_gb:g}"
                signals.why = f"it takes {_gb(signals.num_bytes)}, and {_gb(room)} are left of the site's {limit}"
            else:
                room -= signals.num_bytes
    return chosen


def with_signals(plans: Sequence[Plan]) -> list[Plan]:
    """The plans with the chosen stages, before the training that reads them."""
    chosen = [signals for signals in choose_signals(plans) if signals.kept]
    return [_reading(plan, {s.side: s for s in chosen if any(other is plan for other in s.plans)}) for plan in plans]


NO_TEACHER, NO_ENCODER = "no term looks at the teacher", "no term looks at the encoder's states"
NOT_NEEDED = (NO_TEACHER, NO_ENCODER)  # reasons for which nothing is computed either


def why_not_kept(plan: Plan, side: Side) -> str | None:
    """Why a side cannot be kept whatever the site says; None: it can."""
    if plan.train.settings["stopping"]["max_steps"] == 0:
        return "the student is not trained"
    terms = dict(terms_on(plan.train.settings["objective"]))
    if not all(map(is_built_in, terms)):
        return "a term of an installed package may look at anything"
    if side == "encoder" and _shares_encoder(plan):
        return None
    teaching = plan.train.teaching
    if teaching is None:
        return NO_TEACHER if side == "decoder" else "the student's encoder is not the teacher's"
    method = plan.train.settings.get("method")
    if method is not None and method_needs_teacher(method["name"]):
        return f"the way to train {method['name']} runs layers of the teacher"
    for name, settings in terms.items():
        if (why := why_computed(name, settings)) is not None:
            return why
    if side == "encoder" and not any("encoder" in stacks_of(name, settings) for name, settings in terms.items()):
        return NO_ENCODER
    if plan.found.student.architecture.family != teaching.architecture.family:
        return "the student is of another family"
    return None


def possible_bytes(plan: Plan) -> dict[Side, int] | None:
    """What each side would take, kept or not; 0: it cannot be kept. None: the size of the data is not known."""
    found: dict[Side, int] = dict.fromkeys(SIDES, 0)
    for signals in _of_run(plan):
        size = _size(plan, signals.side)
        if size is None:
            return None
        found[signals.side] = signal_bytes(signals, size)
    return found


def signal_bytes(signals: Signals, size: DataSize) -> int:
    """Of all arrays of the stage's artifact, to the byte where the size of the data is exact: an array of states
    for each file, and the offsets of the rows."""
    tokens = round(size.rows * (size.source_tokens if signals.side == "encoder" else size.target_tokens))
    width = signals.teacher.d_model * (4 if signals.settings["precision"] == "fp32" else 2)
    return num_states(signals) * (HEADER_BYTES + tokens * width) + HEADER_BYTES + 8 * (size.rows + 1)


def num_states(signals: Signals) -> int:
    """Files of states. Without a norm after it the last layer's output is the final state, which is kept once."""
    depth = signals.teacher.encoder_layers if signals.side == "encoder" else signals.teacher.decoder_layers
    layers, last = signals.settings["layers"], signals.settings["last"]
    same = last and depth - 1 in layers and not FAMILIES[signals.teacher.layout].final_norm
    return int(len(layers) + last - same)


# --- one run ---------------------------------------------------------------------------------------


def _of_run(plan: Plan) -> Iterator[Signals]:
    if not TASKS[plan.experiment.task].writes_texts:
        return
    train, stages = plan.train, plan.stages
    model = train.needs.get("teacher") or stages["student"].needs["teacher"]
    rows = stages.needed(train, "data")
    sources = stages.needed(rows, "data") if rows.kind == "targets" else rows
    phi = train.settings["objective"]["phi"] or {}
    for side in SIDES:
        if why_not_kept(plan, side) is not None:
            continue
        shared = side == "encoder" and _shares_encoder(plan)
        settings = {
            "side": side,
            "last": side == "decoder" or shared,
            "layers": [] if shared else sorted(set(phi.get(side) or ())),
            "precision": train.settings["precision"],
        }
        teacher = stages[stages.called(model)]
        yield Signals(
            side=side,
            settings=dict(with_extensions("signals", settings, [teacher.settings])),
            needs={"model": model, "data": sources.key if side == "encoder" else rows.key},
            teacher=plan.found.teacher.architecture,
        )


def _shares_encoder(plan: Plan) -> bool:
    return plan.found.student.shares_encoder_of(plan.found.teacher.architecture)


def _weigh(signals: Signals) -> None:
    """Is it written? Computing once, writing once and reading in each epoch, against computing in each epoch."""
    plan = signals.plans[0]
    site, size = plan.site, _size(plan, signals.side)
    if size is None:
        signals.why = "the size of the data is not known"
        return
    signals.num_bytes = signal_bytes(signals, size)
    epochs = [_epochs(plan) for plan in signals.plans]
    signals.epochs = None if None in epochs else sum(found for found in epochs if found is not None)
    flops = size.rows * _row_flops(signals, size, _shares_encoder(plan))
    world = site.nodes * site.per_node
    hours = _device(site).hours(flops, signals.settings["precision"], TRAINING_UTILISATION)
    signals.compute_seconds = 3600 * hours / world
    signals.read_seconds = signals.num_bytes / (site.scratch_read_gb_per_second * GB * site.nodes)
    number = signals.epochs or 10.0  # a training that ends by patience alone
    again = number * signals.compute_seconds
    kept = signals.compute_seconds + signals.read_seconds * (1 + number)
    signals.kept = kept < again
    times = f"{_seconds(kept)} to keep and read it, {_seconds(again)} to compute it anew in {number:.3g} epochs"
    signals.why = f"{_gb(signals.num_bytes)}; {times}"


def _size(plan: Plan, side: Side) -> DataSize | None:
    """Of the rows whose states are kept: the sources of the data, the pairs that the student sees."""
    return data_size(plan) if side == "encoder" else trained_size(plan, plan.train)


def _epochs(plan: Plan) -> float | None:
    train, size = plan.train, trained_size(plan, plan.train)
    assert size is not None
    effort = training_effort(train.settings, plan.found.student.architecture, train.teaching, size)
    if effort is None:
        return None
    return effort.tokens / max(1.0, size.rows * (size.source_tokens + size.target_tokens))


def _row_flops(signals: Signals, size: DataSize, shared_encoder: bool) -> float:
    """Of what need not be computed for a row."""
    each = forward_flops(signals.teacher)
    if signals.side == "encoder":
        return size.source_tokens * each.encoder
    encoder = each.cross + (0 if shared_encoder else each.encoder)
    return size.source_tokens * encoder + size.target_tokens * each.decoder


def _device(site: Site) -> Device:
    found = shown_devices(site.device, site.device_name)
    return found[0] if len(found) == 1 else DEVICES[COMMON[1]]


def _reading(plan: Plan, kept: Mapping[Side, Signals]) -> Plan:
    """A plan whose training reads what is kept, and runs as that allows: stacks of the teacher that are not run need no
    memory."""
    if not kept:
        return plan
    train = plan.train
    tokens, encoder = train.execution.micro_batch_tokens, kept.get("encoder")
    stages: dict[str, Stage] = {}
    for side in SIDES:  # the encoder's first: the decoder's reads it
        if side not in kept:
            continue
        signals, read = kept[side], {}
        if side == "decoder" and encoder is not None and encoder.settings["last"]:
            read = {"encoder": encoder.key}
        execution = Execution(micro_batch_tokens=tokens, signals=read)
        stages[f"signals-{side}"] = Stage("signals", signals.key, dict(signals.settings), signals.needs, execution)
    teaching = None if train.teaching is None else replace(train.teaching, resting=_resting(train, kept))
    shape, lengths = plan.found.student.architecture, row_lengths(plan.experiment)
    execution = training_placement(train.settings, shape, plan.site, lengths=lengths, teaching=teaching)
    execution = replace(execution, signals={side: signals.key for side, signals in kept.items()})
    stages["train"] = replace(train, execution=execution, teaching=teaching)
    whole: dict[str, Stage] = {}
    for id, stage in plan.stages.items():
        whole |= stages if id == "train" else {id: stage}
    return replace(plan, stages=Stages(whole))


def _resting(train: Stage, kept: Collection[Side]) -> frozenset[str]:
    """The stacks of the teacher that a training does not run: it reads their states."""
    if "decoder" not in kept:
        return frozenset()
    terms = terms_on(train.settings["objective"])
    compared = "encoder" not in kept and any("encoder" in stacks_of(name, settings) for name, settings in terms)
    return frozenset({"decoder"} if compared else {"decoder", "encoder"})


def _gb(number: float) -> str:
    return f"{number / GB:.3g} GB"


def _seconds(number: float) -> str:
    if number < 120:
        return f"{number:.0f} s" if number >= 10 else f"{number:.2g} s"
    return f"{number / 60:.0f} min" if number < 7200 else f"{number / 3600:.0f} h"
