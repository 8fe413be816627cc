"""A file of texts -> the texts in order, each with its place and, where the file has them, its id.

.txt holds one text a line; .jsonl, .json, .csv, .tsv and .parquet hold rows, of which one column is the text.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..failure import Failure
from .files import SUFFIXES, check_content, not_read, read_file, text_lines
from .sources import find_cell

LINES = ".txt"
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
    spec_path: str = ""


def read_texts(path: Path, layout: Layout, fingerprint: str | None = None) -> Texts:
    """The texts of a file, in its order.

    `fingerprint`: the sha256 that the file must have (None: any). Raises `Failure` R201, R202, R206 (as
    `read_file`), R204 (no rows), R361 (no such column, no text in it, or an empty id), R362 (an id comes twice).
    """
    rows: Iterable[tuple[str, Any]]
    if path.suffix.lower() not in (LINES, *SUFFIXES):
        raise not_read(path, (LINES, *SUFFIXES), layout.spec_path or None)
    if path.suffix.lower() == LINES:
        rows = _numbered_lines(path, fingerprint, layout.spec_path)
    else:
        rows = read_file(path, fingerprint, layout.spec_path)
    texts: list[str] = []
    places: list[str] = []
    ids: list[str] = []
    several: dict[int, tuple[str, ...]] = {}
    column = id_column = None
    for where, row in rows:
        if isinstance(row, str) and path.suffix.lower() == LINES:
            texts.append(_checked(row, where, "the line", layout))
        else:
            if not isinstance(row, Mapping):
                raise _wrong(f"{where}: a row must be an object with columns, not {type(row).__name__}",
                             'one JSON object a line: {"id": "1", "text": "..."}', layout)  # fmt: skip
            if not texts:
                id_column = layout.id or (ID if ID in row else None)
            if id_column is not None:
                ids.append(_id(row, id_column, where, layout))
            if column is None:
                column = _text_column(row, where, layout)
            value = _cell(row, column, where, layout, _name_texts(layout))
            if layout.several and isinstance(value, list) and value:
                of_row = tuple(_checked(text, where, f"the column {column!r}", layout) for text in value)
                if len(of_row) > 1:
                    several[len(texts)] = of_row
                value = of_row[0]
            texts.append(_checked(value, where, f"the column {column!r}", layout))
        places.append(where)
    if not texts:
        raise Failure("R204", f"{path} has no rows", "is it the right file?", spec_path=layout.spec_path or None)
    _require_unique(ids, places, layout)
    return Texts(str(path), texts, places, ids if id_column is not None else None, column, several)


def _numbered_lines(path: Path, fingerprint: str | None, spec_path: str) -> Iterator[tuple[str, str]]:
    try:
        if fingerprint is not None:
            check_content(path, fingerprint, spec_path)
        for number, line in enumerate(text_lines(path, spec_path), start=1):
            yield f"{path}:{number}", line.rstrip("\r\n")
    except OSError as error:
        raise Failure(
            "R201", f"cannot read {path}: {error.strerror or error}", "is it there, and may you read it?",
            spec_path=spec_path or None,
        ) from error  # fmt: skip


def _text_column(row: Mapping[str, Any], where: str, layout: Layout) -> str:
    if layout.column is not None:
        return layout.column
    for name in layout.usual:
        if name in row:
            return name
    others = [name for name in row if name != (layout.id or ID)]
    if len(others) == 1:
        return str(others[0])
    raise _wrong(
        f"{where}: which column is meant? There is none called {' or '.join(layout.usual)}; the columns are "
        f"{', '.join(map(str, row))}",
        _name_texts(layout),
        layout,
    )


def _id(row: Mapping[str, Any], name: str, where: str, layout: Layout) -> str:
    """The id of a row: a text, or a whole number."""
    name_ids = f"name the column of ids with {layout.id_option}"
    value = _cell(row, name, where, layout, name_ids)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise _wrong(f"{where}: the id is empty (column {name!r})", f"fill it in, or {name_ids}", layout)
    if not isinstance(value, str):
        raise _wrong(f"{where}: the column {name!r} holds {_kind(value)}, not an id", name_ids, layout)
    return _unicode(value, where, f"the column {name!r}", layout)


def _cell(row: Mapping[str, Any], name: str, where: str, layout: Layout, hint: str) -> Any:
    there, value = find_cell(row, name)
    if not there:
        near = difflib.get_close_matches(name, map(str, row), n=1)
        raise _wrong(
            f"{where}: there is no column {name!r}; the columns are {', '.join(map(str, row))}",
            f"did you mean {near[0]!r}? {hint}" if near else hint,
            layout,
        )
    return value


def _checked(value: Any, where: str, what: str, layout: Layout) -> str:
    """A text; a whole number is one too, as the name of a label."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise _wrong(f"{where}: {what} holds {_kind(value)}, not text", _name_texts(layout), layout)
    if not layout.empty and not value.strip():
        raise _wrong(f"{where}: {what} is empty", "remove the row, or fill it in", layout)
    return _unicode(value, where, what, layout)


def _unicode(value: str, where: str, what: str, layout: Layout) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _wrong(f"{where}: {what} holds half a character (\\u{ord(value[error.start]):04x})",
                     "a text was cut inside an escaped character; mend the row", layout) from error  # fmt: skip
    return value


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__


def _name_texts(layout: Layout) -> str:
    return f"name a column of texts with {layout.option}"


def _wrong(message: str, hint: str, layout: Layout) -> Failure:
    return Failure("R361", message, hint, spec_path=layout.spec_path or None)


def _require_unique(ids: Sequence[str], places: Sequence[str], layout: Layout) -> None:
    seen: dict[str, str] = {}
    for id, place in zip(ids, places, strict=False):
        if id in seen:
            raise Failure("R362", f"{place}: the id {id!r} was in {seen[id]} already", "ids are unique",
                          spec_path=layout.spec_path or None)  # fmt: skip
        seen[id] = place
