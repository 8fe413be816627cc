"""(f) What the student is made of, parameter by parameter, from the artifacts as they lie there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..models.families import depths, family_of, stacks
from ..models.load import load_model, model_folder
from ..plan.settings import StackInit
from ..protocol import Stack
from .proof import Proof, exempt, held
from .subject import Subject

State = Mapping[str, Tensor]

# What DistilBERT calls the parts of BERT, as the code of arXiv 1910.01108 has it; token types and pooler have no name.
OF_BERT = (
    ("bert.encoder.layer.", "distilbert.transformer.layer."), ("bert.embeddings.token_type_embeddings.", ""),
    ("bert.pooler.", ""), ("bert.embeddings.", "distilbert.embeddings."), ("attention.self.query", "attention.q_lin"),
    ("attention.self.key", "attention.k_lin"), ("attention.self.value", "attention.v_lin"),
    ("attention.output.dense", "attention.out_lin"), ("attention.output.LayerNorm", "sa_layer_norm"),
    ("intermediate.dense", "ffn.lin1"), ("output.dense", "ffn.lin2"), ("output.LayerNorm", "output_layer_norm"),
    ("cls.predictions.transform.dense", "vocab_transform"),
    ("cls.predictions.transform.LayerNorm", "vocab_layer_norm"), ("cls.predictions.decoder", "vocab_projector"),
)  # fmt: skip


OF_DISTILBERT = "pre_classifier."  # before its classes; not BERT's pooler, and drawn


def prove_copies(subject: Subject) -> Iterator[Proof]:
    """Each copied layer, what only block 0 of T5 has, what is outside of the layers, the generation config."""
    settings = subject.student_settings
    student = load_model(model_folder(subject.inputs["model"]))
    models = {role: load_model(model_folder(folder)) for role, folder in subject.origins.items()}
    for stack in stacks(student):
        init: StackInit = getattr(settings, stack)
        if init.origin is None:
            yield exempt("f", f"{stack} layers", "drawn at random, as the plan says")
            continue
        yield _layers(subject, student, models[init.origin], stack, init)
    teacher = models["teacher"]
    folded = settings.fold_token_types
    if settings.embeddings == "teacher":
        defect = _outside(student, teacher, folded=folded)
        yield held("f", "embeddings, positions, norms and head are the teacher's", defect)
    elif settings.embeddings in models:
        defect = _outside(student, models[settings.embeddings], folded=folded, partly=True)
        yield held("f", "embeddings, positions and norms are the other model's", defect)
    else:
        yield exempt("f", "embeddings, positions, norms and head", "drawn at random, as the plan says")
    yield held("f", "the generation config is the teacher's", _generation(student, teacher))


def _tensors(model: Any, student: Any) -> State:
    """Those of a model, by the names that the student's family has for them."""
    tensors: dict[str, Tensor] = dict(model.state_dict())
    if (family_of(model).model_type, family_of(student).model_type) != ("bert", "distilbert"):
        return tensors
    for theirs, ours in OF_BERT:
        tensors = {name.replace(theirs, ours): tensor for name, tensor in tensors.items() if ours or theirs not in name}
    return tensors


def _layers(subject: Subject, student: Any, origin: Any, stack: Stack, init: StackInit) -> Proof:
    claim = f"{stack} layers are those of the {'teacher' if init.origin == 'teacher' else 'other model'}"
    planned = getattr(subject.plan.copy, stack)
    if planned is None or (init.layers is not None and tuple(planned) != tuple(init.layers)):
        return held("f", claim, f"the plan copies {stack} layers {planned}, its stage {init.layers}")
    if depths(student)[stack] != len(planned):
        return held("f", claim, f"the student has {depths(student)[stack]} {stack} layers, the plan {len(planned)}")
    student_tensors, origin_tensors = student.state_dict(), _tensors(origin, student)
    for layer, source in enumerate(planned):
        name = _unequal(student_tensors, origin_tensors, student, stack, layer, source)
        if name is None:
            continue
        all_layers = range(depths(origin)[stack])
        compare = partial(_unequal, student_tensors, origin_tensors, student, stack, layer)
        others = (j for j in all_layers if compare(j) is None)
        really = next((f"; it is layer {j}" for j in others), "")
        return held("f", claim, f"{stack} layer {layer} is not a copy of layer {source} ({name} differs){really}")
    defect = _first_only(student_tensors, origin_tensors, student, stack)
    return held("f", f"{claim}: {', '.join(map(str, planned))}", defect)


def _unequal(
    student_tensors: State, origin_tensors: State, model: Any, stack: Stack, layer: int, source: int
) -> str | None:
    """The first parameter of a student layer that differs from that of the source layer."""
    family = family_of(model)
    prefix = f"{family.stacks[stack]}.{family.layer_list}."
    own = f"{prefix}{layer}."
    mine = {name.removeprefix(own): tensor for name, tensor in student_tensors.items() if name.startswith(own)}
    if not mine:
        return f"{prefix}{layer}"
    for inner, tensor in mine.items():
        if inner in family.first_layer_only:
            continue
        other = origin_tensors.get(f"{prefix}{source}.{inner}")
        if other is None or not torch.equal(tensor, other):
            return f"{prefix}{layer}.{inner}"
    return None


def _first_only(student_tensors: State, origin_tensors: State, model: Any, stack: Stack) -> str | None:
    """What only layer 0 has (T5's position bias) is layer 0's, whichever layer was copied there."""
    family = family_of(model)
    for inner in family.first_layer_only:
        name = f"{family.stacks[stack]}.{family.layer_list}.0.{inner}"
        if name not in student_tensors or not torch.equal(student_tensors[name], origin_tensors[name]):
            return f"{name} is not that of the origin's layer 0"
    return None


def _outside(student: Any, teacher: Any, *, folded: bool, partly: bool = False) -> str | None:
    """`folded`: a BERT's token types are in the positions; `partly`: its head is one of another task, or is drawn."""
    family = family_of(student)
    inside = tuple(f"{family.stacks[stack]}.{family.layer_list}." for stack in family.stacks)
    tensors = dict(_tensors(teacher, student))
    if folded:
        embeddings = teacher.bert.embeddings
        tensors["distilbert.embeddings.position_embeddings.weight"] = (
            embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]
        )
    another = family_of(teacher) is not family
    for name, tensor in student.state_dict().items():
        if another and name.startswith(OF_DISTILBERT):
            continue
        if partly and not name.startswith(tuple(f"{path}.embeddings." for path in family.stacks.values())):
            continue
        if not name.startswith(inside) and (name not in tensors or not torch.equal(tensor, tensors[name])):
            return f"{name} is not the teacher's"
    return None


def _generation(student: Any, teacher: Any) -> str | None:
    if not student.can_generate() and not teacher.can_generate():
        return None
    student_tensors, origin_tensors = (model.generation_config.to_dict() for model in (student, teacher))
    for name in sorted({*student_tensors, *origin_tensors} - {"transformers_version", "_from_model_config"}):
        if student_tensors.get(name) != origin_tensors.get(name):
            return f"{name} is {student_tensors.get(name)!r}, the teacher's {origin_tensors.get(name)!r}"
    return None
