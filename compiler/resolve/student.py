"""The student of a run: its shape, which layers it is made of, what supervises it, what stays frozen."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from itertools import pairwise
from typing import Any

from ..diagnostics.diagnostic import Reporter, Trail, listed
from ..diagnostics.record import record
from ..extensions.families import FAMILIES
from ..spec.experiment import Experiment
from ..tasks.task import HEADS
from .architecture import Architecture
from .copies import OUTSIDE, STACKS, Origin, Stack, about_layers, depth, layer_origin, resolve_copies, stacks_of
from .fingerprint import Fingerprints
from .layers import LayerError, Layers, choose_phi
from .reference import ResolvedModel
from .site import Site

PARTS = ("encoder", "embeddings", "positions")


@record
class ResolvedStudent:
    """`copies` and `phi` by stack; None: random weights, or nothing to supervise, or no such stack.
    `origins`: the models other than the teacher that layers come from, by stack, and what is outside of them."""

    architecture: Architecture
    copies: Mapping[Stack, Layers | None]
    phi: Mapping[Stack, Layers | None]
    freeze: tuple[str, ...]
    settings: Mapping[str, Any]
    origins: Mapping[Origin, ResolvedModel] = field(default_factory=dict)

    def shares_encoder_of(self, teacher: Architecture) -> bool:
        """Is its encoder its teacher's own, stored and run once for both?"""
        encoder, embeddings = self.copies["encoder"], self.settings["embeddings"]
        layers, foreign = None if encoder is None else encoder.layers, "encoder" in self.origins
        return shares_encoder(self.freeze, layers, teacher, foreign=foreign, embeddings=embeddings)

    def replaces(self, teacher: Architecture) -> Mapping[Stack, tuple[range, ...]]:
        """The teacher's layers that each layer stands for where layers replace others, by stack: in order, none left
        out, as even as can be. A stack as deep as the teacher's, or frozen, replaces nothing."""
        found: dict[Stack, tuple[range, ...]] = {}
        for stack in stacks_of(self.architecture):
            own, whole = depth(self.architecture, stack), depth(teacher, stack)
            if 0 < own < whole and stack not in self.freeze:
                ends = [index * whole // own for index in range(own + 1)]
                found[stack] = tuple(range(begin, end) for begin, end in pairwise(ends))
        return found


def resolve_student(
    experiment: Experiment,
    teacher: Architecture,
    reporter: Reporter,
    site: Site,
    fingerprints: Fingerprints | None,
    made: Mapping[Trail, ResolvedModel] | None = None,
) -> ResolvedStudent | None:
    """Everything about the student that needs the teacher's shape. `made`: the models of other specs' runs.

    Reports E505 (widths), E521-E524 (layers), E525 (copies between widths), E526 (copies between families), E529 (token
    types that cannot be folded), E532 (a family that the teacher cannot become), E533 (a decoder where there is none),
    and what `resolve_reference` does. None: it reported an error.
    """
    student = experiment.student
    family_fits = _family_fits(experiment, teacher, reporter)
    complete = _no_decoder_is_meant(experiment, teacher, reporter) and family_fits
    # What is wrong with the family hides nothing else: the rest is judged as of a student like its teacher.
    shape = teacher.shrunk(
        family=student.family if family_fits else None,
        encoder_layers=student.encoder_layers or teacher.encoder_layers,
        decoder_layers=student.decoder_layers or teacher.decoder_layers,
        d_model=student.d_model or teacher.d_model,
        heads=student.heads,
        ffn_dim=student.ffn_dim,
    )
    copies = resolve_copies(experiment, shape, teacher, reporter, site, fingerprints, made)
    phi: dict[Stack, Layers | None] = dict.fromkeys(STACKS)
    for stack in stacks_of(shape):
        choice = experiment.phi_encoder if stack == "encoder" else experiment.phi_decoder
        if choice == "copied-from" and stack in copies.impossible:
            continue
        try:
            phi[stack] = _phi(stack, experiment, shape, teacher, copies.layers[stack])
        except LayerError as error:
            too_deep = error.code == "E521"
            path: Trail = ("student", f"{stack}_layers") if too_deep else ("phi", stack)
            if not (too_deep and stack in copies.impossible):  # said before
                path = path if error.index is None else (*path, error.index)
                because = about_layers(stack)
                reporter.error(error.code, path, error.message, error.hint, because=because)
            complete = False
    outside = copies.origins[OUTSIDE].architecture if OUTSIDE in copies.origins else teacher
    complete &= _token_types_fold(experiment, shape, outside, reporter)
    if not complete or copies.impossible:
        return None
    freeze = _freeze(experiment, shape, teacher, copies.layers["encoder"])
    settings = _settings(experiment, shape, teacher, copies.layers)
    return ResolvedStudent(shape, copies.layers, phi, freeze, settings, copies.origins)


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
        f"a {family} student is made of a {listed(possible)} teacher, not of a {teacher.family} one",
        f"remove `family`: the student is then a {teacher.family} model like its teacher",
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


def _token_types_fold(
    experiment: Experiment, student: Architecture, outside: Architecture, reporter: Reporter
) -> bool:
    """Where token types are to be added to positions, there are some that have no place."""
    init = experiment.student.init
    if not init.fold_token_types:
        return True
    if init.embeddings != "random" and outside.family in FAMILIES[student.family].takes_layers_of:
        return True
    reporter.error(
        "E529",
        ("student", "init", "fold_token_types"),
        f"the token types of a {outside.family} model "
        + (
            "are not copied: the embeddings are random"
            if init.embeddings == "random"
            else f"have their own place in a {student.family} student, or there are none"
        ),
        "remove it, or make a DistilBERT of a BERT: `family: distilbert`",
        at="key",
        because=[("student", "family"), ("student", "init", "embeddings"), ("teacher",)],
    )
    return False


def _phi(
    stack: Stack, experiment: Experiment, student: Architecture, teacher: Architecture, copied: Layers | None
) -> Layers | None:
    """φ of a stack. An encoder that is frozen as a full copy of the teacher's has none: it runs once for both
    (arXiv 2010.13002, footnote 6). The encoder of an encoder-only model is all there is."""
    teacher_depth, student_depth = depth(teacher, stack), depth(student, stack)
    init = layer_origin(experiment, stack)
    if stack == "encoder" and not student.encoder_only:
        freeze, layers = _freeze(experiment, student, teacher, copied), None if copied is None else copied.layers
        foreign, embeddings = init is not None and init.from_ is not None, experiment.student.init.embeddings
        if shares_encoder(freeze, layers, teacher, foreign=foreign, embeddings=embeddings):
            return None
    choice = experiment.phi_encoder if stack == "encoder" else experiment.phi_decoder
    own = copied.layers if copied is not None and init is not None and init.from_ is None else None
    return choose_phi(teacher_depth, student_depth, choice, own, f"phi.{stack}")


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
    whole = _is_whole(experiment, teacher, encoder)
    has_positions = student.max_positions is not None
    return (*(["encoder"] if whole else []), "embeddings", *(["positions"] if has_positions else []))


def shares_encoder(
    freeze: Collection[str], copied: Sequence[int] | None, teacher: Architecture, *, foreign: bool, embeddings: object
) -> bool:
    """Is the student's encoder the teacher's, frozen, whole and on the same embeddings, so that it is stored and run
    once for both? `copied`: the teacher layers it is made of; `foreign`: they come from another model; `embeddings`:
    where the student's come from."""
    whole = copied is not None and list(copied) == list(range(teacher.encoder_layers))
    return whole and not foreign and "encoder" in freeze and embeddings == "teacher"


def _is_whole(experiment: Experiment, teacher: Architecture, encoder: Layers | None) -> bool:
    """Is the student's encoder the teacher's, whole and in order?"""
    init = layer_origin(experiment, "encoder")
    return (
        encoder is not None
        and init is not None
        and init.from_ is None
        and encoder.layers == tuple(range(teacher.encoder_layers))
    )


def _settings(
    experiment: Experiment,
    student: Architecture,
    teacher: Architecture,
    copies: Mapping[Stack, Layers | None],
) -> dict[str, Any]:
    stacks: dict[str, Any] = {}
    for stack in STACKS:
        init, layers = layer_origin(experiment, stack), copies[stack]
        if init is None or layers is None:
            stacks[stack] = {"origin": None, "layers": None}
        else:
            role = "teacher" if init.from_ is None else f"{stack}_origin"
            stacks[stack] = {"origin": role, "layers": list(layers.layers)}
    outside = experiment.student.init.embeddings
    embeddings = outside if isinstance(outside, str) else f"{OUTSIDE}_origin"
    random = embeddings != "teacher"  # what another model does not have is drawn
    random |= any(copies[stack] is None for stack in stacks_of(student))
    # DistilBERT's dense layer before the classes is not BERT's pooler: other inputs, another activation.
    random |= student.family != teacher.family and HEADS[student.head].classes
    return {
        "family": student.family,
        "config": student.changes(teacher),
        "encoder_layers": student.encoder_layers,
        "decoder_layers": student.decoder_layers,
        "embeddings": embeddings,
        **({"fold_token_types": True} if experiment.student.init.fold_token_types else {}),
        **stacks,
        "seed": experiment.seed if random else None,
        "num_labels": student.num_labels or None,
        "parameters": student.parameters,
    }
