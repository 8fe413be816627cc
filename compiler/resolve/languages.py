"""What the tokenizer of a model does with a language: a code in every sequence (mBART), a token before the source (a
Marian model that writes several languages), or nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from os.path import isfile
from pathlib import Path
from typing import Any, Literal

from ..diagnostics.record import record
from ..extensions.builtin_families import Family

_LINE_BREAK = b"<n>"
_TOKEN = re.compile(r">>(.+)<<\Z")


@record
class Languages:
    """kind codes: sequences have the codes of their languages. tokens: a source begins with the token of the target's;
    `known`: of which ones, None: its vocabulary is not here. none: to this tokenizer languages mean nothing."""

    kind: Literal["codes", "tokens", "none"]
    known: tuple[str, ...] | None = None

    def prefix(self, language: str | None) -> str:
        """What a source begins with, so that the model writes this language."""
        return f">>{language}<< " if self.known is not None and language in self.known else ""


NO_LANGUAGES = Languages("none")


def languages_of(family: Family, folder: Path | None, config: Mapping[str, Any]) -> Languages:
    """Of a model of this family. `folder`: its own; None: there is none, or what is in it is not known."""
    if family.languages == "tokens":
        vocabulary = {} if folder is None else _json(folder / "vocab.json")
        if not vocabulary:
            return Languages("tokens")
        known = tuple(found[1] for token in vocabulary if (found := _TOKEN.match(token)))
        return Languages("tokens", known) if known else NO_LANGUAGES
    if family.languages != "codes":
        return NO_LANGUAGES
    said = {} if folder is None else _json(folder / "tokenizer_config.json")
    kind = str(said.get("tokenizer_class") or config.get("tokenizer_class") or "MBartTokenizer")
    return Languages("codes") if kind.startswith("MBart") else NO_LANGUAGES


def has_line_break(family: Family, folder: Path | None) -> bool:
    """Does a model of this family write `<n>` for a line break? Pegasus's checkpoints do; one that was built from
    scratch has no such token. `folder`: as of `languages_of`."""
    if not family.line_break:
        return False
    files = [file for name in ("tokenizer.json", "spiece.model") if folder and isfile(file := folder / name)]
    return not files or any(_LINE_BREAK in file.read_bytes() for file in files)


def _json(file: Path) -> Mapping[str, Any]:
    """A mapping of a file; empty: there is none that can be read."""
    try:
        found = json.loads(file.read_bytes()) if isfile(file) else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, Mapping) else {}
