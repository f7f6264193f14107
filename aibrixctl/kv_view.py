"""Draw what a KV pool holds for a person."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from accelerators.units import format_bytes

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from kvpool.entry import Entry, PoolFacts
    from kvpool.listing import Details
    from kvpool.stats import Histogram, PoolStats

_BINS = ("<1m", "<10m", "<1h", "<6h", "<1d", "<7d", "more")
_STATE_WORDS = {"orphan": "orphaned", "foreign": "foreign", "undecodable": "undecodable"}
_MOST_TAGS = 10


def span(seconds: float | None) -> str:
    """Return a rough span of time in one unit, such as ``42s``, ``12m``, ``5h`` or ``3d``."""
    if seconds is None:
        return "-"
    for limit_s, unit_s, name in ((60, 1, "s"), (3600, 60, "m"), (172_800, 3600, "h")):
        if seconds < limit_s:
            return f"{int(seconds // unit_s)}{name}"
    return f"{int(seconds // 86400)}d"


def draw_facts(console: "Console", url: str, facts: "PoolFacts") -> None:
    """Print what a pool says of itself: two lines, and the nodes where it has any."""
    console.print(f"{url}  {facts.backend}", style="bold")
    parts = []
    if facts.used_bytes is not None:
        of = f" of {format_bytes(facts.capacity_bytes)}" if facts.capacity_bytes else ""
        parts.append(f"{facts.medium or 'store'}: {format_bytes(facts.used_bytes)}{of} used")
    if facts.eviction:
        parts.append(f"evicts by {facts.eviction}")
    if facts.hit_rate is not None:
        lookups = (facts.hits or 0) + (facts.misses or 0)
        scans = ", scans included" if facts.scans_count else ""
        parts.append(f"{facts.hit_rate:.1%} of {lookups:,} lookups hit{scans}")
    if not facts.writable:
        parts.append("read only")
    if parts:
        console.print("; ".join(parts))
    if facts.nodes:
        _draw_nodes(console, facts)


def _draw_nodes(console: "Console", facts: "PoolFacts") -> None:
    if facts.total_slots is None:
        console.print(_node_sizes(facts))
        return
    table = _table("NODE", "ADDRESS", "SLOTS", "RANGES", right=("SLOTS",))
    for node in facts.nodes:
        ranges = ", ".join(f"{start}-{end}" for start, end in node.slots) or "none"
        table.add_row(node.name or "-", node.address, f"{node.slot_count:,}", ranges)
    console.print(table)
    covered = {
        slot
        for node in facts.nodes
        for start, end in node.slots
        for slot in range(max(0, start), min(end, facts.total_slots - 1) + 1)
    }
    console.print(f"{len(covered):,} of {facts.total_slots:,} slots have an owner")


def _node_sizes(facts: "PoolFacts") -> "Table":
    """Return the nodes of a cluster that has no slots, and how full they are."""
    table = _table("NODE", "ADDRESS", "STATUS", "USED", "OF", right=("USED", "OF"))
    for node in facts.nodes:
        used = "-" if node.used_bytes is None else format_bytes(node.used_bytes)
        size = "-" if node.capacity_bytes is None else format_bytes(node.capacity_bytes)
        table.add_row(node.name or "-", node.address, node.status or "-", used, size)
    return table


def draw_stats(console: "Console", url: str, stats: "PoolStats") -> None:
    """Print what a scan counted."""
    draw_facts(console, url, stats.facts)
    console.print(_totals(stats))
    if stats.groups:
        console.print()
        console.print(_groups(stats))
        for line in _uneven(stats):
            console.print(line)
    if stats.tags:
        console.print()
        console.print(_tags(stats))
    if stats.entries:
        console.print()
        console.print(_histograms(stats))
    for line in _notes(stats):
        console.print(line)


def _totals(stats: "PoolStats") -> str:
    whole = stats.states["whole"]
    text = f"{whole.entries:,} entries, {format_bytes(whole.bytes)}"
    if stats.tokens is not None:
        text += f", {stats.tokens:,} tokens"
    others = [
        f"{tally.entries:,} {_STATE_WORDS[state]} ({format_bytes(tally.bytes)})"
        for state, tally in stats.states.items()
        if state != "whole" and tally.entries
    ]
    return f"{text}; also {', '.join(others)}" if others else text


def _groups(stats: "PoolStats") -> "Table":
    found = stats.largest_groups()
    by_model = any(name.model for name, _ in found)
    heads = ["MODEL", "DTYPE", "RANKS"] if by_model else ["NAMESPACE"]
    numbers = ["LAYERS", "ENTRIES", "BYTES", "SHARE", "TOKENS"]
    table = _table(*heads, *numbers, right=("RANKS", *numbers))
    total = stats.states["whole"].bytes
    for name, group in found:
        labels = [name.text]
        if by_model:
            labels += [name.dtype or "-", "-" if name.world_size is None else str(name.world_size)]
        tally = group.tally
        table.add_row(
            *labels,
            str(group.layers) if group.layers else "-",
            f"{tally.entries:,}",
            format_bytes(tally.bytes),
            f"{tally.bytes / total:.0%}" if total else "-",
            "-" if group.tokens is None else f"{group.tokens:,}",
        )
    return table


def _uneven(stats: "PoolStats") -> list[str]:
    """Say where some ranks hold fewer entries than others, and engines will miss."""
    lines = []
    for name, group in stats.largest_groups():
        ranks = [group.workers.get(rank, 0) for rank in range(name.world_size or 0)]
        if ranks and min(ranks) < max(ranks):
            least, most = ranks.index(min(ranks)), ranks.index(max(ranks))
            lines.append(
                f"{name.text}: rank {least} has {ranks[least]:,} entries, "
                f"rank {most} {ranks[most]:,}; an engine hits only what all have"
            )
    return lines


def _tags(stats: "PoolStats") -> "Table":
    table = _table("TAG", "VALUE", "ENTRIES", "BYTES", right=("ENTRIES", "BYTES"))
    tags = stats.largest_tags()
    for (name, value), tally in tags[:_MOST_TAGS]:
        table.add_row(name, value, f"{tally.entries:,}", format_bytes(tally.bytes))
    if len(tags) > _MOST_TAGS:
        table.add_row("...", f"{len(tags) - _MOST_TAGS} more in -o json", "", "")
    return table


def _histograms(stats: "PoolStats") -> "Table":
    table = _table("ENTRIES", *_BINS, "ELSE", right=(*_BINS, "ELSE"))
    for title, histogram in (("stored ago", stats.stored), ("used ago", stats.accessed)):
        if histogram.without < stats.entries:
            unknown = f"{histogram.without:,} unknown" if histogram.without else ""
            table.add_row(title, *_counts(histogram), unknown)
    lasting = "all" if stats.expires.without == stats.entries else f"{stats.expires.without:,}"
    fate = "when evicted" if stats.facts.evicts_lasting else "never"
    table.add_row("expire in", *_counts(stats.expires), f"{lasting} {fate}")
    return table


def _counts(histogram: "Histogram") -> list[str]:
    return [f"{count:,}" if count else "·" for count in histogram.counts]


def _notes(stats: "PoolStats") -> list[str]:
    lines = []
    if stats.entries and not stats.exact_bytes:
        lines.append(
            "sizes are memory taken; --headers reads lengths and tokens, which this server "
            "counts as use"
        )
    return lines


def draw_entries(
    console: "Console", entries: Sequence["Entry"], now_s: float, *, wide: bool
) -> None:
    """Print entries as a table; with their whole keys where there is room."""
    rows = [_entry_row(entry, now_s) for entry in entries]
    if not rows:
        console.print("no such entries")
        return
    # A column that says the same of all, or nothing, is left out; the model is then the title.
    values = {head: {row[head] for row in rows} for head in rows[0]}
    heads = [head for head in values if values[head] not in ({"-"}, {"whole"})]
    if len(values["MODEL"]) == 1 and "MODEL" in heads and not wide:
        console.print(rows[0]["MODEL"], style="bold")
        heads.remove("MODEL")
    numbers = ("RANK", "LAYER", "TOKENS", "BYTES", "STORED", "USED", "EXPIRES")
    table = _table(*heads, *(["KEY"] if wide else []), right=numbers)
    for row, entry in zip(rows, entries, strict=True):
        table.add_row(*(row[head] for head in heads), *([entry.key] if wide else []))
    console.print(table)


def _entry_row(entry: "Entry", now_s: float) -> dict[str, str]:
    is_layer = entry.layers is not None and entry.layers[0] == entry.layers[1]
    left_s = None if entry.expires_s is None else max(0.0, entry.expires_s - now_s)
    return {
        "HASH": _short_hash(entry),
        "MODEL": entry.model or entry.namespace or "-",
        "RANK": "-" if entry.worker_id is None else f"{entry.worker_id}/{entry.world_size}",
        "LAYER": str(entry.layers[0]) if entry.layers and is_layer else "-",
        "TOKENS": "-" if entry.tokens is None else f"{entry.tokens:,}",
        "BYTES": format_bytes(entry.bytes),
        "STORED": _ago(entry.stored_s, now_s),
        "USED": _ago(entry.accessed_s, now_s),
        "EXPIRES": span(left_s),
        "STATE": entry.state,
    }


def _short_hash(entry: "Entry") -> str:
    """Return the start of an entry's hash, or the end of a key that has none."""
    if entry.chunk_hash:
        return entry.chunk_hash[:16]
    return entry.key if len(entry.key) <= 24 else f"...{entry.key[-21:]}"


def _ago(moment_s: float | None, now_s: float) -> str:
    return span(None if moment_s is None else max(0.0, now_s - moment_s))


def _table(*heads: str, right: Sequence[str] = ()) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, justify="right" if head in right else "left")
    return table


def draw_entry(
    console: "Console", entry: "Entry", details: "Details", *, may_be_evicted: bool
) -> None:
    """Print one entry, a fact a line; ``may_be_evicted`` also where it has no expiry."""
    import time

    now_s = time.time()
    console.print(entry.key, style="bold", soft_wrap=True)
    for name, text in _facts_of(entry, details, now_s, may_be_evicted):
        console.print(f"{name:<10} {text}", soft_wrap=True)
    for fault in details.faults:
        console.print(f"fault      {fault}", soft_wrap=True)


def _facts_of(
    entry: "Entry", details: "Details", now_s: float, may_be_evicted: bool
) -> list[tuple[str, str]]:
    lasting = "at no set time; evicted by the store" if may_be_evicted else "never"
    rank = "" if entry.worker_id is None else f"{entry.worker_id}, of {entry.world_size} from 0"
    layers = "" if entry.layers is None else f"{entry.layers[0]} to {entry.layers[1]}"
    tags = ", ".join(f"{name}={value}" for name, value in entry.tags)
    facts = [
        ("state", entry.state),
        ("model", entry.model or ""),
        ("namespace", entry.namespace or ""),
        ("rank", rank),
        ("dtype", entry.dtype or ""),
        ("layers", layers),
        ("tokens", "" if entry.tokens is None else f"{entry.tokens:,}"),
        ("tags", tags),
        ("bytes", f"{entry.bytes:,} ({format_bytes(entry.bytes)})"),
        *_header_facts(entry),
        ("stored", _moment(entry.stored_s, now_s)),
        ("last used", _moment(entry.accessed_s, now_s)),
        ("expires", _moment(entry.expires_s, now_s) or lasting),
        ("node", entry.node or ""),
        ("key by", details.key_builder or ""),
        ("sha256", details.sha256 or ""),
        ("prefix", _tokens(details.prefix_tokens)),
        ("token ids", _tokens(details.tokens)),
    ]
    return [(name, text) for name, text in facts if text]


def _header_facts(entry: "Entry") -> list[tuple[str, str]]:
    header = entry.header
    if header is None:
        return []
    shapes = "; ".join(
        f"{group.dtype} [{', '.join(map(str, group.shape))}]" for group in header.groups
    )
    return [("header", f"{header.value_bytes:,} bytes of {header.layout}, {shapes}")]


def _moment(moment_s: float | None, now_s: float) -> str:
    """Return a time of day with how far it is, empty for none."""
    import datetime

    if moment_s is None:
        return ""
    when = datetime.datetime.fromtimestamp(moment_s, datetime.UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    distance = now_s - moment_s
    return f"{when}, {span(distance)} ago" if distance >= 0 else f"{when}, in {span(-distance)}"


def _tokens(tokens: Sequence[int] | None) -> str:
    """Return the first and last tokens of a list, and how many there are."""
    if not tokens:
        return ""
    listed = " ".join(map(str, tokens if len(tokens) <= 16 else tokens[:8]))
    last = f" ... {' '.join(map(str, tokens[-4:]))}" if len(tokens) > 16 else ""
    return f"{len(tokens)}: {listed}{last}"
