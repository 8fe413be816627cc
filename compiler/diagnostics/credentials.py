"""Addresses without the passwords in them: plans hold none, and messages show none.

    scheme://user:password@host/path?token=...

A password may hold what separates the parts of an address: its end is the last `@`.
"""

from __future__ import annotations

import re

_SECRET = r"[^=&;\s]*(?:token|pass|pwd|secret|key|auth|sig|cred)[^=&;\s]*"  # names of parameters
_USER = re.compile(r"://(?!/)[^\s\"'`<>]*@")
_PARAMETER = re.compile(rf"([?&;]{_SECRET}=)[^&;\s\"'`<>]+", re.IGNORECASE)


def redact(text: str) -> str:
    """A text with `***` for the users, passwords and tokens of the addresses in it."""
    return _PARAMETER.sub(r"\1***", _USER.sub("://***@", text))


def without_credentials(address: str) -> str:
    """An address without its user, its password and the parameters that are secrets."""
    scheme, separator, rest = address.partition("://")
    if not separator or rest.startswith("/"):
        head, question, query = address.partition("?")
    else:
        head, question, query = rest.partition("?")
        if "@" not in head and "@" in query and "=" not in query.partition("@")[0]:
            head, question, query = query.rpartition("@")[2].partition("?")  # a `?` of the password
        head = f"{scheme}://{head.rpartition('@')[2]}"
    kept = [part for part in re.split("[&;]", query) if not re.match(rf"{_SECRET}=", part, re.IGNORECASE)]
    return head + (f"?{'&'.join(kept)}" if question and any(kept) else "")
