"""Compare two throughput tables bucket by bucket: rates, and what a request costs."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from profiler.errors import ProfilerUsageError
from profiler.interop.csvfile import usd_per_1000_requests
from profiler.slo import differences
from profiler.table import Cell, Status, ThroughputTable

Better = Literal["a", "b", "same"]


@dataclass(frozen=True)
class CellComparison:
    """One bucket of both tables.

    Attributes:
        input_tokens, output_tokens: upper bounds of the bucket.
        status_a, status_b: what each table says of it.
        rate_a, rate_b: requests/s; None where not measured.
        ratio: b / a; None where either is 0 or not measured.
        faster: the higher rate; ``same`` when both lie within the tolerances of their searches;
            None when it can't be said.
        usd_per_1000_a, usd_per_1000_b: cost of 1,000 requests; None without rate or cost.
        cheaper: the lower cost per request, as above; whoever serves the bucket at all, where the
            other can't.
    """

    input_tokens: int
    output_tokens: int
    status_a: Status
    status_b: Status
    rate_a: float | None
    rate_b: float | None
    ratio: float | None
    faster: Better | None
    usd_per_1000_a: float | None
    usd_per_1000_b: float | None
    cheaper: Better | None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return dict(vars(self))


@dataclass(frozen=True)
class Comparison:
    """Two tables side by side.

    Attributes:
        a, b: names of the targets.
        cells: one per bucket.
        ratio: geometric mean of the cells' ratios b / a; None when no cell has one.
        warnings: differences that make the comparison less than fair.
    """

    a: str
    b: str
    cells: tuple[CellComparison, ...]
    ratio: float | None
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "a": self.a,
            "b": self.b,
            "rate_ratio_geometric_mean": self.ratio,
            "cheaper_cells": {
                side: sum(cell.cheaper == side for cell in self.cells) for side in ("a", "b")
            },
            "cells": [cell.to_json() for cell in self.cells],
        }


def compare(a: ThroughputTable, b: ThroughputTable) -> Comparison:
    """Return the comparison of two tables.

    Raises:
        ProfilerUsageError: they differ in model, objectives or buckets; names what differs.
    """
    problems = differences(a.slos, b.slos)
    problems += [
        f"{axis}: {list(getattr(a, axis))} against {list(getattr(b, axis))}"
        for axis in ("input_tokens", "output_tokens")
        if getattr(a, axis) != getattr(b, axis)
    ]
    if a.model != b.model:
        problems.append(f"model: {a.model} against {b.model}")
    if problems:
        raise ProfilerUsageError(
            "compare.differ",
            f"{a.target} and {b.target} can't be compared: {'; '.join(problems)}",
            hint="profile both for the same model, buckets and SLO",
        )
    slack = 1 + (a.provenance.tolerance or 0.0) + (b.provenance.tolerance or 0.0)
    pairs = zip(a.cells, b.cells, strict=True)
    cells = tuple(_compare(a, b, left, right, slack) for left, right in pairs)
    logs = [math.log(cell.ratio) for cell in cells if cell.ratio]
    warnings = []
    if a.provenance.source != b.provenance.source:
        warnings.append(f"{a.target} is {a.provenance.source}, {b.target} is {b.provenance.source}")
    return Comparison(
        a=a.target,
        b=b.target,
        cells=cells,
        ratio=round(math.exp(sum(logs) / len(logs)), 6) if logs else None,
        warnings=tuple(warnings),
    )


def _compare(
    a: ThroughputTable, b: ThroughputTable, left: Cell, right: Cell, slack: float
) -> CellComparison:
    rate_a, rate_b = left.max_request_rate, right.max_request_rate
    cost_a, cost_b = usd_per_1000_requests(a, left), usd_per_1000_requests(b, right)
    bounds = {side for side, cell in (("a", left), ("b", right)) if cell.status == "client_limited"}
    faster = cheaper = None
    if rate_a is not None and rate_b is not None:
        faster = _better(rate_a, rate_b, slack, bounds)
        if a.cost_usd_per_hour and b.cost_usd_per_hour:
            per_usd = rate_a / a.cost_usd_per_hour, rate_b / b.cost_usd_per_hour
            cheaper = _better(*per_usd, slack, bounds)
    return CellComparison(
        input_tokens=left.input_tokens,
        output_tokens=left.output_tokens,
        status_a=left.status,
        status_b=right.status,
        rate_a=rate_a,
        rate_b=rate_b,
        ratio=round(rate_b / rate_a, 6) if rate_a and rate_b else None,
        faster=faster,
        usd_per_1000_a=cost_a,
        usd_per_1000_b=cost_b,
        cheaper=cheaper,
    )


def _better(a: float, b: float, slack: float, bounds: set[str]) -> Better | None:
    """Return the side with the higher value; None where a lower bound leaves that open."""
    if max(a, b) <= min(a, b) * slack:
        return None if bounds else "same"
    higher: Better = "a" if a > b else "b"
    lower = "b" if higher == "a" else "a"
    return None if lower in bounds else higher
