"""Curves over a logarithmic axis, as SVG."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from aibrixctl.report.svg import picture, text

Points = Sequence[tuple[float, float]]
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 760.0, 360.0, 56.0, 14.0, 52.0
_GRID = 'stroke="currentColor" stroke-opacity=".15"'


def curves(
    title: str,
    series: Mapping[str, Points],
    ticks: Sequence[tuple[float, str]],
    colours: Mapping[str, str],
    *,
    across: str,
    marks: Sequence[tuple[float, str]] = (),
) -> str:
    """Return shares over sizes, one line per series.

    Args:
        title: read out by screen readers and shown on hover.
        series: name to points (size above 0, share), by size.
        ticks: sizes to mark below, with their text.
        colours: series to colour.
        across: what the sizes are.
        marks: shares to draw a dashed line at, with their text.
    """
    sizes = [x for points in series.values() for x, _ in points]
    shares = [y for points in series.values() for _, y in points] + [y for y, _ in marks]
    low, high = math.log(min(sizes)), math.log(max(sizes))
    step = next((s for s in (0.02, 0.05, 0.1) if max(shares) <= 6 * s), 0.2)
    top = math.ceil(max(*shares, step) / step - 1e-9) * step

    def x_of(size: float) -> float:
        return _LEFT + (math.log(size) - low) / ((high - low) or 1) * (_WIDTH - _LEFT - 24)

    def y_of(share: float) -> float:
        return _TOP + (1 - share / top) * (_HEIGHT - _TOP - _BOTTOM)

    body = []
    for count in range(round(top / step) + 1):
        y = y_of(count * step)
        body.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - 16:.0f}" {_GRID}/>')
        body.append(text(_LEFT - 8, y + 4, f"{count * step:.0%}", 'text-anchor="end"'))
    for size, label in ticks:
        body.append(text(x_of(size), _HEIGHT - _BOTTOM + 20, label, 'text-anchor="middle"'))
    body.append(text(_LEFT, _HEIGHT - 8, across, 'class="axis"'))
    for share, label in marks:
        y = y_of(share)
        dashes = 'stroke="currentColor" stroke-dasharray="5 4" stroke-opacity=".6"'
        body.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - 16:.0f}" {dashes}/>')
        body.append(text(_LEFT + 6, y - 5, label, 'class="axis"'))
    for name, points in series.items():
        body.append(_line(name, [(x_of(x), y_of(y), y) for x, y in points], colours[name]))
    return picture(_WIDTH, _HEIGHT, title, body)


def _line(name: str, places: Sequence[tuple[float, float, float]], colour: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in places)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="{colour}">'
        f"<title>{escape(name)}: {share:.1%}</title></circle>"
        for x, y, share in places
    )
    drawn = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
    return f"<g>{drawn}{dots}</g>"
