"""What every diagnostic code means: the texts of `distilc explain E###`, which stand in codes.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class Code(NamedTuple):
    """`title` is a phrase, `meaning` whole sentences, `incorrect` and `corrected` examples."""

    title: str
    meaning: str
    incorrect: str
    corrected: str


CODES: Mapping[str, Code] = {
    code: Code(**entry)
    for code, entry in tomllib.loads(Path(__file__).with_name("codes.toml").read_text("utf-8")).items()
}
