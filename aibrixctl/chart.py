"""Curves in the terminal: one letter per series, sizes across on a logarithmic axis."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from aibrixctl.report.svg import SERIES

if TYPE_CHECKING:
    from rich.text import Text

Points = Sequence[tuple[float, float]]
USUAL_WIDTH = 66
AXIS_WIDTH = 8
"""Columns of the labels on the left."""
_HEIGHT = 13


def curves(
    series: Mapping[str, Points], ticks: Sequence[tuple[float, str]], *, width: int = USUAL_WIDTH
) -> list["Text"]:
    """Return the lines of a picture of shares over sizes, its axes and its key included.

    Args:
        series: name to points (size above 0, share), by size. The first is drawn over the others.
        ticks: sizes to mark below, with their text; left out where they would touch.
        width: columns of the drawing, without the labels of its axis.
    """
    from rich.text import Text

    sizes = [x for points in series.values() for x, _ in points]
    low, high = math.log(min(sizes)), math.log(max(sizes))
    span = (high - low) or 1.0
    top = _ceiling(max(y for points in series.values() for _, y in points))
    letters = _letters(series)
    cells: dict[tuple[int, int], tuple[str, str]] = {}

    def column(size: float) -> int:
        return round((math.log(size) - low) / span * (width - 1))

    def row(share: float) -> int:
        return round(share / top * (_HEIGHT - 1))

    for number, (name, points) in reversed(list(enumerate(series.items()))):
        style = SERIES[number % len(SERIES)]
        places = [(column(x), y) for x, y in points]
        for x in range(places[0][0], places[-1][0] + 1):
            cells[x, row(_between(places, x))] = ("·", style)
        for x, y in places:
            cells[x, row(y)] = (letters[name], style)
    lines = []
    for y in reversed(range(_HEIGHT)):
        marked = y % 3 == 0
        line = Text(f"{y / (_HEIGHT - 1) * top:>6.0%} ┤" if marked else " " * 7 + "│")
        for x in range(width):
            mark, style = cells.get((x, y), (" ", ""))
            line.append(mark, style=style)
        lines.append(line)
    lines.append(Text(" " * 7 + "└" + "─" * width))
    lines.append(Text(" " * 8 + _tick_line([(column(x), label) for x, label in ticks], width)))
    key = Text(" " * 8)
    for number, name in enumerate(series):
        key.append(f"{letters[name]} {name}   ", style=SERIES[number % len(SERIES)])
    lines.append(key)
    return lines


def _ceiling(share: float) -> float:
    """Return the least usual top of an axis with four steps that holds a share."""
    return next((top for top in (0.04, 0.08, 0.2, 0.4, 0.6, 0.8) if top >= share), 1.0)


def _letters(names: Mapping[str, Points]) -> dict[str, str]:
    """Return a capital of each name, its first that no other took, else a digit."""
    found: dict[str, str] = {}
    for number, name in enumerate(names):
        free = [letter for letter in name.upper() if letter not in found.values()]
        found[name] = next((letter for letter in free if letter.isalnum()), str(number))
    return found


def _between(places: Sequence[tuple[int, float]], x: int) -> float:
    for (left, low), (right, high) in pairwise(places):
        if left <= x <= right and right > left:
            return low + (high - low) * (x - left) / (right - left)
    return places[-1][1]


def _tick_line(ticks: Sequence[tuple[int, str]], width: int) -> str:
    line = ""
    for place, label in ticks:
        start = min(max(place - len(label) // 2, 0), width - len(label))
        if start > len(line) or not line:
            line = line.ljust(start) + label
    return line
