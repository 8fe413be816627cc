"""The words of a text in any script, and the share of it that an ASCII tokenizer misses."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

from ..failure import Failure
from ..messages.notices import Notice
from ..plan.settings import Scoring
from ..protocol import References, several

# Of scripts that put no spaces between words: every letter is a word. Thai, Lao, Tibetan, Myanmar, Khmer; kana,
# Bopomofo and ideographs. (Hangul has spaces.)
_UNSPACED = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3021-\u312f\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U000323af"
)
_UNSPACED_LETTER = re.compile(f"[{_UNSPACED}]")
MOST_LOST = 50.0  # percent of the letters


class UnicodeWords:
    """A tokenizer for rouge_score: runs of letters, marks and digits, in lower case; of scripts without spaces every
    letter with its marks. On texts of ASCII it gives what rouge_score's own gives."""

    def __init__(self, *, stemmer: bool) -> None:
        self._stem = None
        if stemmer:
            from nltk.stem import PorterStemmer

            self._stem = PorterStemmer().stem

    def tokenize(self, text: str) -> list[str]:
        """The words of a text, in order."""
        words: list[str] = _word().findall(unicodedata.normalize("NFC", text).lower())
        if self._stem is None:
            return words
        return [self._stem(word) if len(word) > 3 and word.isascii() else word for word in words]


@cache
def _word() -> re.Pattern[str]:
    marks = "".join(map(re.escape, _marks()))
    return re.compile(f"[{_UNSPACED}][{marks}]*|(?:(?![{_UNSPACED}])[^\\W_])(?:(?![{_UNSPACED}])[^\\W_]|[{marks}])*")


def _marks() -> list[str]:
    """Vowel signs and accents, which Python's \\w does not count as parts of words."""
    every = map(chr, range(sys.maxunicode + 1))
    return [character for character in every if unicodedata.category(character)[0] == "M"]


# --- what is not seen ------------------------------------------------------------------------------


class Unseen(NamedTuple):
    """Metrics that say nothing of these texts, why, and what to write."""

    metrics: tuple[str, ...]
    message: str
    hint: str


def unseen(metrics: Iterable[str], references: References, scoring: Scoring) -> list[Unseen]:
    """The metrics whose tokenizer does not see most of the letters of the references, or no words in them."""
    found: list[Unseen] = []
    rouge = tuple(metric for metric in metrics if metric.startswith("rouge"))
    bleu = tuple(metric for metric in metrics if metric == "bleu")
    if not rouge and not bleu:
        return found
    letters, ascii_letters, unspaced = _letters([text for row in references for text in several(row)])
    lost = 100 * (1 - ascii_letters / letters) if letters else 0.0
    together = 100 * unspaced / letters if letters else 0.0
    if rouge and scoring.rouge_tokenizer == "default" and lost > MOST_LOST:
        found.append(Unseen(
            rouge,
            f"{', '.join(rouge)}: the tokenizer knows the letters a to z alone, and {lost:.0f} % of those of the "
            "references are others",
            "write `evaluation: {rouge: {tokenizer: unicode}}`",
        ))  # fmt: skip
    if bleu and scoring.bleu_tokenize in ("13a", "intl", "none") and together > MOST_LOST:
        found.append(Unseen(
            bleu,
            f"bleu: the tokenizer {scoring.bleu_tokenize} looks for words between spaces, and {together:.0f} % of the "
            "letters of the references are of scripts that have none",
            "write `evaluation: {bleu: {tokenize: zh}}`; or ja-mecab, ko-mecab, or char for any script",
        ))  # fmt: skip
    return found


def require_seen(metric: str, references: References, scoring: Scoring, what: str, spec_path: str) -> None:
    """Raises `Failure` R357: `what` depends on a metric that does not see these references. `spec_path`: where it is
    asked for."""
    for found in unseen([metric], references, scoring):
        raise Failure("R357", f"{what} depends on {found.message}", found.hint, spec_path=spec_path)


def unseen_notice(metrics: Iterable[str], references: References, scoring: Scoring, spec_path: str) -> Notice | None:
    """The warning for scores on which nothing depends. None: every metric sees the references."""
    found = unseen(metrics, references, scoring)
    if not found:
        return None
    return Notice("R357", "; ".join(one.message for one in found), "; ".join(one.hint for one in found), spec_path)


def _letters(texts: Sequence[str]) -> tuple[int, int, int]:
    """How many letters there are, how many of them are a to z, and how many of scripts without spaces."""
    text = unicodedata.normalize("NFC", "".join(texts))
    letters = sum(map(str.isalpha, text))
    ascii_letters = sum(character.isascii() for character in filter(str.isalpha, text))
    return letters, ascii_letters, sum(found[0].isalpha() for found in _UNSPACED_LETTER.finditer(text))
