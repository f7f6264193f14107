"""Draw the cache pools of a cluster for a person."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_NARROW = ("NAMESPACE", "NAME", "BACKEND", "CACHE", "METADATA", "WATCHER", "SLOTS", "URL")
_WIDE = ("MODE", "METADATA AT", "DATA")


def draw_pools(
    console: "Console", rows: Sequence[Mapping[str, Any]], where: str, *, wide: bool
) -> None:
    """Print one line for each pool; pods as ready/wanted, slots as those behind ready pods."""
    from rich.table import Table

    if not rows:
        console.print(f"no KVCache resource {where}", soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in (*_NARROW, *(_WIDE if wide else ())):
        table.add_column(title, overflow="fold")
    for row in rows:
        cells = [
            row["namespace"],
            row["name"],
            row["backend"],
            *(_pods(row[role]) for role in ("cache", "metadata", "kvwatcher")),
            _slots(row["slots"]),
            row["url"] or "-",
        ]
        more = (row["mode"], row["metadata_address"] or "-", row["data"])
        table.add_row(*cells, *(more if wide else ()))
    console.print(table)


def _pods(count: Mapping[str, int]) -> str:
    text = f"{count['ready']}/{count['wanted']}"
    return text if count["present"] == count["wanted"] else f"{text} ({count['present']} there)"


def _slots(slots: Mapping[str, int] | None) -> str:
    return f"{slots['on_ready_pods']:,}/{slots['total']:,}" if slots else "-"
