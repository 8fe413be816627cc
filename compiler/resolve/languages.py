"""What the tokenizer of a model does with a language: a code in every sequence (mBART), a token before the source (a
Marian model that writes several languages), or nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from os.path import isfile
from pathlib import Path
from typing import Any, Literal

from ..diagnostics.diagnostic import Reporter, Trail, did_you_mean, listed, quoted
from ..spec.experiment import Experiment
from .scoring import language_decides

MOST_NAMES = 8  # of languages that a message lists
_LINE_BREAK = b"<n>"
_TOKEN = re.compile(r">>(.+)<<\Z")


@dataclass(frozen=True)
class Languages:
    """kind codes: sequences have the codes of their languages. tokens: a source begins with the token of the target's;
    `known`: of which ones, None: its vocabulary is not here. none: to this tokenizer languages mean nothing."""

    kind: Literal["codes", "tokens", "none"]
    known: tuple[str, ...] | None = None

    def prefix(self, language: str | None) -> str:
        """What a source begins with, so that the model writes this language."""
        return f">>{language}<< " if self.known is not None and language in self.known else ""


NO_LANGUAGES = Languages("none")


def languages_of(layout: str, folder: Path | None, config: Mapping[str, Any]) -> Languages:
    """Of a model of this layout. `folder`: its own; None: there is none, or what is in it is not known."""
    if layout == "marian":
        vocabulary = {} if folder is None else _json(folder / "vocab.json")
        if not vocabulary:
            return Languages("tokens")
        known = tuple(found[1] for token in vocabulary if (found := _TOKEN.match(token)))
        return Languages("tokens", known) if known else NO_LANGUAGES
    if layout != "mbart":
        return NO_LANGUAGES
    said = {} if folder is None else _json(folder / "tokenizer_config.json")
    kind = str(said.get("tokenizer_class") or config.get("tokenizer_class") or "MBartTokenizer")
    return Languages("codes") if kind.startswith("MBart") else NO_LANGUAGES


def has_line_break(layout: str, folder: Path | None) -> bool:
    """Does a model of this layout write `<n>` for a line break? Pegasus's checkpoints do; one that was built from
    scratch has no such token. `folder`: as of `languages_of`."""
    if layout != "pegasus":
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


def check_languages(
    experiment: Experiment, layout: str, languages: Languages, labellers: Mapping[str, Languages], reporter: Reporter
) -> None:
    """Of the teacher and of other models that write labels. Reports E515 (mBART is not told a language), E404 (a
    language that nothing depends on), E545 (one that a model has no token for), W515 (a model of several languages that
    is not told which)."""
    data = experiment.data
    given = {name: getattr(data, name) for name in ("source_language", "target_language")}
    if languages.kind == "codes":
        for name, language in given.items():
            if language is None:
                reporter.error(
                    "E515",
                    ("data", name),
                    f"mbart writes the language into every sequence: data.{name} is missing",
                    f"write for example `{name}: en_XX`",
                )
        return
    target, others = data.target_language, [found.kind for found in labellers.values()]
    _check_token(target, ("teacher",), languages, reporter)
    for name, found in labellers.items():
        _check_token(target, ("pseudo_labels", name, "by"), found, reporter)
    if languages.known is not None and len(languages.known) > 1 and target is None and ">>" not in data.prefix:
        reporter.warning(
            "W515",
            ("teacher",),
            f"the model writes {len(languages.known)} languages, and nothing says which: its sources must begin with "
            "the token of one",
            f"write for example `data: {{target_language: {languages.known[0]}}}`",
        )
    for name, language in given.items():
        used = "codes" in others
        if name == "target_language":
            used |= "tokens" in (languages.kind, *others) or language_decides(experiment)
        if language is None or used:
            continue
        what = "no metric depends on it, either" if name == "target_language" else "nothing else depends on it"
        reporter.error(
            "E404",
            ("data", name),
            f"`data.{name}` means nothing to this {layout} model: its tokenizer has no such languages, and {what}",
            "remove it; what a model is told in its source is `data.prefix`",
            at="key",
            because=[("teacher",)],
        )


def _check_token(target: str | None, model: Trail, languages: Languages, reporter: Reporter) -> None:
    """Has a model of several languages a token for this one?"""
    if languages.known is None or target is None or target in languages.known:
        return
    near = did_you_mean(target, languages.known)
    few = listed(languages.known[:MOST_NAMES], "and") + (" ..." if len(languages.known) > MOST_NAMES else "")
    reporter.error(
        "E545",
        ("data", "target_language"),
        f"the model has no token for the language {quoted(target)}",
        f"did you mean {near}?" if near else f"it has those of {few}",
        because=[model],
    )
