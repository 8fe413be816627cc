"""A sentence splitter that needs no download, for rougeLsum.

The usual splitter (nltk's punkt) fetches its model at run time. These are plain rules; a result that used
them says so (`SPLITTER`). On one-sentence summaries every splitter is the same.
"""

from __future__ import annotations

import re

SPLITTER = "rules-1"
ANY_SCRIPT = "rules-1-any-script"

# Words that end with a full stop without ending a sentence.
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof sr jr st gen sen rep gov capt col lt sgt rev hon vs etc inc ltd co corp jan feb mar apr jun "
    "jul aug sep sept oct nov dec al e.g i.e cf approx dept est min max u.s u.k u.n a.m p.m".split()
)
_BEFORE_NUMBERS = frozenset({"no", "nos", "vol", "fig", "pp"})
_END = re.compile(r"""[.!?]+["')\]”’]*\s+(?=["'(\[“‘]*[^\Wa-z_])""")


# Marks of other scripts that end a sentence whatever follows them, with the quotes behind them.
_OTHER_END = re.compile(r"""([。！？｡।॥۔؟։።፧၊။។៕]+["')\]”’」』）]*)""")


def split_sentences(text: str, *, any_script: bool = False) -> list[str]:
    """The sentences of a text, stripped, none empty. Line breaks end a sentence; `any_script`: so do the marks of other
    scripts (`ANY_SCRIPT`)."""
    if any_script:
        text = _OTHER_END.sub(r"\1\n", text)
    sentences: list[str] = []
    for line in text.splitlines():
        start = 0
        for end in _END.finditer(line):
            if _ends_sentence(line[start : end.start()], line[end.start()], line[end.end()]):
                sentences.append(line[start : end.end()].strip())
                start = end.end()
        sentences.append(line[start:].strip())
    return [sentence for sentence in sentences if sentence]


def _ends_sentence(before: str, mark: str, following: str) -> bool:
    if mark != ".":
        return True
    words = before.split()
    last = words[-1].lstrip("\"'([“‘") if words else ""
    if last.lower() in _ABBREVIATIONS or (last.lower() in _BEFORE_NUMBERS and following.isdigit()):
        return False
    return not (len(last) == 1 and last.isalpha() and last.isupper())  # an initial: "J. Smith"
