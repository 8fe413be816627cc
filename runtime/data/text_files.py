"""A file of texts -> the texts in order, each with its place and, where the file has them, its id.

.txt holds one text a line; .jsonl, .json, .csv, .tsv and .parquet hold rows, of which one column is the text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..failure import Failure
from .columns import Column
from .files import LINES, read_file

ID = "id"


@dataclass(frozen=True)
class Texts:
    """`name`: of what holds them, for messages. `places[i]` says where text i stands (`a.jsonl:3`); `ids` None:
    there are none. `column`: the column that the texts were taken from, None in a file of lines. `several`: of the rows
    that have more than one text, all of them; `texts` has the first."""

    name: str
    texts: Sequence[str]
    places: Sequence[str]
    ids: Sequence[str] | None
    column: str | None
    several: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Layout:
    """How a file of texts is read. `column`: that of the texts; None: the first of `usual` that is there, else
    the only column beside the id. `id`: the column of the ids; None: `id`, where the file has it. `option`
    and `id_option`: what the user names them with, for hints."""

    column: str | None
    usual: tuple[str, ...]
    option: str
    id: str | None = None
    id_option: str = "--id-column"
    empty: bool = True  # may a text be empty?
    several: bool = False  # may a row have a list of texts?
    spec_path: str | None = None


def read_texts(path: Path, layout: Layout, fingerprint: str | None = None) -> Texts:
    """The texts of a file, in its order.

    `fingerprint`: the sha256 that the file must have (None: any). Raises `Failure` R201, R202, R206 (as
    `read_file`), R204 (no rows), R361 (no such column, or no text in it), R362 (an id comes twice).
    """
    texts: list[str] = []
    places: list[str] = []
    ids: dict[str, str] = {}  # id -> its place
    several: dict[int, tuple[str, ...]] = {}
    column: Column | None = None
    id_column: Column | None = None
    for where, row in read_file(path, fingerprint, layout.spec_path, lines=True):
        if path.suffix.lower() == LINES:
            if not layout.empty and not row.strip():
                raise Failure("R361", f"{where}: the line is empty", "remove it, or fill it in",
                              spec_path=layout.spec_path)  # fmt: skip
            texts.append(row)
        else:
            if column is None:
                column, id_column = _columns(row, where, layout)
            if id_column is not None:
                id = id_column.text(row, where, number=True)
                if id in ids:
                    raise Failure("R362", f"{where}: the id {id!r} was in {ids[id]} already", "ids must be unique",
                                  spec_path=layout.spec_path)  # fmt: skip
                ids[id] = where
            value = column.value(row, where)
            value = repr(value) if isinstance(value, float) else value  # of a regression
            of_row = value if layout.several and isinstance(value, list) and value else [value]
            found = tuple(column.checked(text, where, number=True, empty=layout.empty) for text in of_row)
            if len(found) > 1:
                several[len(texts)] = found
            texts.append(found[0])
        places.append(where)
    if not texts:
        raise Failure("R204", f"{path} has no rows", "is it the right file?", spec_path=layout.spec_path)
    name = None if column is None else column.name
    return Texts(str(path), texts, places, None if id_column is None else list(ids), name, several)


def _columns(row: Any, where: str, layout: Layout) -> tuple[Column, Column | None]:
    """The columns of the texts and of the ids (None: there is none), chosen by the first row."""
    choose = f"name a column of texts with {layout.option}"
    texts = Column(layout.column or "", "R361", layout.spec_path, choose)
    if not isinstance(row, Mapping):
        texts.value(row, where)
    id = layout.id or (ID if ID in row else None)
    ids = None
    if id is not None:
        ids = Column(id, "R361", layout.spec_path, f"name the column of ids with {layout.id_option}")
    if layout.column is not None:
        return texts, ids
    usual = [name for name in layout.usual if name in row]
    others = [str(name) for name in row if name != (layout.id or ID)]
    if not usual and len(others) != 1:
        raise texts.failure(
            where,
            f"which column holds the texts? There is none called {' or '.join(layout.usual)}; the columns are "
            f"{', '.join(map(str, row))}",
            choose,
        )
    return replace(texts, name=usual[0] if usual else others[0]), ids
