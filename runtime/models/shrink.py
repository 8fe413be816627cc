"""A teacher -> a student with fewer layers, every copied weight proven to be its source's.

Weights go by parameter name through state dicts, never by moving modules: a moved layer keeps its old cache
index and breaks generation, and a layer that is listed twice would be one layer. What is left of the
teacher's data type, tying and block-0 bias is handled here. Source: domain facts 1, 11.2, 11.4.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..failure import Failure
from ..plan.settings import StackInit, StudentSettings
from ..protocol import Family, Stack
from .build import check_names, construct
from .families import (
    Place,
    count_parameters,
    depths,
    family_of,
    head_is_tied,
    name_in,
    parameter_name,
    place,
)

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class CopiedLayer:
    """Student layer `layer` of `stack` is layer `origin_layer` of the model in role `origin`.

    `sha256` is of its weights, without what only layer 0 owns.
    """

    stack: Stack
    layer: int
    origin: str
    origin_layer: int
    sha256: str


@dataclass(frozen=True)
class ShrinkReport:
    """What was built and what was copied."""

    parameters: int
    encoder_layers: int
    decoder_layers: int
    copied: tuple[CopiedLayer, ...]


def shrink(teacher: Any, settings: StudentSettings, origins: Mapping[str, Any]) -> tuple[Any, ShrinkReport]:
    """The student of the settings, in fp32, in train mode, on the CPU.

    `origins`: role -> model that layers are taken from, the teacher among them. Layers that no origin gives, and
    what is outside of the layers when `embeddings` is random, or where that model has no such thing, are drawn with
    `settings.seed`; so is a head over classes that is not the teacher's.

    Raises `Failure` R227 (widths), R229 (what was built is not the plan's), R241 (an impossible copy).
    """
    family = family_of(settings.family)
    inits: dict[Stack, StackInit] = {stack: getattr(settings, stack) for stack in family.stacks}
    _check_inits(teacher, family, settings, inits, origins)
    student = construct(family, _config(family, teacher, settings), settings.seed or 0,
                        own_head=not head_is_tied(teacher), num_labels=settings.num_labels)
    states = {role: model.state_dict() for role, model in origins.items()}
    outside = origins.get(settings.embeddings)  # None: random
    families = {role: family_of(model) for role, model in origins.items()}
    source = _Source(family, outside, outside is teacher, inits, states, families, fold=settings.fold_token_types)
    state = student.state_dict()
    copied = {name: tensor for name in state if (tensor := source.tensor(name)) is not None}
    _check_shapes(state, copied)
    student.load_state_dict({**state, **copied}, strict=True)
    if teacher.can_generate():
        student.generation_config = copy.deepcopy(teacher.generation_config)
    return student, _verify(student, settings, source, copied)


class _Source:
    """Which tensor of which model a student's tensor is copied from."""

    def __init__(self, family: Family, outside: Any, with_classes: bool, inits: Mapping[Stack, StackInit],
                 states: Mapping[str, State], families: Mapping[str, Family], *, fold: bool) -> None:
        """`family`: of the student; `outside`: the model that gives what is outside of the layers, its head over
        classes only `with_classes`; `families`: of the models in `states`; `fold`: `fold_token_types`."""
        self.fold = fold
        self.family = family
        self.families = families
        self.of_outside = None if outside is None else family_of(outside)
        self.outside: State = {} if outside is None else outside.state_dict()
        self.with_classes = with_classes
        self.inits = inits
        self.states = states

    def tensor(self, name: str) -> Tensor | None:
        """The source of a student's tensor; None: it stays as it was drawn."""
        found = place(self.family, name)
        if found is None:
            tensor = self._outside(name)
            if not self.fold or self.of_outside is None or name != _positions(self.family) or tensor is None:
                return tensor
            return tensor + self.outside[_TOKEN_TYPES.format(self.of_outside.stacks["encoder"])][0]
        init = self.inits[found.stack]
        if init.origin is None or init.layers is None:
            return None
        # What only layer 0 owns (T5's position bias) is the origin's layer 0's, whichever layer is copied.
        index = 0 if found.name in self.family.first_layer_only else init.layers[found.layer]
        return self.layer_tensor(init.origin, Place(found.stack, index, found.name))

    def _outside(self, name: str) -> Tensor | None:
        """The teacher has all that its family has; another model may have the head of another task."""
        if self.of_outside is None:
            return None
        classifier, theirs = self.family.classifier, name_in(self.family, self.of_outside, name)
        if self.with_classes:
            return None if theirs is None else self.outside[str(theirs)]
        of_classes = classifier is not None and name.startswith(f"{classifier.linear}.")
        return None if of_classes else self.outside.get(str(theirs))

    def layer_tensor(self, origin: str, found: Place) -> Tensor:
        """What the student calls so, of a model that layers are taken from."""
        family = self.families[origin]
        theirs = name_in(self.family, family, found)
        assert isinstance(theirs, Place)  # a family takes whole layers
        return self.states[origin][parameter_name(family, theirs)]


_TOKEN_TYPES = "{}.embeddings.token_type_embeddings.weight"


def _positions(family: Family) -> str:
    return f"{family.stacks['encoder']}.{family.positions}.weight"


def _config(family: Family, teacher: Any, settings: StudentSettings) -> dict[str, Any]:
    check_names(family, settings.config)
    of_teacher = family_of(teacher)
    config: dict[str, Any] = teacher.config.to_dict()
    if family is not of_teacher:
        config = {ours: config[theirs] for ours, theirs in family.takes[of_teacher.model_type].config.items()}
    for name in ("dtype", "model_type", "architectures", "transformers_version"):
        config.pop(name, None)
    config.update(settings.config)
    config.update({family.depths[stack]: depth for stack, depth in _planned_depths(family, settings).items()})
    return config


def _planned_depths(family: Family, settings: StudentSettings) -> dict[Stack, int]:
    """Layers of each stack that the family has."""
    return {stack: getattr(settings, f"{stack}_layers") for stack in family.stacks}


def _fits(family: Family, other: Family) -> bool:
    return family is other or other.model_type in family.takes


def _check_inits(teacher: Any, family: Family, settings: StudentSettings, inits: Mapping[Stack, StackInit],
                 origins: Mapping[str, Any]) -> None:
    if not _fits(family, family_of(teacher)):
        raise _impossible(f"a {family.model_type} student cannot be made of a {family_of(teacher).model_type} teacher",
                          "student")
    for stack, depth in _planned_depths(family, settings).items():
        init = inits[stack]
        if init.origin is None or init.layers is None:
            continue
        origin = origins[init.origin]
        if not _fits(family, family_of(origin)):
            raise _impossible(f"{stack} layers of a {family_of(origin).model_type} model do not fit a "
                              f"{family.model_type} student", f"student.init.{stack}.from")
        if len(init.layers) != depth:
            raise _impossible(f"{len(init.layers)} {stack} layers are listed, the student has {depth}",
                              f"student.init.{stack}.layers")
        available = depths(origin)[stack]
        for index in init.layers:
            if not 0 <= index < available:
                raise _impossible(f"there is no {stack} layer {index}: the origin has 0 to {available - 1}",
                                  f"student.init.{stack}.layers")


def _check_shapes(state: State, copied: State) -> None:
    for name, tensor in copied.items():
        if state[name].shape != tensor.shape:
            raise _impossible(f"{name} is {list(state[name].shape)} in the student and {list(tensor.shape)} "
                              "where it is copied from", "student")


def _verify(student: Any, settings: StudentSettings, source: _Source, copied: State) -> ShrinkReport:
    """Read back what was built. Raises `Failure` R229 on any difference."""
    built, parameters = depths(student), count_parameters(student)
    for stack, depth in _planned_depths(source.family, settings).items():
        if built[stack] != depth:
            raise _not_the_plans(f"{built[stack]} {stack} layers were built, the plan says {depth}")
    if parameters != settings.parameters:
        raise _not_the_plans(f"the student has {parameters:,} parameters, not {settings.parameters:,}")
    state = student.state_dict()
    # Outside the layers tensors share memory under several names: one copy may have overwritten another.
    for name, tensor in copied.items():
        if not torch.equal(state[name], tensor.to(state[name].dtype)):
            raise _not_the_plans(f"{name} is not what it was copied from")
    copied_layers = tuple(_copied_layers(state, source))
    return ShrinkReport(parameters, built.get("encoder", 0), built.get("decoder", 0), copied_layers)


def _copied_layers(state: State, source: _Source) -> Iterator[CopiedLayer]:
    for stack, init in source.inits.items():
        if init.origin is None or init.layers is None:
            continue
        for layer, origin_layer in enumerate(init.layers):
            found = _layer(source.family, state, stack, layer)
            is_now = _checksum(found)
            was = _checksum(
                {name: source.layer_tensor(init.origin, Place(stack, origin_layer, name)) for name in found}
            )
            if is_now != was:
                raise _not_the_plans(f"{stack} layer {layer} is not {init.origin}'s layer {origin_layer}")
            yield CopiedLayer(stack, layer, init.origin, origin_layer, is_now)


def _layer(family: Family, state: State, stack: Stack, layer: int) -> dict[str, Tensor]:
    """The tensors of a layer by their names in it, without what only layer 0 owns."""
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        where = place(family, name)
        if where is not None and where[:2] == (stack, layer) and where.name not in family.first_layer_only:
            found[where.name] = tensor
    return found


def _checksum(found: State) -> str:
    """sha256 over the names and fp32 values of a layer, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(found):
        tensor = found[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name} {list(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _impossible(message: str, spec_path: str) -> Failure:
    return Failure("R241", message, "change student.init or the student's sizes", spec_path=spec_path)


def _not_the_plans(message: str) -> Failure:
    return Failure("R229", message, "compile the spec again; if it stays, please report this")
