"""The student of a run: its shape, which layers it is made of, what supervises it, what stays frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .architecture import Architecture
from .diagnostics import Reporter, Trail, listed
from .experiment import Experiment, LayerOrigin
from .families import FAMILIES
from .fingerprint import Fingerprints
from .layers import LayerError, Layers, choose_copies, choose_phi
from .reference import ResolvedModel, resolve_reference, use_of
from .site import Site

Stack = Literal["encoder", "decoder"]
STACKS: tuple[Stack, Stack] = ("encoder", "decoder")
PARTS = ("encoder", "embeddings", "positions")


@dataclass(frozen=True)
class ResolvedStudent:
    """`copies` and `phi` by stack; None: random weights, or nothing to supervise, or no such stack.
    `origins`: the models other than the teacher that layers come from, by stack."""

    architecture: Architecture
    copies: Mapping[Stack, Layers | None]
    phi: Mapping[Stack, Layers | None]
    freeze: tuple[str, ...]
    settings: Mapping[str, Any]
    origins: Mapping[Stack, ResolvedModel] = field(default_factory=dict)


def resolve_student(
    experiment: Experiment,
    teacher: Architecture,
    reporter: Reporter,
    site: Site,
    fingerprints: Fingerprints | None,
) -> ResolvedStudent | None:
    """Everything about the student that needs the teacher's shape.

    Reports E505 (widths), E521-E524 (layers), E525 (copies between widths), E526 (copies between
    families), E532 (a family that the teacher cannot become), E533 (a decoder where there is none), and
    what `resolve_reference` does. None: it reported an error.
    """
    student = experiment.student
    complete = _family_fits(experiment, teacher, reporter)
    complete &= _no_decoder_is_meant(experiment, teacher, reporter)
    if not complete:
        return None
    architecture = teacher.shrunk(
        family=student.family,
        encoder_layers=student.encoder_layers or teacher.encoder_layers,
        decoder_layers=student.decoder_layers or teacher.decoder_layers,
        d_model=student.d_model or teacher.d_model,
        heads=student.heads,
        ffn_dim=student.ffn_dim,
    )
    stacks = _stacks(architecture)
    copies: dict[Stack, Layers | None] = dict.fromkeys(STACKS)
    origins: dict[Stack, ResolvedModel] = {}
    fits = _widths_fit(experiment, architecture, teacher, reporter)
    complete = fits
    for stack in stacks:
        init = _init(experiment, stack)
        if init is None or not fits:
            complete &= _depth_fits(stack, architecture, teacher, reporter)
            continue
        source = teacher
        if init.from_ is not None:
            path = ("student", "init", stack, "from")
            origin = resolve_reference(init.from_, path, reporter, site, fingerprints, use_of(experiment))
            if origin is None:
                complete = False
                continue
            origins[stack], source = origin, origin.architecture
        found = _copies(stack, init, architecture, source, reporter)
        copies[stack] = found
        complete &= found is not None
    if not complete:
        return None
    phi: dict[Stack, Layers | None] = dict.fromkeys(STACKS)
    for stack in stacks:
        try:
            phi[stack] = _phi(stack, experiment, architecture, teacher, copies[stack])
        except LayerError as error:
            reporter.error(error.code, ("phi", stack), error.message, error.hint)
            complete = False
    freeze = _freeze(experiment, architecture, teacher, copies["encoder"])
    if not complete:
        return None
    return ResolvedStudent(
        architecture, copies, phi, freeze, _settings(experiment, architecture, teacher, copies), origins
    )


def _stacks(architecture: Architecture) -> tuple[Stack, ...]:
    return ("encoder",) if architecture.encoder_only else STACKS


def _family_fits(experiment: Experiment, teacher: Architecture, reporter: Reporter) -> bool:
    """Another family than the teacher's takes its layers."""
    family = experiment.student.family
    if family is None or family == teacher.family:
        return True
    possible = FAMILIES[family].takes_layers_of
    if teacher.family in possible:
        return True
    reporter.error(
        "E532",
        ("student", "family"),
        f"a {family} student is made of a {listed(possible)} teacher, this one is a {teacher.family}",
        f"remove `family`: the student is then a {teacher.family} like its teacher",
        because=[("teacher",)],
    )
    return False


def _no_decoder_is_meant(experiment: Experiment, teacher: Architecture, reporter: Reporter) -> bool:
    """Settings of a decoder would be ignored where there is none: they are refused."""
    if not teacher.encoder_only:
        return True
    paths: tuple[Trail, ...] = (("student", "decoder_layers"), ("student", "init", "decoder"), ("phi", "decoder"))
    meant = [path for path in paths if reporter.written(path)]
    for path in meant:
        encoder = "encoder_layers" if path[-1] == "decoder_layers" else "encoder"
        reporter.error(
            "E533",
            path,
            f"a {teacher.family} model has no decoder",
            f"write `{encoder}` instead, or remove it",
            at="key",
            because=[("teacher",)],
        )
    return not meant


def _init(experiment: Experiment, stack: Stack) -> LayerOrigin | None:
    init = experiment.student.init.encoder if stack == "encoder" else experiment.student.init.decoder
    return init if isinstance(init, LayerOrigin) else None


def _widths_fit(experiment: Experiment, student: Architecture, teacher: Architecture, reporter: Reporter) -> bool:
    path = ("student", "d_model" if experiment.student.d_model is not None else "heads")
    if student.layout != "t5" and student.d_model % student.encoder_heads:
        reporter.error(
            "E505",
            path,
            f"d_model {student.d_model} does not divide into {student.encoder_heads} heads",
            "d_model must be a multiple of heads",
        )
        return False
    if FAMILIES[student.family].positions == "sinusoidal" and student.d_model % 2:
        reporter.error(
            "E505",
            path,
            f"d_model {student.d_model} is odd; sinusoidal positions need an even width",
            f"choose {student.d_model + 1}",
        )
        return False
    if experiment.student.init.embeddings == "teacher" and student.d_model != teacher.d_model:
        reporter.error(
            "E525",
            ("student", "d_model"),
            f"embeddings of width {teacher.d_model} cannot be copied into width {student.d_model}",
            f"write `init: {{embeddings: random, {', '.join(f'{stack}: random' for stack in _stacks(student))}}}`, "
            "or leave d_model out",
        )
        return False
    return True


def _depth_fits(stack: Stack, student: Architecture, teacher: Architecture, reporter: Reporter) -> bool:
    try:
        choose_copies(_depth(teacher, stack), _depth(student, stack), "spaced")
    except LayerError as error:
        reporter.error(error.code, ("student", f"{stack}_layers"), error.message, error.hint)
        return False
    return True


def _copies(
    stack: Stack, init: LayerOrigin, student: Architecture, source: Architecture, reporter: Reporter
) -> Layers | None:
    """The layers that a stack is copied from, if its layers have room for them."""
    own = init.from_ is None
    what = "the teacher" if own else "the model they come from"
    here: Trail = ("student", "init", stack, "from")
    possible = (student.family, *FAMILIES[student.family].takes_layers_of)
    if source.family not in possible or source.gated != student.gated:
        kinds = [("gated " if model.gated else "") + model.family for model in (source, student)]
        reporter.error(
            "E526",
            here,
            f"layers of a {kinds[0]} model cannot be copied into a {kinds[1]} student",
            f"name a {kinds[1] if student.gated else listed(possible)} model, or leave `from` out for the teacher",
        )
        return None
    for name, ours, theirs in (
        ("d_model", student.d_model, source.d_model),
        ("ffn_dim", getattr(student, f"{stack}_ffn_dim"), getattr(source, f"{stack}_ffn_dim")),
        ("heads", getattr(student, f"{stack}_heads"), getattr(source, f"{stack}_heads")),
        ("head width", student.head_dim, source.head_dim),
    ):
        if ours != theirs:
            reporter.error(
                "E525",
                ("student", name) if own else here,
                f"{stack} layers cannot be copied: {name} is {ours} in the student and {theirs} in {what}",
                f"write `init: {{{stack}: random}}`, or "
                + (f"leave {name} as it is" if own else f"name a model whose {name} is {ours}"),
            )
            return None
    try:
        return choose_copies(_depth(source, stack), _depth(student, stack), init.layers)
    except LayerError as error:
        path: Trail = ("student", "init", stack, "layers")
        if error.code == "E521":
            # The origin is too shallow, or the student too deep: who wrote the number wrote the mistake.
            path = ("student", f"{stack}_layers")
            path = path if own or reporter.written(path) else here
        reporter.error(error.code, path, error.message, error.hint)
        return None


def _phi(
    stack: Stack, experiment: Experiment, student: Architecture, teacher: Architecture, copied: Layers | None
) -> Layers | None:
    """φ of a stack. An encoder that is as deep as the teacher's has none before a decoder: the decoder is
    what learns (arXiv 2010.13002, footnote 6). The encoder of an encoder-only model is all there is."""
    teacher_depth, student_depth = _depth(teacher, stack), _depth(student, stack)
    if stack == "encoder" and teacher_depth == student_depth and not student.encoder_only:
        return None
    choice = experiment.phi_encoder if stack == "encoder" else experiment.phi_decoder
    init = _init(experiment, stack)
    own = copied.layers if copied is not None and init is not None and init.from_ is None else None
    return choose_phi(teacher_depth, student_depth, choice, own)


def _freeze(
    experiment: Experiment, student: Architecture, teacher: Architecture, encoder: Layers | None
) -> tuple[str, ...]:
    """`auto`: the encoder when it is the teacher's own, whole and in order, reading the teacher's embeddings;
    embeddings and learned positions when they are the teacher's. What is random is never frozen, and nothing
    is of an encoder-only student: it is the part that learns (arXiv 1910.01108)."""
    asked = experiment.student.freeze
    if asked == "none":
        return ()
    if asked != "auto":
        return tuple(part for part in PARTS if part in asked)
    if experiment.student.init.embeddings != "teacher" or student.encoder_only:
        return ()
    init = _init(experiment, "encoder")
    whole = (
        encoder is not None
        and init is not None
        and init.from_ is None
        and encoder.layers == tuple(range(teacher.encoder_layers))
    )
    has_positions = student.max_positions is not None
    return (*(["encoder"] if whole else []), "embeddings", *(["positions"] if has_positions else []))


def _settings(
    experiment: Experiment,
    student: Architecture,
    teacher: Architecture,
    copies: Mapping[Stack, Layers | None],
) -> dict[str, Any]:
    stacks: dict[str, Any] = {}
    for stack in STACKS:
        init, layers = _init(experiment, stack), copies[stack]
        if init is None or layers is None:
            stacks[stack] = {"origin": None, "layers": None}
        else:
            role = "teacher" if init.from_ is None else f"{stack}_origin"
            stacks[stack] = {"origin": role, "layers": list(layers.layers)}
    random = experiment.student.init.embeddings == "random"
    random |= any(copies[stack] is None for stack in _stacks(student))
    # DistilBERT's dense layer before the classes is not BERT's pooler: other inputs, another activation.
    random |= student.family != teacher.family and student.head == "classification"
    return {
        "family": student.family,
        "config": student.changes(teacher),
        "encoder_layers": student.encoder_layers,
        "decoder_layers": student.decoder_layers,
        "embeddings": experiment.student.init.embeddings,
        **stacks,
        "seed": experiment.seed if random else None,
        "num_labels": student.num_labels or None,
        "parameters": student.parameters,
    }


def _depth(architecture: Architecture, stack: Stack) -> int:
    return architecture.encoder_layers if stack == "encoder" else architecture.decoder_layers
