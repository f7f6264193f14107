"""Options of the form ``NAME=NUMBER``, given several times or joined by commas."""

import math
from collections.abc import Iterable

from accelerators.errors import UsageError


def numbers(option: str, texts: Iterable[str] | None) -> dict[str, float]:
    """Return the numbers that ``a10=4,l20=2`` and the like assign.

    Raises:
        UsageError: no ``=``, no number, or one name twice.
    """
    found: dict[str, float] = {}
    for item in (item.strip() for text in texts or () for item in text.split(",")):
        name, _, value = (part.strip() for part in item.partition("="))
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not name or not math.isfinite(number):
            raise UsageError(
                "option.assignment",
                f"{option} {item!r} is not NAME=NUMBER",
                hint=f"e.g. {option} a10=4,l20=2",
                target=option,
            )
        if name in found:
            raise UsageError(
                "option.twice", f"{option} gives {name} twice", hint="once is enough", target=option
            )
        found[name] = number
    return found


def whole_numbers(option: str, texts: Iterable[str] | None) -> dict[str, int]:
    """Return the whole numbers that an option assigns; raises UsageError as numbers() does."""
    found = numbers(option, texts)
    for name, number in found.items():
        if number != int(number):
            raise UsageError(
                "option.assignment",
                f"{option} {name}={number:g} is not a whole number",
                target=option,
            )
    return {name: int(number) for name, number in found.items()}
