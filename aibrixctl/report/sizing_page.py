"""The page of a pool's sizing: the curves, the figures behind them, and the sizes wanted."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aibrixctl.kv_size_view import series, size_text, summary, ticks
from aibrixctl.report.curves import curves
from aibrixctl.report.page import Tile, legend, page, paragraph, table
from aibrixctl.report.svg import SERIES


def sizing_page(document: Mapping[str, Any]) -> str:
    """Return the HTML page of what ``kv size`` found."""
    by_policy = series(document)
    colours = dict(zip(by_policy, SERIES, strict=False))
    wishes = [(c["policy"], c["wanted"]) for c in document["curves"] if c["wanted"]]
    marks = [(document["best_hit_rate"], f"{document['best_hit_rate']:.1%}: every block kept")]
    if wishes:
        marks.append((wishes[0][1]["hit_rate"], f"{wishes[0][1]['hit_rate']:.1%} wanted"))
    across = "pool size" if document["bytes_per_token"] else "pool size, blocks"
    drawn = curves(
        "hit rate over pool size", by_policy, ticks(document), colours, across=across, marks=marks
    )
    sections = [
        ("Hit rate over pool size", drawn + legend(colours) + _what_it_means(document)),
        ("Figures", _figures(document)),
        (
            "Policies",
            table(["policy", ""], [[c["policy"], c["about"]] for c in document["curves"]]),
        ),
    ]
    if wishes:
        sections.insert(1, ("Pool for the wanted hit rate", _wanted(wishes)))
    lead = [paragraph(line) for line in summary(document)]
    title = f"KV cache pool for {Path(document['trace']).name}"
    return page(title, lead, _tiles(document, wishes), sections)


def _what_it_means(document: Mapping[str, Any]) -> str:
    text = (
        "The hit rate is the share of prompt blocks that need no prefill, because the block and "
        "all before it in the prompt are in the pool. LRU is exact."
    )
    if document["sampled_share"] < 1:
        text += (
            f" The other policies were simulated on {document['sampled_share']:.1%} of the trace, "
            f"on which LRU is off by {document['sample_error']:.1%} at most."
        )
    return paragraph(text, "soft")


def _tiles(
    document: Mapping[str, Any], wishes: Sequence[tuple[str, Mapping[str, Any]]]
) -> list[Tile]:
    tiles = [
        Tile(f"{document['best_hit_rate']:.1%}", "most that any pool can hit"),
        Tile(size_text(document["working_set"]), "LRU needs for that"),
    ]
    reached = [(name, wish) for name, wish in wishes if wish["blocks"] is not None]
    if reached:
        name, wish = min(reached, key=lambda pair: (pair[0] == "opt", pair[1]["blocks"]))
        tiles.append(Tile(size_text(wish), f"for {wish['hit_rate']:.1%} with {name}"))
        if wish["usd_per_month"] is not None:
            tiles.append(Tile(f"${wish['usd_per_month']:,.0f}", "a month for that"))
    return tiles


def _figures(document: Mapping[str, Any]) -> str:
    rates = {name: dict(points) for name, points in series(document).items()}
    rows = [
        [label, *("-" if blocks not in by else f"{by[blocks]:.2%}" for by in rates.values())]
        for blocks, label in ticks(document)
    ]
    return table(["pool", *rates], rows)


def _wanted(wishes: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    rows = [
        [
            name,
            "no size reaches it" if wish["blocks"] is None else size_text(wish),
            "-" if wish["usd_per_month"] is None else f"{wish['usd_per_month']:,.2f}",
        ]
        for name, wish in wishes
    ]
    return table(["policy", "size", "USD a month"], rows)
