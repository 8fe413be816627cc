"""Addresses without the passwords in them: plans hold none, and messages show none.

    scheme://user:password@host/path?token=...#fragment

A password may hold what separates the parts of an address: its end is the last `@`. A fragment is sent to no server, so
what stands in it is for whoever wrote it; an address without a host (`sqlite:///a#b`) is a path, and has none.
"""

from __future__ import annotations

import re

_SECRET = r"[^=&;\s]*(?:token|pass|pwd|secret|key|auth|sig|cred)[^=&;\s]*"  # names of parameters
_USER = re.compile(r"://(?!/)[^\s\"'`<>]*@")
_FRAGMENT = re.compile(r"(://(?!/)[^\s\"'`<>#]*#)[^\s\"'`<>]+")
_PARAMETER = re.compile(rf"([?&;]{_SECRET}=)[^&;\s\"'`<>]+", re.IGNORECASE)


def redact(text: str) -> str:
    """A text with `***` for the users, passwords, tokens and fragments of the addresses in it."""
    return _PARAMETER.sub(r"\1***", _FRAGMENT.sub(r"\1***", _USER.sub("://***@", text)))


def without_credentials(address: str) -> str:
    """An address without its user, its password, its fragment and the parameters that are secrets."""
    scheme, separator, rest = address.partition("://")
    if not separator or rest.startswith("/"):
        head, question, query = address.partition("?")
    else:
        before, _, fragment = rest.partition("#")
        if "@" in fragment and ("@" in before or ":" in before):  # a `#` of the password, or one behind a user
            user, at, host = rest.rpartition("@")
            rest = user + at + host.partition("#")[0]
        else:
            rest = before
        head, question, query = rest.partition("?")
        if "@" not in head and "@" in query and "=" not in query.partition("@")[0]:
            head, question, query = query.rpartition("@")[2].partition("?")  # a `?` of the password
        head = f"{scheme}://{head.rpartition('@')[2]}"
    kept = [part for part in re.split("[&;]", query) if not re.match(rf"{_SECRET}=", part, re.IGNORECASE)]
    return head + (f"?{'&'.join(kept)}" if question and any(kept) else "")
