"""A column of texts or ids in the rows of a file: its value in one row, checked."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..failure import Failure


@dataclass(frozen=True)
class Column:
    """`name`: of the column, or a dotted path into nested ones (`translation.en`). `code` and `spec_path`: of the
    diagnosis when a row has no text there. `choose`: what the user types to name another column."""

    name: str
    code: str
    spec_path: str | None
    choose: str

    def value(self, row: Any, where: str) -> Any:
        """What the row has in this column. `where`: what diagnoses call the row.

        Raises `Failure` R202: the row has no columns at all; `code`: it has others."""
        if not isinstance(row, Mapping):
            raise Failure(
                "R202",
                f"{where}: a row must be an object with columns, not {type(row).__name__}",
                'one JSON object a line, for example {"id": "1", "text": "..."}',
                spec_path=self.spec_path,
            )
        if self.name in row:
            return row[self.name]
        value: Any = row
        for part in self.name.split("."):
            if not isinstance(value, Mapping) or part not in value:
                near = difflib.get_close_matches(self.name, map(str, row), n=1)
                message = f"there is no column {self.name!r}; the columns are {', '.join(map(str, row))}"
                raise self.failure(where, message, f"did you mean {near[0]!r}? {self.choose}" if near else self.choose)
            value = value[part]
        return value

    def text(self, row: Any, where: str, *, number: bool = False, empty: bool = False) -> str:
        """The text of the row in this column. Raises as `value` and `checked`."""
        return self.checked(self.value(row, where), where, number=number, empty=empty)

    def checked(self, value: Any, where: str, *, number: bool = False, empty: bool = False) -> str:
        """A value of this column as a text. `number`: a whole number is one, too; `empty`: so is an empty text.

        Raises `Failure` R202: it holds half of a surrogate pair, which UTF-8 cannot encode; `code`: it is no text."""
        if number and isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not empty and (value is None or (isinstance(value, str) and not value.strip())):
            raise self.failure(where, f"the column {self.name!r} is empty", "remove the row, or fill it in")
        if not isinstance(value, str):
            kind = "null" if value is None else type(value).__name__
            raise self.failure(where, f"the column {self.name!r} holds {kind}, not text", self.choose)
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise Failure(
                "R202",
                f"{where}: the column {self.name!r} holds half a character (\\u{ord(value[error.start]):04x})",
                "a text was cut inside an escaped character; correct the row",
                spec_path=self.spec_path,
            ) from error
        return value

    def failure(self, where: str, message: str, hint: str) -> Failure:
        """The diagnosis of a row that has no text in this column."""
        return Failure(self.code, f"{where}: {message}", hint, spec_path=self.spec_path)
