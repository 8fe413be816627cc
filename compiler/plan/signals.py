"""Which states of the teacher are kept on disk, for all runs of a command at once.

In a training with a fixed teacher nothing that the teacher computes changes between epochs, and no state of a
frozen encoder. Where keeping them costs less than computing them again, and there is room, the plan gets a stage
that writes them once; the training reads them. They equal what would be computed, so nothing of this is in the
key of a training. Encoder and decoder are decided apart: the encoder's states belong to the sources, the
decoder's to the pairs, and runs that need the same share them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..estimates.devices import COMMON, DEVICES, TRAINING_UTILISATION, Device, shown_devices
from ..estimates.effort import forward_flops, training_effort
from ..estimates.placement import placement
from ..extensions.extension_record import with_extensions
from ..extensions.families import FAMILIES
from ..extensions.terms import is_built_in, stacks_of, terms_on, why_computed
from ..resolve.architecture import Architecture
from ..resolve.data_sizes import DataSize, data_size, trained_size
from ..resolve.site import Site
from ..tasks.task import TASKS
from .keys import stage_key
from .plan_models import shares_teacher_encoder, stage_architecture, stage_of, teaching_in

Plan = Any  # a plan as JSON data
Side = Literal["encoder", "decoder"]
SIDES: tuple[Side, Side] = ("encoder", "decoder")
HEADER_BYTES = 128  # of an array's file
GB = 10**9


@dataclass
class Signals:
    """One side of a teacher for one set of rows. `plans` read it, and `needs_in` has the stages that it needs by the
    ids of each; `epochs`: of all plans together; `num_bytes`: None where the data are not known. `kept`: is it
    written; `why`, in words."""

    side: Side
    settings: dict[str, Any]
    needs: dict[str, str]
    teacher: Architecture
    plans: list[Plan] = field(default_factory=list)
    needs_in: list[dict[str, str]] = field(default_factory=list)
    num_bytes: int | None = None
    epochs: float | None = None
    compute_seconds: float = 0.0
    read_seconds: float = 0.0
    kept: bool = False
    why: str = ""

    @property
    def key(self) -> str:
        """Of the stage that writes it."""
        keys = {stage["id"]: stage["key"] for stage in self.plans[0]["stages"]}
        return stage_key("signals", self.settings, {role: keys[id] for role, id in self.needs.items()})


def choose_signals(plans: Sequence[Plan], site: Site) -> list[Signals]:
    """Everything that the trainings of these runs could read instead of computing, the decoders' sides first, each
    with the decision. What `limit_gb` of the site's scratch allows is given away in this order."""
    found: dict[tuple[Any, ...], Signals] = {}
    for plan in plans:
        for signals in _of_run(plan):
            keys = {stage["id"]: stage["key"] for stage in plan["stages"]}
            group = (signals.side, signals.settings["precision"], *(keys[id] for id in signals.needs.values()))
            known = found.setdefault(group, signals)
            known.settings["last"] |= signals.settings["last"]
            known.settings["layers"] = sorted({*known.settings["layers"], *signals.settings["layers"]})
            known.plans.append(plan)
            known.needs_in.append(signals.needs)
    chosen = sorted(found.values(), key=lambda signals: signals.side)  # decoder, encoder
    room = site.scratch_limit_gb * GB
    for signals in chosen:
        _weigh(signals, site)
        if signals.kept and signals.num_bytes is not None:
            if signals.num_bytes > room:
                signals.kept = False
                limit = f"scratch.limit_gb {site.scratch_limit_gb:g}"
                signals.why = f"it takes {_gb(signals.num_bytes)}, and {_gb(room)} are left of the site's {limit}"
            else:
                room -= signals.num_bytes
    return chosen


def add_signals(plans: Sequence[Plan], site: Site) -> None:
    """Put the chosen stages into the plans, before the training that reads them."""
    for signals in reversed(choose_signals(plans, site)):  # the encoder's first: the decoder's reads it
        if not signals.kept:
            continue
        for plan, needs in zip(signals.plans, signals.needs_in, strict=True):
            _insert(plan, signals, needs)
    for plan in plans:
        if stage_of(plan, "train")["execution"].get("signals"):
            _replace(plan, site)


NO_TEACHER, NO_ENCODER = "no term looks at the teacher", "no term looks at the encoder's states"
NOT_NEEDED = (NO_TEACHER, NO_ENCODER)  # reasons for which nothing is computed either


def why_not_kept(plan: Mapping[str, Any], side: Side) -> str | None:
    """Why a side cannot be kept whatever the site says; None: it can."""
    stage = stage_of(plan, "train")
    objective, student = stage["settings"]["objective"], stage_of(plan, "student")
    terms = dict(terms_on(objective))
    if not all(map(is_built_in, terms)):
        return "a term of an installed package may look at anything"
    if side == "encoder" and shares_teacher_encoder(plan, stage):
        return None
    teaching = teaching_in(plan, stage)
    if teaching is None:
        return NO_TEACHER if side == "decoder" else "the student's encoder is not the teacher's"
    for name, settings in terms.items():
        if (why := why_computed(name, settings)) is not None:
            return why
    if side == "encoder" and not any("encoder" in stacks_of(name, settings) for name, settings in terms.items()):
        return NO_ENCODER
    if student["settings"]["family"] != teaching.architecture.family:
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
    if not TASKS[plan["task"]].writes_texts:
        return
    stage = stage_of(plan, "train")
    objective = stage["settings"]["objective"]
    model = stage["needs"].get("teacher") or stage_of(plan, "student")["needs"]["teacher"]
    rows = stage["needs"]["data"]
    sources = stage_of(plan, rows)["needs"]["data"] if stage_of(plan, rows)["kind"] == "targets" else rows
    phi, teacher = objective["phi"] or {}, stage_architecture(plan, model)
    for side in SIDES:
        if why_not_kept(plan, side) is not None:
            continue
        shared = side == "encoder" and shares_teacher_encoder(plan, stage)
        settings = {
            "side": side,
            "last": side == "decoder" or shared,
            "layers": [] if shared else sorted(set(phi.get(side) or ())),
            "precision": stage["settings"]["precision"],
        }
        yield Signals(
            side=side,
            settings=dict(with_extensions("signals", settings, [stage_of(plan, model)])),
            needs={"model": model, "data": sources if side == "encoder" else rows},
            teacher=teacher,
        )


def _weigh(signals: Signals, site: Site) -> None:
    """Is it written? Computing once, writing once and reading in each epoch, against computing in each epoch."""
    plan = signals.plans[0]
    stage = stage_of(plan, "train")
    size = _size(plan, signals.side)
    if size is None:
        signals.why = "the size of the data is not known"
        return
    signals.num_bytes = signal_bytes(signals, size)
    epochs = [_epochs(plan) for plan in signals.plans]
    signals.epochs = None if None in epochs else sum(found for found in epochs if found is not None)
    flops = size.rows * _row_flops(signals, size, shares_teacher_encoder(plan, stage))
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
    return data_size(plan) if side == "encoder" else trained_size(plan, stage_of(plan, "train"))


def _epochs(plan: Plan) -> float | None:
    stage = stage_of(plan, "train")
    size = trained_size(plan, stage)
    assert size is not None
    shape = stage_architecture(plan, "train")
    effort = training_effort(stage["settings"], shape, teaching_in(plan, stage), size)
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


def _insert(plan: Plan, signals: Signals, needs: Mapping[str, str]) -> None:
    stages = plan["stages"]
    train = stage_of(plan, "train")
    position = stages.index(train)
    id = f"signals-{signals.side}"
    execution: dict[str, Any] = {
        "locations": {},
        "micro_batch_tokens": train["execution"]["micro_batch_tokens"],
        "save_minutes": None,
        "deepspeed": None,
    }
    read = train["execution"].setdefault("signals", {})
    if signals.side == "decoder" and "encoder" in read:
        stage = stage_of(plan, read["encoder"])
        if stage["settings"]["last"]:
            execution["signals"] = {"encoder": stage["id"]}
    read[signals.side] = id
    stages.insert(
        position,
        {
            "id": id,
            "kind": "signals",
            "key": signals.key,
            "needs": dict(needs),
            "settings": dict(signals.settings),
            "execution": execution,
        },
    )


def _replace(plan: Plan, site: Site) -> None:
    """How the training runs, chosen once more: stacks of the teacher that are not run need no memory."""
    train = stage_of(plan, "train")
    data = next(stage for stage in plan["stages"] if stage["kind"] == "data")["settings"]
    execution = train["execution"]
    train["execution"] = {
        "locations": execution["locations"],
        "signals": execution["signals"],
        **placement(
            train["settings"],
            stage_architecture(plan, "train"),
            site,
            lengths=(data["max_source_tokens"], data["max_target_tokens"]),
            teaching=teaching_in(plan, train),
        ),
    }


def _gb(number: float) -> str:
    return f"{number / GB:.3g} GB"


def _seconds(number: float) -> str:
    if number < 120:
        return f"{number:.0f} s" if number >= 10 else f"{number:.2g} s"
    return f"{number / 60:.0f} min" if number < 7200 else f"{number / 3600:.0f} h"
