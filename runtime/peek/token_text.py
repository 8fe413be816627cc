"""Token ids as text that people can read: in the tables of `peek` and in its remarks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..models.families import IGNORED


class TokenText:
    """Token ids as people can read them."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.special = frozenset(tokenizer.all_special_ids)
        self.unknown: int | None = tokenizer.unk_token_id
        self.pad: int = tokenizer.pad_token_id

    def token(self, id: int) -> str:
        """One token; `▁` stands for the space before a word."""
        if id == IGNORED:
            return "-"
        token = self.tokenizer.convert_ids_to_tokens(id) if id < len(self.tokenizer) else None
        if token is None:
            return f"<{id}>"  # a row of the vocabulary that no token has
        text = self._text([id]).strip()
        if id in self.special or not text or "\N{REPLACEMENT CHARACTER}" in text or not text.isprintable():
            return str(token) if str(token).isprintable() else repr(token)
        return f"▁{text}" if token.startswith(("▁", "Ġ")) else text

    def text(self, ids: Sequence[int]) -> str:
        """A sequence with its special tokens."""
        return self._text([id for id in ids if id != IGNORED])

    def _text(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text
