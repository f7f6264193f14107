"""Turn a sizing into its document, and draw it for a person."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from accelerators.units import format_bytes

if TYPE_CHECKING:
    from rich.console import Console

    from kvpool.sizing.curve import Sizing

GIB = 1 << 30
MOST_SAMPLE_ERROR = 0.05
"""Where LRU on a sample is off by more of a hit rate, policies that ran on it are not compared."""
_LEAST_WIDTH = 20
_UNITS = (("Ti", 1 << 40), ("Gi", GIB), ("Mi", 1 << 20), ("Ki", 1 << 10), ("B", 1))


@dataclass(frozen=True)
class Terms:
    """How blocks turn into bytes and dollars.

    Attributes:
        block_tokens: of one block.
        bytes_per_token: of the KV cache; None where it is not known.
        usd_per_gib_month: price of the pool's memory; None where it is not known.
    """

    block_tokens: int
    bytes_per_token: int | None = None
    usd_per_gib_month: float | None = None

    @property
    def bytes_per_block(self) -> int | None:
        """Bytes of one block."""
        return None if self.bytes_per_token is None else self.block_tokens * self.bytes_per_token

    @property
    def unit_blocks(self) -> float:
        """Blocks of a GiB, or one where bytes are not known."""
        return 1.0 if self.bytes_per_block is None else GIB / self.bytes_per_block

    def of(self, blocks: int | None) -> dict[str, Any]:
        """Return a size in blocks, tokens, bytes and dollars a month."""
        known = blocks is not None and self.bytes_per_block is not None
        size = blocks * self.bytes_per_block if known else None  # type: ignore[operator]
        price = self.usd_per_gib_month
        return {
            "blocks": blocks,
            "tokens": None if blocks is None else blocks * self.block_tokens,
            "bytes": size,
            "usd_per_month": None
            if size is None or price is None
            else round(size / GIB * price, 2),
        }

    def document(self, found: "Sizing") -> dict[str, Any]:
        """Return the JSON form of a sizing."""
        from kvpool.sizing.policies import POLICIES

        return {
            "block_tokens": self.block_tokens,
            "bytes_per_token": self.bytes_per_token,
            "usd_per_gib_month": self.usd_per_gib_month,
            "requests": found.requests,
            "accesses": found.accesses,
            "counted_accesses": found.counted_accesses,
            "distinct_blocks": found.distinct_blocks,
            "best_hit_rate": round(found.best_hit_rate, 6),
            "working_set": self.of(found.working_set_blocks),
            "sampled_share": round(found.sampled_share, 6),
            "sample_error": round(found.sample_error, 6),
            "complete": found.complete,
            "curves": [
                {
                    "policy": curve.policy,
                    "about": POLICIES[curve.policy].about,
                    "points": [
                        {
                            **self.of(point.blocks),
                            "hit_rate": round(point.hit_rate, 6),
                            "resident_rate": round(point.resident_rate, 6),
                        }
                        for point in curve.points
                    ],
                    "wanted": curve.wanted
                    and {"hit_rate": curve.wanted.hit_rate, **self.of(curve.wanted.blocks)},
                }
                for curve in found.curves
            ],
        }


def short_size(size: Mapping[str, Any]) -> str:
    """Return a size for the head of a column: ``64Gi``, or ``262k`` blocks without bytes."""
    if size["bytes"] is None:
        blocks = size["blocks"]
        return str(blocks) if blocks < 10_000 else f"{blocks / 1000:.0f}k"
    name, unit = next((pair for pair in _UNITS if size["bytes"] >= 0.99 * pair[1]), _UNITS[-1])
    return f"{size['bytes'] / unit:.3g}{name}"


def size_text(size: Mapping[str, Any]) -> str:
    """Return a size in a sentence: in bytes where they are known, else in blocks."""
    if size["bytes"] is None:
        return f"{size['blocks']:,} blocks"
    return format_bytes(size["bytes"])


def summary(document: Mapping[str, Any]) -> list[str]:
    """Return what the trace is, in two sentences."""
    first = (
        f"{document['requests']:,} requests, {document['accesses']:,} accesses to "
        f"{document['distinct_blocks']:,} blocks of {document['block_tokens']} tokens"
    )
    if document["bytes_per_token"]:
        first += f", {format_bytes(document['bytes_per_token'])} a token"
    if document["warmup_share"]:
        first += f"; the first {document['warmup_share']:.0%} of the requests not counted"
    second = (
        f"at most {document['best_hit_rate']:.1%} can hit; LRU needs "
        f"{size_text(document['working_set'])} for that"
    )
    return [first, second]


def ticks(document: Mapping[str, Any]) -> list[tuple[float, str]]:
    """Return the sizes of the curves with their texts."""
    points: Sequence[Mapping[str, Any]] = max(
        (curve["points"] for curve in document["curves"]), key=len
    )
    return [(point["blocks"], short_size(point)) for point in points]


def series(document: Mapping[str, Any]) -> dict[str, list[tuple[float, float]]]:
    """Return the points of every policy."""
    return {
        curve["policy"]: [(point["blocks"], point["hit_rate"]) for point in curve["points"]]
        for curve in document["curves"]
    }


def draw(console: "Console", document: Mapping[str, Any]) -> None:
    """Print the trace, the curves as a picture and as figures, and the sizes wanted."""
    from aibrixctl import chart

    console.print(document["trace"], style="bold")
    for line in summary(document):
        console.print(line)
    if not document["curves"]:
        return
    console.print()
    console.print("hit rate over pool size")
    width = min(chart.USUAL_WIDTH, console.width - chart.AXIS_WIDTH)
    for row in chart.curves(series(document), ticks(document), width=max(width, _LEAST_WIDTH)):
        console.print(row)
    console.print()
    _draw_figures(console, document)
    if any(curve["wanted"] for curve in document["curves"]):
        console.print()
        comparable = document["sample_error"] <= MOST_SAMPLE_ERROR
        _draw_wanted(console, document["curves"], comparable=comparable)


def _draw_figures(console: "Console", document: Mapping[str, Any]) -> None:
    from aibrixctl.heatmap import heatmap

    sizes = ticks(document)
    by_policy = {name: dict(points) for name, points in series(document).items()}
    grid = [[by_policy[name].get(blocks) for blocks, _ in sizes] for name in by_policy]
    labels = [["-" if rate is None else f"{rate * 100:.1f}" for rate in row] for row in grid]
    heads = [label for _, label in sizes]
    console.print(heatmap(heads, list(by_policy), labels, grid, corner="%"))


def _draw_wanted(
    console: "Console", curves: Sequence[Mapping[str, Any]], *, comparable: bool
) -> None:
    from rich.table import Table

    wishes = [(curve["policy"], curve["wanted"]) for curve in curves if curve["wanted"]]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(f"POOL FOR {wishes[0][1]['hit_rate'] * 100:.4g}%")
    for name in ("BLOCKS", "BYTES", "USD/MONTH", "AGAINST LRU"):
        table.add_column(name, justify="right")
    lru = next((wish["blocks"] for name, wish in wishes if name == "lru"), None)
    for name, wish in wishes:
        if wish["blocks"] is None:
            table.add_row(name, "none", "-", "-", "-")
            continue
        against = (
            "-"
            if not lru or not (comparable or name == "lru")
            else f"{wish['blocks'] / lru - 1:+.0%}"
        )
        price = "-" if wish["usd_per_month"] is None else f"{wish['usd_per_month']:,.2f}"
        size = "-" if wish["bytes"] is None else format_bytes(wish["bytes"])
        table.add_row(name, f"{wish['blocks']:,}", size, price, against)
    console.print(table)
