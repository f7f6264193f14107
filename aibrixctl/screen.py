"""The console that results are drawn on; imported when there is something to draw."""

from collections.abc import Iterator
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Column, Table

_PROSE = 20
"""Columns of text are not made narrower than this."""
_VISIBLE = {
    **{code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"},
    0x7F: 0x2421,
    **dict.fromkeys((*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)), 0xFFFD),
}
"""Pictures of the characters that control a terminal, or turn its text around."""


class Screen(Console):
    """A console on which tables are narrowed by wrapping text, but never by cutting words.

    A table that can't be narrowed so far keeps its whole width, and runs past the edge. Names may
    come from anywhere, so what they hold of a terminal's control characters is shown, not sent.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Render as Rich does, with pictures in place of control characters."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(segment.text.translate(_VISIBLE), segment.style)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as Rich does, on a wider console where a table needs it."""
        usual = self.width
        for table in (item for item in objects if isinstance(item, Table)):
            self.width = max(self.width, self._fit(table, usual))
        try:
            super().print(*objects, **options)
        finally:
            self.width = usual

    def _fit(self, table: Table, width: int) -> int:
        """Set the widths of a table's columns where they are too wide; return the table's."""
        endless = self.options.update(width=1_000_000)
        natural = self.measure(table, options=endless).maximum
        if natural <= width:
            return natural
        sizes = [_widths(column) for column in table.columns]
        widths = [whole for _, whole in sizes]
        excess = natural - width
        if sum(whole - least for least, whole in sizes) < excess:
            return natural
        for _ in range(excess):
            slack = [
                now if now > least else 0 for now, (least, _) in zip(widths, sizes, strict=True)
            ]
            widths[slack.index(max(slack))] -= 1
        for column, fitting in zip(table.columns, widths, strict=True):
            column.width = fitting
        return width


def _widths(column: Column) -> tuple[int, int]:
    """Return the least and the whole width of a column; its own least width goes first."""
    texts = [str(cell) for cell in (column.header, *column.cells)]
    whole = max(cell_len(text) for text in texts)
    if column.no_wrap:
        return whole, whole
    if column.min_width:
        return column.min_width, whole
    word = max(cell_len(word) for text in texts for word in (text.split() or [""]))
    prose = any(" " in text for text in texts[1:])
    return max(word, min(whole, _PROSE)) if prose else word, whole
