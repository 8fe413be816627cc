"""A diagnosis: what is wrong, where it is written, what to type instead. And how diagnoses are printed.

A path is the way from the root of a spec to a value: `("data", "train", 0, "files")`, written
`data.train[0].files`. Every stage of the compiler reports through a `Reporter`, which knows where each
path was written, so that a message about an inherited value points into the file that wrote it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from .credentials import redact
from .record import record
from .regular_file import real_path

Trail = tuple[str | int, ...]
Severity = Literal["error", "warning"]

MOST_RUNS = 4  # that a message names
WIDTH = 110  # characters of a source line that are shown


@record
class Position:
    """A place in a text, 1-based; columns count characters."""

    file: str
    line: int
    column: int


@record
class Diagnostic:
    """`path` is the dotted path in the spec ("" for none). `chain`: the files that took this one in by
    `extends`, innermost first; `runs`: the runs and variants that it is about, when it is not about all;
    `named_by`: the places where this spec is named for a model of its, the nearest first."""

    code: str
    severity: Severity
    message: str
    hint: str
    file: str
    line: int
    column: int
    path: str
    chain: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    named_by: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """The runs in words; "" for all."""
        if not self.runs:
            return ""
        more = len(self.runs) - MOST_RUNS
        return ", ".join(self.runs[:MOST_RUNS]) + (f" and {more} more" if more > 0 else "")


class CompileError(Exception):
    """Ends a stage early. What it has to say was reported before."""


@dataclass(slots=True)
class Places:
    """Where the keys and the values of a tree were written. `texts`: plain scalars that are no text, as
    they were typed (`0x1F`, `1e5`); `spelled`: paths that were written in a short form -> as written
    (`data.train[0]` -> `data.train`); `chains`: file -> the files that extend it; `locations`: those of files and
    folders as they were typed."""

    keys: dict[Trail, Position] = field(default_factory=dict)
    values: dict[Trail, Position] = field(default_factory=dict)
    texts: dict[Trail, str] = field(default_factory=dict)
    spelled: dict[Trail, Trail] = field(default_factory=dict)
    chains: dict[str, tuple[str, ...]] = field(default_factory=dict)
    locations: dict[Trail, str] = field(default_factory=dict)


class Reporter:
    """Collects the diagnostics about one tree.

    `unreliable` paths hold stand-ins for values that were already refused: what is reported about them,
    or because of them, is dropped, so that one mistake gives one message.
    """

    def __init__(self, places: Places, unreliable: Iterable[Trail] = (), file: str | Path = "") -> None:
        self.places = places
        self.unreliable = tuple(unreliable)
        self.file = str(file)
        self._diagnostics: dict[Diagnostic, None] = {}

    @property
    def diagnostics(self) -> list[Diagnostic]:
        """All so far, each once, by position."""
        return in_order(self._diagnostics)

    @property
    def failed(self) -> bool:
        """Was an error reported?"""
        return any(diagnostic.severity == "error" for diagnostic in self._diagnostics)

    def error(
        self,
        code: str,
        path: Trail,
        message: str,
        hint: str = "",
        *,
        at: Literal["value", "key"] = "value",
        because: Sequence[Trail] = (),
    ) -> None:
        """Report an error at `path`. `because`: the other paths that the judgement rests on."""
        self._report("error", code, path, message, hint, at, because)

    def warning(
        self,
        code: str,
        path: Trail,
        message: str,
        hint: str = "",
        *,
        at: Literal["value", "key"] = "value",
        because: Sequence[Trail] = (),
    ) -> None:
        """Report something that is allowed and probably not meant."""
        self._report("warning", code, path, message, hint, at, because)

    def error_at(self, code: str, place: Position, message: str, hint: str = "", path: Trail = ()) -> None:
        """Report an error at a known place of a text (there is no tree yet)."""
        self._add(Diagnostic(code, "error", message, hint, place.file, place.line, place.column, dotted(path)))

    def warning_at(self, code: str, place: Position, message: str, hint: str = "", path: Trail = ()) -> None:
        """Report a warning at a known place of a text."""
        self._add(Diagnostic(code, "warning", message, hint, place.file, place.line, place.column, dotted(path)))

    def take(self, diagnostics: Iterable[Diagnostic]) -> None:
        """Add the diagnostics of another reporter."""
        for diagnostic in diagnostics:
            self._add(diagnostic)

    def place(self, path: Trail, at: Literal["value", "key"] = "value") -> Position:
        """Where `path` was written. A path that nobody wrote (a default) falls back to its nearest
        ancestor that somebody did."""
        own, other = (self.places.values, self.places.keys)
        if at == "key":
            own, other = other, own
        if found := own.get(path) or other.get(path):
            return found
        while path:
            path = path[:-1]
            if found := self.places.keys.get(path) or self.places.values.get(path):
                return found
        return Position(self.file, 1, 1)

    def is_reliable(self, path: Trail) -> bool:
        """Is what stands there what somebody wrote or left to its default, and no stand-in?"""
        return not any(_related(path, bad) for bad in self.unreliable)

    def written(self, path: Trail) -> bool:
        """Did somebody write this value (or is it a default)?"""
        return path in self.places.values

    def spelled(self, path: Trail) -> str:
        """The dotted path as the spec's author wrote it, short forms and all."""
        return dotted(self.typed(path))

    def typed(self, path: Trail) -> Trail:
        """The path as the spec's author wrote it."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.places.spelled:
                return self.places.spelled[path[:end]] + path[end:]
        return path

    def all_places(self) -> dict[str, tuple[str, int, int]]:
        """Every path that somebody wrote -> (file, line, column), for the record in a plan."""
        return {
            self.spelled(path): (place.file, place.line, place.column)
            for path, place in sorted(self.places.values.items(), key=lambda item: -len(item[0]))
            if path
        }

    def _report(
        self,
        severity: Severity,
        code: str,
        path: Trail,
        message: str,
        hint: str,
        at: Any,
        because: Sequence[Trail],
    ) -> None:
        if not all(map(self.is_reliable, (path, *because))):
            return
        place = self.place(path, at)
        self._add(Diagnostic(code, severity, message, hint, place.file, place.line, place.column, self.spelled(path)))

    def _add(self, diagnostic: Diagnostic) -> None:
        chain = self.places.chains.get(diagnostic.file, ())
        said = redact(diagnostic.message), redact(diagnostic.hint)
        told = replace(diagnostic, message=said[0], hint=said[1], chain=diagnostic.chain or chain)
        self._diagnostics[told] = None


def _related(one: Trail, other: Trail) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def in_order(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """By file, line and column; equal places keep the order in which they were reported."""
    return sorted(dict.fromkeys(diagnostics), key=lambda d: (d.file, d.line, d.column))


def dotted(path: Trail) -> str:
    """`("data", "train", 0)` -> `data.train[0]`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text


def quoted(value: Any, limit: int = 60) -> str:
    """A value as it may stand in a message: YAML's words, bounded, no control characters."""
    if value is None:
        text = "null"
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, str):
        text = f"'{value}'"
    elif isinstance(value, Mapping):
        text = "{" + ", ".join(f"{key}: {quoted(item, 20)}" for key, item in list(value.items())[:8]) + "}"
    elif isinstance(value, list | tuple):
        text = "[" + ", ".join(quoted(item, 20) for item in list(value)[:8]) + "]"
    else:
        text = str(value)
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= limit else f"{text[: limit - 4]}...{text[-1] if text[-1] in chr(39) + ']}' else ''}"


def shown_path(path: Path) -> str:
    """A file as messages name it: relative to the current folder where it lies below it."""
    here = Path.cwd()
    for whole in (Path(os.path.abspath(path)), real_path(path)):
        if here in whole.parents:
            return str(whole.relative_to(here))
    return str(real_path(path))


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The known word that was probably meant, or "" when none is near."""
    from difflib import get_close_matches

    folded = {name.lower().replace("_", "-"): name for name in known}
    near = get_close_matches(str(word).lower().replace("_", "-"), list(folded), n=1, cutoff=cutoff)
    return folded[near[0]] if near else ""


def listed(names: Iterable[str], last: str = "or") -> str:
    """`a, b or c`."""
    names = [str(name) for name in names]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}" if names else "none"


# --- printing ------------------------------------------------------------------------------------

RED, YELLOW, BLUE, BOLD, PLAIN = "\033[31m", "\033[33m", "\033[36m", "\033[1m", "\033[0m"
TOKEN = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^']|'')*'|\$\{[^}]*\}[^\s,\]}]*|[^\s,:\[\]{}]+(?::[^\s,\[\]{}]+)*|.")


def render_text(diagnostics: Iterable[Diagnostic], sources: Mapping[str, str], color: bool = False) -> str:
    """The diagnostics with their source lines, one below the other, in the given order; ends with a
    newline. `sources`: file name as in the diagnostics -> its text (a file that is missing there is shown
    without its line)."""

    def paint(style: str, text: str) -> str:
        return f"{style}{text}{PLAIN}" if color else text

    lines: list[str] = []
    for diagnostic in diagnostics:
        style = RED if diagnostic.severity == "error" else YELLOW
        note = "" if diagnostic.severity == "error" else "warning: "
        where = f"{diagnostic.file}:{diagnostic.line}:{diagnostic.column}"
        lines.append(f"{paint(BOLD, where)}: {paint(style, diagnostic.code)}: {note}{diagnostic.message}")
        shown = _source_line(sources.get(diagnostic.file, ""), diagnostic.line, diagnostic.column)
        if shown is not None:
            text, underline = shown
            number = f"{diagnostic.line:5d} | "
            lines.append(paint(BLUE, number) + text)
            lines.append(paint(BLUE, "      | ") + paint(style, underline))
        if diagnostic.hint:
            lines.append(f"  {paint(BLUE, 'hint:')} {diagnostic.hint}")
        if diagnostic.chain:
            lines.append(f"  {paint(BLUE, 'extended by:')} {' <- '.join(diagnostic.chain)}")
        if diagnostic.where:
            lines.append(f"  {paint(BLUE, 'only in:')} {diagnostic.where}")
        if diagnostic.named_by:
            lines.append(f"  {paint(BLUE, 'named by:')} {' <- '.join(diagnostic.named_by)}")
        lines.append("")
    return "\n".join(lines) + "\n" if lines else ""


def _source_line(text: str, line: int, column: int) -> tuple[str, str] | None:
    """The line, cut around the column when it is long, and the carets below it."""
    lines = text.split("\n")
    if not text or line > len(lines):
        return None
    full = redact("".join(c if c.isprintable() or c == "\t" else "?" for c in lines[line - 1].rstrip("\r")))
    token = TOKEN.match(full, column - 1)
    length = len(token.group()) if token else 1
    start = 0
    if len(full) > WIDTH and column > WIDTH * 2 // 3:
        start = max(0, column - WIDTH // 2)
    shown = full[start : start + WIDTH]
    before = "".join("\t" if c == "\t" else " " for c in shown[: column - 1 - start])
    return shown, before + "^" * max(1, min(length, WIDTH - len(before)))


def render_json(diagnostics: Iterable[Diagnostic]) -> str:
    """`{"diagnostics": [{"code","severity","file","line","column","path","message","hint"}]}`."""
    keys = ("code", "severity", "file", "line", "column", "path", "message", "hint")
    rows = [{key: getattr(diagnostic, key) for key in keys} for diagnostic in diagnostics]
    return json.dumps({"diagnostics": rows}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def render_github(diagnostics: Iterable[Diagnostic]) -> str:
    """One workflow command a diagnostic, which GitHub shows beside the line of a pull request."""
    lines = []
    for diagnostic in diagnostics:
        body = diagnostic.message + (f"\nhint: {diagnostic.hint}" if diagnostic.hint else "")
        body += f"\nonly in: {diagnostic.where}" if diagnostic.where else ""
        body += f"\nnamed by: {' <- '.join(diagnostic.named_by)}" if diagnostic.named_by else ""
        where = ",".join(
            f"{key}={_escape(str(value), property=True)}"
            for key, value in (
                ("file", diagnostic.file),
                ("line", diagnostic.line),
                ("col", diagnostic.column),
                ("title", diagnostic.code),
            )
        )
        lines.append(f"::{diagnostic.severity} {where}::{_escape(body)}\n")
    return "".join(lines)


def _escape(text: str, property: bool = False) -> str:
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if property else text
