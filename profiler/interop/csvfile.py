"""Throughput tables as tidy CSV: one line per cell, units in the column names."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from profiler.slo import METRICS
from profiler.table import Cell, ThroughputTable

_STATISTICS = ("mean", "p50", "p90", "p95", "p99")
Row = dict[str, Any]


def usd_per_1000_requests(table: ThroughputTable, cell: Cell) -> float | None:
    """Return what 1,000 requests of a cell cost on a replica that serves nothing else."""
    if not table.cost_usd_per_hour or not cell.max_request_rate:
        return None
    return float(f"{table.cost_usd_per_hour / 3.6 / cell.max_request_rate:.6g}")


def rows(table: ThroughputTable) -> list[Row]:
    """Return one flat record per cell; None where there is no figure."""
    return [_row(table, cell) for cell in table.cells]


def _row(table: ThroughputTable, cell: Cell) -> Row:
    figures = cell.to_json()
    latency: Row = {}
    for metric in METRICS:
        stats = figures["latency"].get(f"{metric}_ms") or {}
        latency |= {f"{metric}_{name}_ms": stats.get(name) for name in _STATISTICS}
    return {
        "target": table.target,
        "model": table.model,
        "accelerator": table.accelerator,
        "gpus_per_replica": table.gpus_per_replica,
        "cost_usd_per_hour": table.cost_usd_per_hour,
        "slo": " ".join(map(str, table.slos)),
        "source": table.provenance.source,
        "input_tokens": cell.input_tokens,
        "output_tokens": cell.output_tokens,
        "status": cell.status,
        "max_request_rate": figures["max_request_rate"],
        "failing_request_rate": figures["failing_request_rate"],
        "limited_by": cell.limited_by,
        "usd_per_1000_requests": usd_per_1000_requests(table, cell),
        "output_tokens_per_s": figures["output_tokens_per_s"],
        **latency,
        "probes": cell.probes,
        "notes": "; ".join(cell.notes),
    }


def to_csv(tables: Sequence[ThroughputTable]) -> str:
    """Return CSV text with a header; lines end in a newline."""
    lines = [row for table in tables for row in rows(table)]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()
