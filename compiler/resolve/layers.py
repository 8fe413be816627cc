"""Which teacher layers a student is made of, and which ones supervise it.

Layers are 0-based; a layer is named by its position in its own stack and φ is defined on layer *outputs*
(the embedding output is no layer). The published tables are kept verbatim: no single formula reproduces
them. Beyond them a documented formula decides, and every answer says which of the two it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ..diagnostics.diagnostic import listed
from ..diagnostics.record import record

# teacher depth -> student depth -> copied teacher layers (arXiv 2010.13002 section 3.1 and its code).
COPY_TABLES: dict[int, dict[int, tuple[int, ...]]] = {
    12: {
        1: (0,),
        2: (0, 6),
        3: (0, 6, 11),
        4: (0, 4, 8, 11),
        6: (0, 2, 4, 7, 9, 11),
        9: (0, 1, 2, 4, 5, 7, 9, 10, 11),
        12: tuple(range(12)),
    },
    16: {
        1: (0,),
        2: (0, 15),
        3: (0, 8, 15),
        4: (0, 5, 10, 15),
        6: (0, 3, 6, 9, 12, 15),
        8: (0, 2, 4, 6, 8, 10, 12, 15),
        9: (0, 1, 3, 5, 7, 9, 11, 13, 15),
        12: (0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 13, 15),
        16: tuple(range(16)),
    },
    6: {1: (0,), 2: (0, 5), 3: (0, 2, 5), 4: (0, 1, 3, 5), 6: tuple(range(6))},
}

# teacher depth -> student depth -> φ, the teacher layer whose output supervises each student layer.
PHI_TABLES: dict[int, dict[int, tuple[int, ...]]] = {
    6: {1: (5,), 2: (3, 5), 3: (1, 4, 5), 4: (1, 2, 4, 5)},
    12: {1: (11,), 2: (5, 11), 3: (3, 7, 11), 6: (1, 3, 5, 8, 10, 11)},
    16: {1: (15,), 4: (4, 9, 12, 15), 8: (1, 3, 5, 7, 9, 11, 13, 15)},
}

STRATEGIES = ("spaced", "first", "last", "middle", "all")


@record
class Layers:
    """`layers[i]` is the teacher layer of student layer i; `source` says what decided it."""

    layers: tuple[int, ...]
    source: Literal["table", "formula", "explicit"]


class LayerError(ValueError):
    """A choice of layers that cannot be. `code` is the diagnostic's, `hint` what would be possible, `index`
    the place in an explicit list that it is about (None: the whole choice)."""

    def __init__(self, code: str, message: str, hint: str, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index
        self.code = code
        self.message = message
        self.hint = hint


def choose_copies(teacher_depth: int, student_depth: int, choice: str | Sequence[int], key: str = "layers") -> Layers:
    """The teacher layers that a student stack is copied from. `key` is what messages call the choice.

    `choice`: `spaced` (table, else evenly spaced with both ends kept), `first`, `last`, `middle`, `all`, or
    an explicit list, in which a layer may be repeated.

    Raises `LayerError`: E521 the student is deeper; E522 a layer out of range; E523 a list of another length.
    """
    _require_depth(teacher_depth, student_depth)
    if not isinstance(choice, str):
        return Layers(_explicit(teacher_depth, student_depth, choice, key), "explicit")
    if choice == "all":
        if teacher_depth != student_depth:
            raise LayerError(
                "E523",
                f"`all` copies {teacher_depth} layers, the student has {student_depth}",
                f"give the student {teacher_depth} layers, or choose {listed(STRATEGIES[:-1])}",
            )
        return Layers(tuple(range(teacher_depth)), "formula")
    if choice == "spaced":
        if found := COPY_TABLES.get(teacher_depth, {}).get(student_depth):
            return Layers(found, "table")
        return Layers(spaced_layers(teacher_depth, student_depth), "formula")
    starts = {
        "first": 0,
        "middle": (teacher_depth - student_depth + 1) // 2,  # 12 -> 3 is 5, 6, 7, as in Table 8 of the paper
        "last": teacher_depth - student_depth,
    }
    return Layers(tuple(range(starts[choice], starts[choice] + student_depth)), "formula")


def spaced_layers(teacher_depth: int, student_depth: int) -> tuple[int, ...]:
    """round(i (L - 1) / (L' - 1)), halves to even: first and last layer kept, the others evenly between.
    One layer alone is layer 0, which beat the last one (arXiv 2010.13002 section 3.1)."""
    if student_depth == 1:
        return (0,)
    return tuple(round(i * (teacher_depth - 1) / (student_depth - 1)) for i in range(student_depth))


def choose_phi(
    teacher_depth: int, student_depth: int, choice: str | Sequence[int], copied: Sequence[int] | None, key: str = "phi"
) -> Layers:
    """φ: the teacher layer whose output each student layer learns to reproduce. `key` is what messages call the
    choice.

    `block-ends`: the teacher is cut into as many blocks as the student has layers, layer i learns the end of
    block i (table, else ceil((i + 1) L / L') - 1). `copied-from`: the layer it was copied from, `copied`.
    `every-kth`: i k + k - 1 with k = L / L', which must divide (TinyBERT).

    Raises `LayerError`: E521-E523 as `choose_copies`; E524 a rule that does not apply.
    """
    _require_depth(teacher_depth, student_depth)
    if not isinstance(choice, str):
        return Layers(_explicit(teacher_depth, student_depth, choice, key), "explicit")
    if choice == "copied-from":
        if copied is None:
            raise LayerError(
                "E524",
                "φ `copied-from` needs layers that were copied from the teacher; these come from elsewhere",
                "choose block-ends, or name the teacher layers in a list",
            )
        return Layers(tuple(copied), "explicit")
    if choice == "every-kth":
        if teacher_depth % student_depth:
            possible = [n for n in range(1, teacher_depth + 1) if teacher_depth % n == 0]
            raise LayerError(
                "E524",
                f"φ `every-kth` needs a student depth that divides {teacher_depth}, not {student_depth}",
                f"choose block-ends, or a depth of {listed(map(str, possible))}",
            )
        step = teacher_depth // student_depth
        return Layers(tuple(i * step + step - 1 for i in range(student_depth)), "formula")
    if found := PHI_TABLES.get(teacher_depth, {}).get(student_depth):
        return Layers(found, "table")
    return Layers(block_ends(teacher_depth, student_depth), "formula")


def block_ends(teacher_depth: int, student_depth: int) -> tuple[int, ...]:
    """ceil((i + 1) L / L') - 1: the last layer of each of L' consecutive blocks (arXiv 2010.13002, 3.1)."""
    return tuple(-(-(i + 1) * teacher_depth // student_depth) - 1 for i in range(student_depth))


def _require_depth(teacher_depth: int, student_depth: int) -> None:
    if student_depth > teacher_depth:
        raise LayerError(
            "E521",
            f"the student has {student_depth} layers, there are only {teacher_depth} to copy from",
            f"give it 1 to {teacher_depth} layers",
        )


def _explicit(teacher_depth: int, student_depth: int, layers: Sequence[int], key: str) -> tuple[int, ...]:
    if len(layers) != student_depth:
        raise LayerError(
            "E523",
            f"`{key}` names {_counted(len(layers))}, the student has {student_depth}",
            f"name {_counted(student_depth)} of 0 to {teacher_depth - 1}",
        )
    for i, layer in enumerate(layers):
        if not 0 <= layer < teacher_depth:
            raise LayerError(
                "E522",
                f"`{key}` names layer {layer}; the layers are 0 to {teacher_depth - 1}",
                "layers are counted from 0",
                index=i,
            )
    return tuple(layers)


def _counted(layers: int) -> str:
    return "1 layer" if layers == 1 else f"{layers} layers"
