"""Options with a unit: read them, and name the option when its text can't be read."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from accelerators.errors import UsageError
from accelerators.units import parse_byte_rate, parse_bytes, parse_duration, parse_fraction

UNITS = (
    "TIME is a number with its unit: 500ms, 2s, 10m, 1h30m. SHARE is 20% or 0.2. "
    "BYTES is 4096, 64KiB or 1.5GB."
)
"""What help says of them."""


def duration(option: str, text: str) -> float:
    """Return seconds for text such as ``500ms``; raises UsageError that names the option."""
    with _named(option, f"{text}s" if _bare(text) else ""):
        return parse_duration(text)


def fraction(option: str, text: str) -> float:
    """Return a fraction of one for ``30%`` or ``0.3``; raises UsageError that names the option."""
    with _named(option, f"{text}%" if _bare(text) else ""):
        return parse_fraction(text)


def size(option: str, text: str) -> int:
    """Return bytes for text such as ``64KiB``; raises UsageError that names the option."""
    with _named(option, ""):
        return parse_bytes(text)


def byte_rate(option: str, text: str) -> float:
    """Return bytes/s for text such as ``200MiB/s``; raises UsageError that names the option."""
    with _named(option, f"{text}/s" if _is_size(text) else ""):
        return parse_byte_rate(text)


def _is_size(text: str) -> bool:
    try:
        parse_bytes(text)
    except UsageError:
        return False
    return not _bare(text)


def _bare(text: str) -> bool:
    return re.fullmatch(r"\d+(\.\d+)?", text.strip()) is not None


@contextmanager
def _named(option: str, meant: str) -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        hint = f"write {option} {meant}" if meant else error.hint
        message = f"{option}: {error.message}"
        raise UsageError(error.code, message, hint=hint, target=option) from error
