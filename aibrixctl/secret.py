"""Keys and passwords: read from a file or standard input, and kept out of all that is printed."""

import sys

from accelerators.documents import read_text
from accelerators.errors import UsageError

_SHORTEST = 8
"""Shorter ones are words of the language, and are not looked for in texts."""

_hidden: set[str] = set()


def read_secret(option: str, path: str | None) -> str | None:
    """Return the secret in a file, or on standard input for ``-``; None without a path.

    Raises:
        UsageError: the file can't be read or holds nothing.
    """
    if path is None:
        return None
    secret = (sys.stdin.read() if path == "-" else read_text(path)).strip()
    if not secret:
        where = "standard input" if path == "-" else path
        raise UsageError("secret.empty", f"{option}: {where} holds no secret", target=option)
    hide(secret)
    return secret


def hide(secret: str) -> None:
    """Keep a secret out of what is printed from now on, even where a server repeats it."""
    if len(secret) >= _SHORTEST:
        _hidden.add(secret)


def redact(text: str) -> str:
    """Return a text without the secrets that were read."""
    for secret in sorted(_hidden, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text
