"""Heatmaps in the terminal: input tokens across, output tokens down, as in the report."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aibrixctl.report.svg import shade

if TYPE_CHECKING:
    from rich.table import Table


def heatmap(
    columns: Sequence[str],
    rows: Sequence[str],
    labels: Sequence[Sequence[str]],
    values: Sequence[Sequence[float | None]],
    *,
    corner: str = "output \\ input",
) -> "Table":
    """Return a grid whose cells are coloured on a logarithmic scale where there is colour.

    Args:
        columns: headers, one per column.
        rows: headers, one per row.
        labels: [rows][columns] text of each cell.
        values: [rows][columns]; None or 0 is left plain.
        corner: header of the first column.
    """
    from rich.table import Table
    from rich.text import Text

    logs = [math.log(value) for row in values for value in row if value]
    low, high = (min(logs), max(logs)) if logs else (0.0, 0.0)
    grid = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    grid.add_column(corner, justify="right", no_wrap=True)
    for column in columns:
        grid.add_column(column, justify="right", no_wrap=True)
    for header, texts, figures in zip(rows, labels, values, strict=True):
        cells = []
        for text, value in zip(texts, figures, strict=True):
            style = ""
            if value:
                fill, ink = shade((math.log(value) - low) / (high - low) if high > low else 0.5)
                style = f"{ink} on {fill}"
            cells.append(Text(f" {text} ", style=style))
        grid.add_row(header, *cells)
    return grid
