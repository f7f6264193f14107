"""Drawings as SVG text: a heatmap, bars, and a grid of shares.

Sizes are in CSS pixels. Colours follow the page's ``currentColor`` where they carry no meaning,
so that a drawing reads in light and dark.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

SERIES = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999"),
    *("#332288", "#88ccee", "#117733", "#ddcc77", "#cc6677", "#aa4499", "#44aa99", "#882255"),
)
"""Okabe and Ito's colours, then Tol's muted ones, told apart by colour-blind readers too."""

_LETTER_WIDTH = 7.5
_CELL_WIDTH, _CELL_HEIGHT, _MARGIN_LEFT, _MARGIN_TOP = 66, 34, 70, 48


def text(x: float, y: float, content: str, extra: str = "") -> str:
    """Return a text element; ``extra`` is attributes."""
    return f'<text x="{x:.1f}" y="{y:.1f}" {extra}>{escape(content)}</text>'


def rect(x: float, y: float, width: float, height: float, fill: str, extra: str = "") -> str:
    """Return a rectangle."""
    size = f'width="{max(width, 0):.1f}" height="{max(height, 0):.1f}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" {size} fill="{fill}" {extra}/>'


def picture(width: float, height: float, title: str, body: Sequence[str]) -> str:
    """Return the drawing around its elements; the title is for screen readers and on hover."""
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="img" '
        f'aria-label="{escape(title, quote=True)}"><title>{escape(title)}</title>'
        + "".join(body)
        + "</svg>"
    )


@dataclass(frozen=True)
class Grid:
    """Axes of a grid of buckets: input tokens across, output tokens down.

    Attributes:
        columns: labels across.
        rows: labels down.
        across, down: what the axes are.
    """

    columns: Sequence[str]
    rows: Sequence[str]
    across: str = "input tokens, at most"
    down: str = "output"

    @property
    def width(self) -> float:
        """Width of the whole drawing."""
        return _MARGIN_LEFT + _CELL_WIDTH * len(self.columns) + 2

    @property
    def height(self) -> float:
        """Height of the whole drawing."""
        return _MARGIN_TOP + _CELL_HEIGHT * len(self.rows) + 2

    def corner(self, column: int, row: int) -> tuple[float, float]:
        """Return the upper left corner of a cell."""
        return _MARGIN_LEFT + column * _CELL_WIDTH, _MARGIN_TOP + row * _CELL_HEIGHT

    def axes(self) -> list[str]:
        """Return the labels."""
        end = 'text-anchor="end"'
        marks = [text(_MARGIN_LEFT, 14, self.across, 'class="axis"')]
        marks.append(text(_MARGIN_LEFT - 10, 34, self.down, f'class="axis" {end}'))
        for index, label in enumerate(self.columns):
            x, _ = self.corner(index, 0)
            marks.append(text(x + _CELL_WIDTH / 2, 34, label, 'text-anchor="middle"'))
        for index, label in enumerate(self.rows):
            _, y = self.corner(0, index)
            marks.append(text(_MARGIN_LEFT - 10, y + _CELL_HEIGHT / 2 + 4, label, end))
        return marks


def shade(share: float) -> tuple[str, str]:
    """Return fill and text colour for 0 to 1, pale to deep blue."""
    low, high = (232, 241, 250), (8, 74, 134)
    share = min(max(share, 0.0), 1.0)
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(low, high, strict=True))
    return f"#{red:02x}{green:02x}{blue:02x}", "#ffffff" if share > 0.5 else "#10202e"


def extremes(values: Iterable[float | None]) -> tuple[float, float]:
    """Return the least and the greatest of the values above 0; (1, 1) when there is none."""
    positive = [value for value in values if value]
    return (min(positive), max(positive)) if positive else (1.0, 1.0)


def heatmap(
    title: str,
    grid: Grid,
    values: Sequence[Sequence[float | None]],
    labels: Sequence[Sequence[str]],
    scale: tuple[float, float] | None = None,
) -> str:
    """Return a heatmap on a logarithmic scale.

    Args:
        title: read out by screen readers and shown on hover.
        grid: the axes.
        values: [rows][columns]; None or 0 is drawn empty.
        labels: [rows][columns] text of each cell.
        scale: values of the palest and the deepest shade; the extremes of ``values`` by default.
    """
    palest, deepest = scale or extremes(v for line in values for v in line)
    low, high = math.log(palest), math.log(deepest)
    body = grid.axes()
    for r, line in enumerate(values):
        for c, value in enumerate(line):
            x, y = grid.corner(c, r)
            place = (x + 1, y + 1, _CELL_WIDTH - 2, _CELL_HEIGHT - 2)
            fill, ink = "none", "currentColor"
            if value:
                share = (math.log(value) - low) / (high - low) if high > low else 0.5
                fill, ink = shade(share)
            edge = 'rx="3"' if value else 'rx="3" stroke="currentColor" stroke-opacity=".25"'
            body.append(rect(*place, fill, edge))
            middle = 'text-anchor="middle"'
            at = (x + _CELL_WIDTH / 2, y + _CELL_HEIGHT / 2 + 4)
            body.append(text(*at, labels[r][c], f'fill="{ink}" {middle}'))
    return picture(grid.width, grid.height, title, body)


def shares(
    title: str,
    grid: Grid,
    cells: Mapping[tuple[int, int], Mapping[str, float]],
    weights: Mapping[tuple[int, int], float],
    colours: Mapping[str, str],
) -> str:
    """Return a grid in which each cell is divided among series, its area telling its weight.

    Args:
        title: read out by screen readers and shown on hover.
        grid: the axes.
        cells: (column, row) to the share of each series, summing to 1.
        weights: (column, row) to the weight of the cell, 0 or more.
        colours: series to colour.
    """
    heaviest = max(weights.values(), default=0.0) or 1.0
    body = grid.axes()
    for c in range(len(grid.columns)):
        for r in range(len(grid.rows)):
            x, y = grid.corner(c, r)
            place = (x + 1, y + 1, _CELL_WIDTH - 2, _CELL_HEIGHT - 2)
            body.append(rect(*place, "none", 'rx="3" stroke="currentColor" stroke-opacity=".2"'))
            weight = weights.get((c, r), 0.0)
            if weight <= 0:
                continue
            scale = max(math.sqrt(weight / heaviest), 0.12)
            width, height = (_CELL_WIDTH - 6) * scale, (_CELL_HEIGHT - 6) * scale
            left = x + (_CELL_WIDTH - width) / 2
            top = y + (_CELL_HEIGHT - height) / 2
            for name, share in cells.get((c, r), {}).items():
                label = f"<title>{escape(name)}: {share:.0%}</title>"
                drawn = rect(left, top, width * share, height, colours[name])
                body.append(f"<g>{label}{drawn}</g>")
                left += width * share
    return picture(grid.width, grid.height, title, body)


def bars(
    title: str,
    rows: Sequence[tuple[str, Sequence[tuple[str, float]], str]],
    colours: Mapping[str, str],
) -> str:
    """Return horizontal stacked bars.

    Args:
        title: read out by screen readers and shown on hover.
        rows: label, parts as (series, value), and the text at the bar's end.
        colours: series to colour.
    """
    left = max(120, 16 + _LETTER_WIDTH * max((len(label) for label, _, _ in rows), default=0))
    length, height = 420, 34
    longest = max((sum(value for _, value in parts) for _, parts, _ in rows), default=0) or 1.0
    body, right = [], left + length + 330.0
    for index, (label, parts, ending) in enumerate(rows):
        y = index * height
        body.append(text(left - 10, y + 21, label, 'text-anchor="end"'))
        x = float(left)
        for name, value in parts:
            width = length * value / longest
            tip = f"<title>{escape(name)}: {value:,.2f}</title>"
            body.append(f"<g>{tip}{rect(x, y + 5, width - 1, height - 10, colours[name])}</g>")
            x += width
        body.append(text(x + 8, y + 21, ending))
        right = max(right, x + 8 + _LETTER_WIDTH * len(ending))
    return picture(right, height * len(rows), title, body)


def line(title: str, points: Sequence[tuple[float, float]], unit: str) -> str:
    """Return a filled line of y over x; both axes start at their smallest and at 0."""
    width, height, base = 640.0, 120.0, 96.0
    if not points:
        return picture(width, height, title, [text(10, 20, "no data")])
    first, last = points[0][0], points[-1][0]
    top = max(y for _, y in points) or 1.0
    span = (last - first) or 1.0
    path = [
        f"{40 + (x - first) / span * (width - 60):.1f},{base - y / top * 76:.1f}" for x, y in points
    ]
    area = f"40,{base} {' '.join(path)} {width - 20:.1f},{base}"
    body = [
        f'<polygon points="{area}" fill="{SERIES[0]}" fill-opacity=".18"/>',
        f'<polyline points="{" ".join(path)}" fill="none" stroke="{SERIES[0]}"/>',
        text(34, 24, f"{top:.3g}", 'text-anchor="end"'),
        text(34, base, "0", 'text-anchor="end"'),
        text(40, height - 6, unit, 'class="axis"'),
    ]
    return picture(width, height, title, body)
