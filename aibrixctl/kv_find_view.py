"""Draw for a person how much of a prompt a KV pool holds."""

from typing import TYPE_CHECKING

from accelerators.units import format_bytes

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from kvpool.find.lookup import Found
    from kvpool.find.prefix import Group

_MARKS = {"cached": "█", "partial": "▒", "broken": "x", "missing": "·", "unknown": "?"}
_STYLES = {"partial": "yellow", "broken": "red", "missing": "dim"}
_MARKS_PER_LINE = 64


def draw_found(
    console: "Console", url: str, prompt_tokens: int, found: "Found", *, wide: bool
) -> None:
    """Print each group's prefix, its blocks as a strip, and where there is room a line each."""
    console.print(f"{url}  prompt of {prompt_tokens:,} tokens", style="bold", soft_wrap=True)
    for group in found.groups:
        console.print()
        _draw_group(console, group)
        if wide:
            console.print(_blocks(group))
    if not found.groups:
        console.print("nothing of it is cached")


def _draw_group(console: "Console", group: "Group") -> None:
    from rich.text import Text

    title = [group.name]
    if group.dtype:
        title.append(group.dtype)
    if group.world_size:
        title.append(f"{group.world_size} ranks" if group.world_size > 1 else "1 rank")
    title += [f"{name}={value}" for name, value in group.tags]
    console.print("  ".join(title), style="bold", soft_wrap=True)
    console.print(f"keys by {group.scheme}", soft_wrap=True)
    for start in range(0, len(group.blocks), _MARKS_PER_LINE):
        line = Text("  ")
        for block in group.blocks[start : start + _MARKS_PER_LINE]:
            line.append(_MARKS[block.state], _STYLES.get(block.state, ""))
        console.print(line)
    for text in _summary(group):
        console.print(text, soft_wrap=True)


def _summary(group: "Group") -> list[str]:
    counts: dict[str, int] = {}
    for block in group.blocks:
        counts[block.state] = counts.get(block.state, 0) + 1
    if set(counts) == {"unknown"}:
        nodes: dict[str, int] = {}
        for block in group.blocks:
            nodes[block.node or "-"] = nodes.get(block.node or "-", 0) + 1
        return [f"{count:,} blocks belong to {node}" for node, count in sorted(nodes.items())]
    share = group.prefix_tokens / group.prompt_tokens
    size = format_bytes(sum(block.bytes for block in group.blocks))
    lines = [
        f"{group.prefix_tokens:,} of {group.prompt_tokens:,} tokens cached from the start "
        f"({share:.0%}), {group.prefix_blocks:,} of {len(group.blocks):,} blocks; {size} in all"
    ]
    if group.prefix_blocks < len(group.blocks):
        first = group.blocks[group.prefix_blocks]
        there = sum(entry.state == "whole" for entry in first.entries)
        detail = f", {there} of {first.needed} entries there" if first.state == "partial" else ""
        lines.append(
            f"first gap at token {first.start:,}: block {first.chunk_hash[:32]} is "
            f"{first.state}{detail}"
        )
    if group.beyond_gap:
        lines.append(f"{group.beyond_gap:,} blocks after the gap are cached in vain")
    return lines


def _blocks(group: "Group") -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("TOKENS", "HASH", "STATE", "ENTRIES", "BYTES", "NODE"):
        table.add_column(head, justify="right" if head in ("ENTRIES", "BYTES") else "left")
    for block in group.blocks:
        of = f"/{block.needed}" if block.needed else ""
        table.add_row(
            f"{block.start:,}-{block.end - 1:,}",
            block.chunk_hash[:32],
            block.state,
            "-" if block.unknown else f"{len(block.entries)}{of}",
            "-" if block.unknown else format_bytes(block.bytes),
            block.node or "-",
        )
    return table
