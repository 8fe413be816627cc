"""Which layers of which models the stacks of a student are copied from, and whether they fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ..diagnostics.diagnostic import Reporter, Trail, listed
from ..diagnostics.record import record
from ..extensions.families import FAMILIES
from ..spec.experiment import Experiment, LayerOrigin, OutsideOrigin
from .architecture import Architecture
from .fingerprint import Fingerprints
from .heads import as_origin
from .layers import LayerError, Layers, choose_copies
from .reference import ResolvedModel, resolve_reference, use_of
from .site import Site

Stack = Literal["encoder", "decoder"]
STACKS: tuple[Stack, Stack] = ("encoder", "decoder")
OUTSIDE: Literal["embeddings"] = "embeddings"  # of the layers: what a spec calls it
Origin = Stack | Literal["embeddings"]


@record
class Copies:
    """`layers` by stack; None: random weights, or no such stack. `origins`: the models other than the teacher
    that layers come from, by stack, and under `embeddings` that of what is outside of them. `impossible`: the stacks
    that something was reported about."""

    layers: Mapping[Stack, Layers | None]
    origins: Mapping[Origin, ResolvedModel]
    impossible: tuple[Stack, ...]


def resolve_copies(
    experiment: Experiment,
    student: Architecture,
    teacher: Architecture,
    reporter: Reporter,
    site: Site,
    fingerprints: Fingerprints | None,
    made: Mapping[Trail, ResolvedModel] | None = None,
) -> Copies:
    """Reports E505 (widths), E521-E523 (layers), E525 (copies between widths), E526 (copies between families),
    and what `resolve_reference` does."""
    layers: dict[Stack, Layers | None] = dict.fromkeys(STACKS)
    origins: dict[Origin, ResolvedModel] = {}
    fits = _widths_fit(experiment, student, teacher, reporter)
    outside = experiment.student.init.embeddings
    if fits and isinstance(outside, OutsideOrigin):
        path: Trail = ("student", "init", OUTSIDE, "from")
        origin = resolve_reference(outside.from_, path, reporter, site, fingerprints, use_of(experiment), made)
        if origin is None or not _outside_fits(student, origin.architecture, path, reporter):
            fits = False
        else:
            origins[OUTSIDE] = as_origin(experiment, origin)
    impossible = [] if fits else list(stacks_of(student))
    for stack in stacks_of(student):
        init = layer_origin(experiment, stack)
        if init is None or not fits:
            if not _depth_fits(stack, student, teacher, reporter):
                impossible.append(stack)
            continue
        source = teacher
        if init.from_ is not None:
            path = ("student", "init", stack, "from")
            origin = resolve_reference(init.from_, path, reporter, site, fingerprints, use_of(experiment), made)
            if origin is None:
                impossible.append(stack)
                continue
            origins[stack], source = as_origin(experiment, origin), origin.architecture
        layers[stack] = _copies(stack, init, student, source, reporter)
        if layers[stack] is None:
            impossible.append(stack)
    return Copies(layers, origins, tuple(impossible))


def stacks_of(architecture: Architecture) -> tuple[Stack, ...]:
    """The stacks that a model has."""
    return ("encoder",) if architecture.encoder_only else STACKS


def depth(architecture: Architecture, stack: Stack) -> int:
    """The layers of a stack."""
    return architecture.encoder_layers if stack == "encoder" else architecture.decoder_layers


def layer_origin(experiment: Experiment, stack: Stack) -> LayerOrigin | None:
    """Where the layers of a stack come from; None: they are random."""
    init = experiment.student.init.encoder if stack == "encoder" else experiment.student.init.decoder
    return init if isinstance(init, LayerOrigin) else None


def _widths_fit(experiment: Experiment, student: Architecture, teacher: Architecture, reporter: Reporter) -> bool:
    path = ("student", "d_model" if experiment.student.d_model is not None else "heads")
    if not FAMILIES[student.family].own_head_width and student.d_model % student.encoder_heads:
        reporter.error(
            "E505",
            path,
            f"d_model {student.d_model} is not divisible by {student.encoder_heads} heads",
            "d_model must be a multiple of heads",
            because=SHAPE,
        )
        return False
    if FAMILIES[student.family].positions == "sinusoidal" and student.d_model % 2:
        reporter.error(
            "E505",
            path,
            f"d_model {student.d_model} is odd; sinusoidal positions need an even width",
            f"choose {student.d_model + 1}",
            because=SHAPE,
        )
        return False
    if experiment.student.init.embeddings == "teacher" and student.d_model != teacher.d_model:
        reporter.error(
            "E525",
            ("student", "d_model"),
            f"embeddings of width {teacher.d_model} cannot be copied into width {student.d_model}",
            f"write `init: {{embeddings: random, {', '.join(f'{stack}: random' for stack in stacks_of(student))}}}`, "
            "or leave d_model out",
            because=[("student", "init", "embeddings")],
        )
        return False
    return True


def _depth_fits(stack: Stack, student: Architecture, teacher: Architecture, reporter: Reporter) -> bool:
    try:
        choose_copies(depth(teacher, stack), depth(student, stack), "spaced")
    except LayerError as error:
        here = ("student", f"{stack}_layers")
        reporter.error(error.code, here, error.message, error.hint, because=about_layers(stack))
        return False
    return True


SHAPE: tuple[Trail, ...] = (("student", "family"), ("student", "d_model"), ("student", "heads"), ("student", "ffn_dim"))


def about_layers(stack: Stack) -> list[Trail]:
    """What a judgement about the layers of a stack rests on, of a student."""
    return [("student", f"{stack}_layers"), ("student", "init", stack)]


def _outside_fits(student: Architecture, source: Architecture, path: Trail, reporter: Reporter) -> bool:
    """Has what is outside of a model's layers its place in the student?"""
    possible = (student.family, *FAMILIES[student.family].takes_layers_of)
    if source.family not in possible:
        reporter.error(
            "E526",
            path,
            f"embeddings of a {source.family} model cannot be copied into a {student.family} student",
            f"name a {listed(possible)} model, or write `embeddings: random`",
            because=[("student", "family")],
        )
        return False
    for name, ours, theirs in (
        ("d_model", student.d_model, source.d_model),
        ("vocabulary", student.vocab_size, source.vocab_size),
        ("number of positions", student.max_positions, source.max_positions),
    ):
        if ours != theirs:
            reporter.error(
                "E525",
                path,
                f"embeddings cannot be copied: the {name} is {ours} in the student and {theirs} in the model they come "
                "from",
                f"name a model whose {name} is {ours}, or write `embeddings: random`",
                because=SHAPE,
            )
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
        wanted = f"{kinds[1] if student.gated else listed(possible)} model"
        wanted += " that is not gated" if source.gated and source.family in possible else ""
        reporter.error(
            "E526",
            here,
            f"layers of a {kinds[0]} model cannot be copied into a {kinds[1]} student",
            f"name a {wanted}, or leave `from` out for the teacher",
            because=[("student", "family")],
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
                because=[*SHAPE, ("student", "init", stack)],
            )
            return None
    try:
        key = f"student.init.{stack}.layers"
        return choose_copies(depth(source, stack), depth(student, stack), init.layers, key)
    except LayerError as error:
        path: Trail = ("student", "init", stack, "layers")
        if error.index is not None:
            path = (*path, error.index)
        if error.code == "E521":
            # The origin is too shallow, or the student too deep: who wrote the number wrote the mistake.
            path = ("student", f"{stack}_layers")
            path = path if own or reporter.written(path) else here
        reporter.error(error.code, path, error.message, error.hint, because=about_layers(stack))
        return None
