"""Records, document and drawing of an engine's KV events."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from accelerators.units import format_bytes, format_duration

if TYPE_CHECKING:
    from rich.console import Console

    from kvpool.events.cache import LiveCache
    from kvpool.events.codec import Event
    from kvpool.events.stream import Health, Received

_SHORT_HASH = 12
Span = tuple[float | None, float | None]


def record(received: "Received", event: "Event", *, token_ids: bool) -> dict[str, Any]:
    """Return an event as a line of JSON; prompts only where they are asked for."""
    from kvpool.events.codec import Removed, Stored, Unknown, hash_text

    batch = received.batch
    head = {
        "sequence": received.sequence,
        "time_s": batch.time_s,
        "rank": batch.rank,
        "replayed": received.replayed,
    }
    match event:
        case Stored():
            more: dict[str, Any] = {
                "type": "stored",
                "hashes": [hash_text(block) for block in event.hashes],
                "parent": None if event.parent is None else hash_text(event.parent),
                "block_tokens": event.block_tokens,
                "tokens": len(event.token_ids),
                "medium": event.medium,
                "group": event.group,
                "lora": event.lora,
            }
            return head | more | ({"token_ids": list(event.token_ids)} if token_ids else {})
        case Removed():
            hashes = [hash_text(block) for block in event.hashes]
            more = {"hashes": hashes, "medium": event.medium, "group": event.group}
            return head | {"type": "removed"} | more
        case Unknown():
            return head | {"type": "unknown", "kind": event.kind}
    return head | {"type": "cleared"}


def document(
    endpoint: str,
    cache: "LiveCache",
    health: "Health",
    span: Span,
    *,
    top: int,
    bytes_per_token: int | None,
) -> dict[str, Any]:
    """Return the JSON form of what was followed.

    Args:
        endpoint: where it came from.
        cache: at the end.
        health: of the subscription.
        span: the engine's time at the first and the last batch, seconds since the epoch.
        top: number of prefixes.
        bytes_per_token: of the KV cache; None where it is not known.
    """
    from kvpool.events.codec import hash_text

    first_s, last_s = span
    return {
        "endpoint": endpoint,
        "span_s": None if first_s is None or last_s is None else round(last_s - first_s, 6),
        "counts": dict(vars(cache.counts)),
        "live_blocks": cache.blocks,
        "peak_blocks": cache.peak_blocks,
        "tiers": [
            {
                "medium": medium,
                "group": group,
                "blocks": size.blocks,
                "tokens": size.tokens,
                "bytes": None if bytes_per_token is None else size.tokens * bytes_per_token,
            }
            for (medium, group), size in sorted(cache.sizes().items(), key=str)
        ],
        "top_prefixes": [
            {
                "block": hash_text(prefix.block),
                "tokens": prefix.tokens,
                "whole": prefix.whole,
                "sequences": prefix.sequences,
                "blocks_below": prefix.blocks_below,
                "spared_tokens": prefix.spared_tokens,
                "lora": prefix.lora,
            }
            for prefix in cache.top_prefixes(top)
        ],
        "stream": {
            "joined_at": health.joined_at,
            "last": health.last,
            "batches": health.batches,
            "replayed": health.replayed,
            "lost": health.lost,
            "malformed": health.malformed,
            "restarts": health.restarts,
            "disconnects": health.disconnects,
            "gaps": [
                {"first": gap.first, "last": gap.last, "recovered": gap.recovered}
                for gap in health.gaps
            ],
        },
    }


def draw(console: "Console", data: Mapping[str, Any], *, wide: bool) -> None:
    """Print what came, what the cache holds, and the prefixes that are shared."""
    console.print(data["endpoint"], style="bold")
    for line in _sentences(data):
        console.print(line)
    if data["tiers"]:
        console.print()
        _draw_tiers(console, data)
    if data["top_prefixes"]:
        console.print()
        _draw_prefixes(console, data, wide=wide)


def _sentences(data: Mapping[str, Any]) -> list[str]:
    counts, stream = data["counts"], data["stream"]
    over = f" over {format_duration(data['span_s'])}" if data["span_s"] else ""
    came = f"{counts['events']:,} events in {stream['batches']:,} batches{over}"
    if stream["replayed"]:
        came += f", {stream['replayed']:,} of them replayed"
    lost = f", {stream['lost']:,} lost" if stream["lost"] else ""
    what = f"{counts['stored_blocks']:,} blocks stored, {counts['removed_blocks']:,} removed"
    if counts["clears"]:
        what += f", cleared {counts['clears']:,} times"
    lines = [came + lost, what]
    if counts["stored_again"]:
        share = counts["stored_again"] / counts["stored_blocks"]
        lines.append(
            f"{counts['stored_again']:,} of these ({share:.0%}) were stored again soon after "
            "their removal"
        )
    if counts["unknown_events"]:
        lines.append(f"{counts['unknown_events']:,} events of unknown kinds")
    return lines


def _draw_tiers(console: "Console", data: Mapping[str, Any]) -> None:
    from rich.table import Table

    grouped = any(tier["group"] is not None for tier in data["tiers"])
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("LIVE ON")
    for name in (*(("GROUP",) if grouped else ()), "BLOCKS", "TOKENS", "BYTES"):
        table.add_column(name, justify="right")
    for tier in data["tiers"]:
        group = ("-" if tier["group"] is None else str(tier["group"]),) if grouped else ()
        size = "-" if tier["bytes"] is None else format_bytes(tier["bytes"])
        blocks, tokens = f"{tier['blocks']:,}", f"{tier['tokens']:,}"
        table.add_row(tier["medium"] or "-", *group, blocks, tokens, size)
    console.print(table)
    console.print(f"{data['live_blocks']:,} distinct blocks, {data['peak_blocks']:,} at most")


def _draw_prefixes(console: "Console", data: Mapping[str, Any], *, wide: bool) -> None:
    from rich.table import Table

    loras = any(prefix["lora"] for prefix in data["top_prefixes"])
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("SHARED UP TO BLOCK")
    numbers = ("TOKENS", "SEQUENCES", "BLOCKS BELOW", "SPARED TOKENS")
    for name in numbers:
        table.add_column(name, justify="right")
    if loras:
        table.add_column("LORA")
    for prefix in data["top_prefixes"]:
        block = prefix["block"] if wide else prefix["block"][:_SHORT_HASH]
        tokens = f"{prefix['tokens']:,}" if prefix["whole"] else f"≥ {prefix['tokens']:,}"
        table.add_row(
            block,
            tokens,
            *(f"{prefix[name]:,}" for name in ("sequences", "blocks_below", "spared_tokens")),
            *((prefix["lora"] or "-",) if loras else ()),
        )
    console.print(table)
