"""What the models, the devices and the data of a run cannot do: precisions, lengths, offloading, warm-ups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..diagnostics.diagnostic import Reporter, Trail
from ..estimates.effort import training_steps
from ..extensions.families import FAMILIES
from ..resolve.architecture import Architecture
from ..resolve.data_sizes import DataSize, data_size, described_size, mixed_size, rows_of, share_rows, trained_size
from ..resolve.layers import Layers
from ..resolve.machine import supports_bf16
from ..resolve.objective import batch_settings
from ..resolve.site import Site
from ..spec.experiment import Experiment, Labeller, Training
from ..spec.ways import generations


def choose_precision(training: Training, path: Trail, family: str, reporter: Reporter, site: Site) -> str:
    """The precision of a training. `auto`: bf16 where the device and the optimizer have it, else fp32.

    `path`: where the training's section is. Reports E511 (fp16 with a family that overflows), E512 (a
    precision that the device has not), E516 (16 bits without ZeRO), E596 (adafactor with ZeRO).
    """
    bf16 = site.device == "cuda" and supports_bf16(site.device_name)
    adafactor = training.optimization.optimizer.name == "adafactor"
    here = (*path, "precision")
    asked = training.precision
    if asked == "auto":
        asked = "bf16" if bf16 and not adafactor else "fp32"
    if adafactor and (asked != "fp32" or site.zero not in ("auto", 0)):
        sharing = f"the site says {site.zero}" if asked == "fp32" else f"{asked} needs 1 or more"
        reporter.error(
            "E596",
            (*path, "training", "optimizer", "name"),
            f"adafactor needs ZeRO stage 0, and {sharing}: from stage 1 on it would see shares of flattened weights, "
            "without their rows and columns, and the result would depend on the number of devices",
            "choose adamw" + (", or `precision: fp32`" if asked != "fp32" else ", or write `zero: auto` into the site"),
            because=[here] if asked != "fp32" else [],
        )
    if asked != "fp32" and site.zero == 0:
        # Measured: under stage 0 the losses of a bf16 run leave those of fp32 at the first clipped update,
        # under stages 1 to 3 they follow them.
        reporter.error(
            "E516",
            here,
            f"{asked} needs ZeRO stage 1 or more, the site says 0: without it DeepSpeed accumulates in 16 bits",
            "write `zero: auto` into the site, or choose fp32",
        )
    if asked == "fp16" and not FAMILIES[family].fp16_safe:
        reporter.error("E511", here, f"fp16 overflows in {family} models: the loss becomes NaN", "choose bf16 or fp32")
    elif asked == "fp16" and site.device == "cpu":
        reporter.error("E512", here, "fp16 needs a GPU; this site has none", "choose bf16 or fp32, or auto")
    elif asked == "bf16" and site.device == "cuda" and not bf16:
        reporter.error("E512", here, f"{site.device_name} has no bf16", "choose fp32, or auto")
    return asked


def check_retention(experiment: Experiment, reporter: Reporter) -> None:
    """Reports E510: a teacher's training that would stop at a percentage of its teacher's score."""
    own = experiment.teacher.train
    if own is not None and own.stopping.retention:
        reporter.error(
            "E510",
            ("teacher", "train", "stopping", "retention"),
            "retention is a percentage of the teacher's score; the teacher itself has no teacher",
            "remove it, or stop by max_epochs, max_steps, max_hours or patience",
            at="key",
        )


def check_lengths(experiment: Experiment, teacher: Architecture, reporter: Reporter) -> None:
    """Reports E513: sequences longer than the position table that reads them."""
    limit = teacher.max_positions
    if limit is None:
        return
    lengths: list[tuple[Trail, int | None]] = [
        (("data", "max_source_tokens"), experiment.data.max_source_tokens),
        (("data", "max_target_tokens"), experiment.data.max_target_tokens),
        (("validation", "generation", "max_length"), experiment.training.validation.generation.max_length),
        (("evaluation", "generation", "max_length"), experiment.evaluation.generation.max_length),
        (
            ("evaluation", "teacher_generation", "max_length"),
            experiment.evaluation.teacher_generation.max_length,
        ),
    ]
    for path, length in lengths:
        if length is not None and length > limit:
            reporter.error(
                "E513",
                path,
                f"{path[-1]} is {length}; the {teacher.family} teacher has positions for {limit} tokens",
                f"write {limit} or less",
            )


def check_offload(experiment: Experiment, reporter: Reporter, site: Site) -> None:
    """Reports E514: an offload that this device, ZeRO stage or optimizer does not go with. These are the
    site's words, so they have no place in the spec."""
    if site.offload == "none":
        return
    least = 3 if site.offload == "parameters" else 1
    if site.device == "cpu":
        reporter.error(
            "E514",
            (),
            f"offload: {site.offload} moves from a GPU's memory to the host's; this site has no GPU",
            "leave offload out of the site",
        )
    elif site.zero != "auto" and site.zero < least:
        reporter.error(
            "E514",
            (),
            f"offload: {site.offload} needs ZeRO stage {least} or more, the site says {site.zero}",
            "write `zero: auto` into the site",
        )
    for path, training in (
        (("training",), experiment.training),
        (("teacher", "train", "training"), experiment.teacher.train),
    ):
        if training is not None and training.optimization.optimizer.name == "adafactor":
            reporter.error(
                "E514",
                (*path, "optimizer", "name"),
                "offloading steps with DeepSpeed's CPU Adam; adafactor has no such form",
                "choose adamw, or leave offload out of the site",
            )


def check_beams(experiment: Experiment, teacher: Architecture, reporter: Reporter) -> None:
    """Reports E575: more beams than tokens that a text can begin with. A student has its teacher's vocabulary; a
    labeller of its own has its own, and is not looked at."""
    vocabulary = teacher.num_logits
    for path, generation in generations(experiment):
        other = path[0] == "pseudo_labels" and experiment.pseudo_labels[str(path[1])].by is not None
        beams = generation.beams
        if beams is not None and beams > vocabulary and not other and reporter.written((*path, "beams")):
            reporter.error(
                "E575",
                (*path, "beams"),
                f"{beams:,} beams, and the vocabulary of the {teacher.family} teacher has {vocabulary:,} tokens to "
                "begin with",
                "write fewer; searches for summaries and translations have 1 to 10",
            )


def check_known_end(plan: Mapping[str, Any], reporter: Reporter) -> None:
    """Reports W403: a warm-up that the spec asks for is longer than a training whose end is known with its data."""
    for stage in plan["stages"]:
        if stage["id"] in TRAINED_AT and reporter.written((*TRAINED_AT[stage["id"]], "warmup", "steps")):
            _check_warmup(stage["id"], stage["settings"], trained_size(plan, stage), reporter)


def check_described_end(experiment: Experiment, data: Mapping[str, Any], reporter: Reporter) -> None:
    """The same of a spec alone: its trainings on data whose rows are known without opening a file. `data`: settings of
    the data stage."""
    if any(source["kind"] == "files" for source in data["train"]):
        return
    shares = [experiment.target_shares.get(name, 1.0) for name in experiment.targets]
    for id, training, of in (
        ("train", experiment.training, shares),
        ("teacher-train", experiment.teacher.train, [1.0]),
    ):
        path = (*TRAINED_AT[id], "warmup", "steps")
        if training is None or not reporter.written(path) or training.optimization.warmup is None:
            continue
        size = described_size(data, {})
        settings = {
            "warmup_steps": training.optimization.warmup.steps,
            "stopping": asdict(training.stopping),
            "batch": batch_settings(training.batch),
        }
        _check_warmup(id, settings, None if size is None else mixed_size(size, of), reporter)


def _check_warmup(id: str, settings: Mapping[str, Any], size: DataSize | None, reporter: Reporter) -> None:
    warmup = settings["warmup_steps"]
    steps = None if size is None else training_steps(settings, size)
    if size is None or steps is None or warmup is None or warmup < steps:
        return
    if settings["stopping"]["max_steps"] == steps:
        return  # what max_steps says was looked at before
    about = "about " if size.origin == "files" else ""
    reporter.warning(
        "W403",
        (*TRAINED_AT[id], "warmup", "steps"),
        f"the warm-up takes {warmup:,} steps and the training ends after {about}{steps:,}: {size.rows:,} rows, "
        f"{settings['batch']['size']:,} {settings['batch']['unit']} a step",
        "shorten the warm-up, for example `warmup: {ratio: 0.1}`",
        because=[("data",), ("targets",), *((*TRAINED_AT[id][:-1], key) for key in ("batch", "stopping"))],
    )


def check_shares(plan: Mapping[str, Any], reporter: Reporter) -> None:
    """Reports W583: a share of the targets draws none of the rows, whose number is known."""
    mix = next((stage for stage in plan["stages"] if stage["id"] == "targets"), None)
    train = next(stage for stage in plan["stages"] if stage["id"] == "train")
    size = None if mix is None else data_size(plan, rows_of(plan, train))
    if mix is None or size is None:
        return
    shares = mix["settings"].get("shares", {})
    for i, name in enumerate(mix["settings"]["targets"]):
        if name in shares and not share_rows(size.rows, shares[name]):
            about = "about " if size.origin == "files" else ""
            reporter.warning(
                "W583",
                ("targets", i),
                f"a share of {shares[name]:g} draws no row of `{name}`: there are {about}{size.rows:,}",
                f"write a share of {1 / size.rows:.1g} or more, or leave `{name}` out",
            )


TRAINED_AT: Mapping[str, Trail] = {"train": ("training",), "teacher-train": ("teacher", "train", "training")}


def check_stacks(experiment: Experiment, teacher: Architecture, reporter: Reporter) -> None:
    """Reports E527: a term of the loss that compares what the models do not have."""
    if teacher.decoder_layers:
        return
    loss = experiment.training.loss
    for term, names in (("hidden", ("decoder",)), ("attention", ("decoder_self", "decoder_cross"))):
        for name in names:
            if getattr(getattr(loss, term), name, 0):
                reporter.error(
                    "E527",
                    ("loss", term, name),
                    f"a {teacher.family} model has no decoder to compare",
                    f"write `{term}: {{{'encoder' if term == 'hidden' else 'encoder_self'}: ...}}`",
                    at="key",
                )


def check_encoder(experiment: Experiment, teacher: Architecture, reporter: Reporter) -> None:
    """Reports W502: an encoder that has fewer layers than the teacher's and is frozen never learns to do
    without the others (arXiv 2010.13002, Table 6: those encoders were trained)."""
    student = experiment.student
    layers = student.encoder_layers
    if isinstance(student.freeze, str) or "encoder" not in student.freeze or layers is None:
        return
    if layers < teacher.encoder_layers:
        reporter.warning(
            "W502",
            ("student", "freeze", student.freeze.index("encoder")),
            f"a frozen encoder with {layers} of {teacher.encoder_layers} layers never learns to do without the others",
            "write `freeze: auto`: a smaller encoder is then trained",
            because=[("student", "encoder_layers")],
        )


def check_reach(experiment: Experiment, phi: Mapping[Any, Layers | None], reporter: Reporter) -> None:
    """Reports E528: no term of the loss reaches what is trained. A frozen encoder that is the teacher's own has
    nothing to learn, and before a decoder that is all that a term about the encoder looks at."""
    loss = experiment.training.loss
    if phi.get("encoder") is not None or loss.own or loss.labels or loss.logits or loss.cosine or loss.embedding:
        return
    hidden, attention = loss.hidden, loss.attention
    if (hidden and hidden.decoder) or (attention and (attention.decoder_self or attention.decoder_cross)):
        return
    if hidden or attention:
        reporter.error(
            "E528",
            ("loss",),
            "no term of the loss reaches what is trained: the encoder is the teacher's own, and frozen",
            "add a term about the decoder, such as `labels: 1.0`, or write `student: {freeze: none}`",
            at="key",
            because=[("student",)],
        )


def check_label_lengths(labeller: Labeller, path: Trail, model: Architecture, reporter: Reporter) -> None:
    """Reports E513 for a labeller that would read or write more than its positions hold."""
    limit = model.max_positions
    for where, length in (
        ((*path, "max_source_tokens"), labeller.max_source_tokens),
        ((*path, "generation", "max_length"), labeller.generation.max_length),
    ):
        if limit is not None and length is not None and length > limit:
            reporter.error(
                "E513",
                where,
                f"{where[-1]} is {length}; the {model.family} labeller has positions for {limit} tokens",
                f"write {limit} or less",
            )
