"""Quantities with units: parse what people type, print what people read.

Plain numbers inside the program are always in the base unit: seconds, bytes, a fraction of one.
"""

import math
import re

from accelerators.errors import UsageError

_QUANTITY = re.compile(
    r"^\s*([+-]?(?:\d+(?:_\d+)*\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*([a-zA-Zµ%/]*)\s*$"
)
_TIME_S = {
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
_BINARY = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50}
_DECIMAL = {"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}


def _split(text: str, what: str, example: str) -> tuple[float, str]:
    match = _QUANTITY.match(text)
    value = float(match[1].replace("_", "")) if match else math.nan
    if match is None or not math.isfinite(value):
        raise UsageError("units.unreadable", f"{text!r} is not a {what}; expected e.g. {example}")
    return value, match[2]


def parse_duration(text: str, *, default_unit: str | None = None) -> float:
    """Return seconds for text such as ``500ms``, ``2s``, ``10m`` or ``1h30m``.

    Args:
        text: a number with a unit, or several run together.
        default_unit: unit of a bare number; None refuses bare numbers other than 0.

    Raises:
        UsageError: no number, an unknown unit, a missing unit or a negative value.
    """
    example = "500ms, 2s, 10m"
    parts = re.findall(r"[^a-zA-Zµ]+[a-zA-Zµ]+", text) if "e" not in text.lower() else []
    pieces = parts if len(parts) > 1 and "".join(parts) == text.strip() else [text]
    total = 0.0
    for piece in pieces:
        value, unit = _split(piece, "duration", example)
        unit = unit or default_unit or ("s" if value == 0 else "")
        if unit not in _TIME_S:
            found = f"unit {unit!r}" if unit else "no unit"
            raise UsageError(
                "units.unreadable", f"{text!r} has {found}; expected a duration, e.g. {example}"
            )
        total += value * _TIME_S[unit]
    if total < 0:
        raise UsageError(
            "units.negative", f"{text!r} is negative; expected a duration of 0 or more"
        )
    return total


def parse_bytes(text: str) -> int:
    """Return bytes for text such as ``64Mi``, ``64MiB``, ``1.5GB`` or ``4096``.

    Raises:
        UsageError: no number, an unknown unit or a negative value.
    """
    value, unit = _split(text, "size", "64Mi, 1.5GB, 4096")
    return round(_bytes(value, unit, text))


def parse_byte_rate(text: str) -> float:
    """Return bytes per second for text such as ``200MiB/s`` or ``1.5GB/s``; more than 0.

    Raises:
        UsageError: no number, no ``/s``, an unknown unit, or a value that is not above 0.
    """
    value, unit = _split(text, "rate", "200MiB/s, 1.5GB/s")
    if not unit.endswith("/s"):
        raise UsageError(
            "units.unreadable", f"{text!r} does not end in /s; expected a rate, e.g. 200MiB/s"
        )
    rate = _bytes(value, unit.removesuffix("/s"), text)
    if rate <= 0:
        raise UsageError("units.range", f"{text!r} is no rate above 0")
    return rate


def _bytes(value: float, unit: str, text: str) -> float:
    bare = unit.removesuffix("B")
    factor = _BINARY.get(bare) or _DECIMAL.get(bare)
    if factor is None:
        raise UsageError(
            "units.unreadable", f"{text!r} has unit {unit!r}; expected e.g. KiB, Mi, GB"
        )
    if value < 0:
        raise UsageError("units.negative", f"{text!r} is negative; expected a size of 0 or more")
    return value * factor


def parse_fraction(text: str) -> float:
    """Return a fraction of one for ``30%`` or ``0.3``.

    Raises:
        UsageError: no number, another unit, or a value outside 0 to 1.
    """
    value, unit = _split(text, "share", "30% or 0.3")
    if unit not in ("", "%"):
        raise UsageError("units.unreadable", f"{text!r} has unit {unit!r}; expected 30% or 0.3")
    fraction = value / 100 if unit else value
    if not 0 <= fraction <= 1:
        raise UsageError("units.range", f"{text!r} is outside 0% to 100%")
    return fraction


def format_bytes(value: float) -> str:
    """Return a short binary size such as ``13.5 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.4g} TiB"


def format_duration(seconds: float) -> str:
    """Return a short duration such as ``84 ms``, ``2.5 s``, ``20m`` or ``3h05m``."""
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes}m{rest:02d}s" if rest else f"{minutes}m"
    minutes = round(seconds / 60)
    return f"{minutes // 60}h{minutes % 60:02d}m"
