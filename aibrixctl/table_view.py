"""Draw throughput tables and comparisons for a person."""

from collections import Counter
from typing import TYPE_CHECKING

from aibrixctl.heatmap import heatmap

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from profiler.compare import CellComparison, Comparison
    from profiler.table import Cell, ThroughputTable

_SOURCE_TEXT = {
    "measured": "measured",
    "simulated": "SIMULATED, not measured",
    "imported": "imported from another tool",
}


def rate_text(cell: "Cell") -> str:
    """Return a rate as shown in a cell: 0 when infeasible, a dash when not measured."""
    if cell.max_request_rate is None:
        return "–"
    bound = "≥" if cell.status == "client_limited" else ""
    return f"{bound}{cell.max_request_rate:.3g}"


def draw(console: "Console", table: "ThroughputTable", *, wide: bool) -> None:
    """Print one table: what it is, the rates as a heatmap, and what to know of them."""
    console.print(_title(table), style="bold")
    console.print(_origin(table))
    for note in table.provenance.notes:
        console.print(f"note: {note}")
    console.print(f"SLO: {'  '.join(map(str, table.slos)) or 'none'}")
    console.print("requests/s within the SLO, one replica:")
    grid = [[table.cell(i, o) for i in table.input_tokens] for o in table.output_tokens]
    console.print(
        heatmap(
            [str(size) for size in table.input_tokens],
            [str(size) for size in table.output_tokens],
            [[rate_text(cell) for cell in row] for row in grid],
            [[cell.max_request_rate for cell in row] for row in grid],
        )
    )
    for line in _legend(table):
        console.print(line)
    if wide:
        console.print(_details(table))


def _title(table: "ThroughputTable") -> str:
    gpus = f"{table.gpus_per_replica} x " if table.gpus_per_replica > 1 else ""
    what = f" ({gpus}{table.accelerator})" if table.accelerator else ""
    cost = table.cost_usd_per_hour
    price = "cost unknown" if cost is None else f"${cost:.4g}/h"
    return f"{table.target}{what}  {table.model}  {price}"


def _origin(table: "ThroughputTable") -> str:
    known = table.provenance
    parts = [_SOURCE_TEXT[known.source]]
    if known.source == "measured":
        engine = f"{known.engine} {known.engine_version or ''}".strip()
        parts[0] += f" on {engine} at {known.where}"
    elif known.where:
        parts[0] += f" ({known.where})"
    if known.via:
        parts.append({"job": "by Jobs", "port-forward": "THROUGH A PORT-FORWARD"}[known.via])
    if known.tolerance is not None:
        parts.append(f"tolerance {known.tolerance:.3%}".replace(".000%", "%"))
    if known.seed is not None:
        parts.append(f"seed {known.seed}")
    return ", ".join([*parts, known.created or "at an unknown time"])


def _legend(table: "ThroughputTable") -> list[str]:
    """Return a line for each kind of cell that needs one, and what limits the rates."""
    counts = Counter(cell.status for cell in table.cells)
    lines = []
    limits = Counter(
        cell.limited_by for cell in table.cells if cell.limited_by and cell.max_request_rate
    )
    if limits:
        named = ", ".join(f"{what} in {n} cells" for what, n in limits.most_common())
        lines.append(f"limited by {named}")
    if counts["infeasible"]:
        number = counts["infeasible"]
        lines.append(f"0: no rate meets the SLO ({number})")
    if counts["not_measured"]:
        lines.append(f"–: not measured ({counts['not_measured']})")
    if counts["client_limited"]:
        lines.append(f"≥: the load generator was the limit ({counts['client_limited']})")
    return lines


def _details(table: "ThroughputTable") -> "Table":
    from aibrixctl.render import table_of

    return table_of([_detail(cell) for cell in table.cells])


def _detail(cell: "Cell") -> dict[str, object]:
    row: dict[str, object] = {
        "in": cell.input_tokens,
        "out": cell.output_tokens,
        "status": cell.status,
        "requests/s": cell.max_request_rate,
        "misses at": cell.failing_request_rate,
        "limited by": cell.limited_by,
    }
    for metric in ("ttft", "tpot", "e2e"):
        stats = cell.latency.get(metric)
        row[f"{metric} mean ms"] = stats and stats.to_json()["mean"]
        row[f"{metric} p99 ms"] = stats and stats.to_json()["p99"]
    return row | {"probes": cell.probes, "notes": "; ".join(cell.notes) or None}


def draw_comparison(console: "Console", found: "Comparison") -> None:
    """Print how many times the rate of A is B's, per bucket, and which is cheaper."""
    inputs = sorted({cell.input_tokens for cell in found.cells})
    outputs = sorted({cell.output_tokens for cell in found.cells})
    cells = {(cell.input_tokens, cell.output_tokens): cell for cell in found.cells}
    grid = [[cells[i, o] for i in inputs] for o in outputs]
    headers = [str(size) for size in inputs], [str(size) for size in outputs]
    console.print(f"rate of {found.b} / rate of {found.a}:", style="bold")
    console.print(
        heatmap(
            *headers,
            [[_ratio_text(cell, found) for cell in row] for row in grid],
            [[cell.ratio for cell in row] for row in grid],
        )
    )
    if found.ratio is not None:
        console.print(f"geometric mean {found.ratio:.3g}")
    names = {"a": found.a, "b": found.b, "same": "same", None: "–"}
    if any(cell.cheaper for cell in found.cells):
        console.print("cheaper per request:", style="bold")
        labels = [[names[cell.cheaper] for cell in row] for row in grid]
        console.print(heatmap(*headers, labels, [[None for _ in row] for row in grid]))


def _ratio_text(cell: "CellComparison", found: "Comparison") -> str:
    """Return b / a; a lower bound of one side makes it a bound too."""
    if cell.ratio is not None:
        limited = cell.status_a == "client_limited", cell.status_b == "client_limited"
        bound = {(True, False): "≤", (False, True): "≥", (True, True): "~"}.get(limited, "")
        return f"{bound}{cell.ratio:.3g}"
    if cell.rate_a is None or cell.rate_b is None:
        return "–"
    if cell.rate_a == cell.rate_b == 0:
        return "neither"
    return f"only {found.b if cell.rate_b else found.a}"
