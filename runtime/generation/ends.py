"""Texts that end because they have come to the length limit: cut in the middle, as likely as not.

A few always do. Where many do, the limit decides what the texts say, and every score of them is a score of it.
"""

from __future__ import annotations

from ..messages.notices import Notice

FEW = 3  # texts, and
FEW_PERCENT = 5.0  # of them: up to here nobody is told


class Ends:
    """Texts that were counted, and those of them that end at the limit."""

    def __init__(self) -> None:
        self.num_texts = 0
        self.num_at_limit = 0
        self.limit = 0  # in tokens, with the decoder's start token, as `max_length` counts

    def add(self, at_limit: int | None) -> None:
        """A text; `at_limit`: the limit at which it ends, None: it ends by itself."""
        self.num_texts += 1
        if at_limit is not None:
            self.num_at_limit += 1
            self.limit = at_limit

    @property
    def percent(self) -> float:
        """The share of the texts that end at the limit."""
        return 100 * self.num_at_limit / self.num_texts if self.num_texts else 0.0

    @property
    def told(self) -> str:
        """`48 of 48 texts end at the limit of 20 tokens`; empty: no more than a few do."""
        if self.num_at_limit < min(FEW, max(1, self.num_texts)) or self.percent <= FEW_PERCENT:
            return ""
        return f"{self.num_at_limit:,} of {self.num_texts:,} texts end at the limit of {self.limit} tokens"

    def notice(self, spec_path: str) -> Notice | None:
        """What to say of them; None: no more than a few end at the limit. `spec_path`: of their `generation`."""
        if not self.told:
            return None
        return Notice(
            "R355",
            self.told,
            "if they are cut in the middle, raise `max_length` there; a model that ends none of its texts has not "
            "learned to, or its targets have no end",
            f"{spec_path}.max_length",
        )
