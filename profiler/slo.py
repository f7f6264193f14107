"""Service-level objectives: ``ttft_p99<=2s`` and the like.

Metrics are defined in :mod:`profiler.samples`. A request that failed has an infinite latency, so
it counts against every objective.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from accelerators.errors import UsageError
from accelerators.units import format_duration, parse_duration
from profiler.errors import ProfilerUsageError

METRICS = ("ttft", "ttft_from_schedule", "itl", "tpot", "e2e")
STATISTICS = ("mean", "p50", "p90", "p95", "p99")
_SLO = re.compile(r"^\s*([a-z0-9_]+?)_(mean|p\d+)\s*(<=|<|≤)\s*(\S.*?)\s*$")


@dataclass(frozen=True, order=True)
class Slo:
    """One objective: a statistic of a latency metric stays at or below a limit.

    Attributes:
        metric: one of METRICS.
        statistic: one of STATISTICS.
        limit_s: seconds.
    """

    metric: str
    statistic: str
    limit_s: float

    @property
    def name(self) -> str:
        """Metric and statistic, e.g. ``ttft_p99``."""
        return f"{self.metric}_{self.statistic}"

    def __str__(self) -> str:
        return f"{self.name}<={format_duration(self.limit_s).replace(' ', '')}"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, the limit in milliseconds."""
        return {
            "metric": self.metric,
            "statistic": self.statistic,
            "limit_ms": round(self.limit_s * 1e3, 6),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Slo":
        """Read the JSON form back; raises KeyError, TypeError or ValueError on other input."""
        return cls(str(value["metric"]), str(value["statistic"]), float(value["limit_ms"]) / 1e3)


def parse_slo(text: str) -> Slo:
    """Return the objective that text such as ``tpot_p99<=50ms`` states.

    Raises:
        ProfilerUsageError: an unknown metric or statistic, or a limit that is not positive.
    """
    hint = "write METRIC_STATISTIC<=LIMIT, e.g. ttft_p99<=2s or tpot_mean<=50ms"
    match = _SLO.match(text)
    if match is None:
        raise ProfilerUsageError("slo.unreadable", f"{text!r} is not an SLO", hint=hint)
    metric, statistic, _, limit = match.groups()
    if metric not in METRICS:
        expected = ", ".join(METRICS)
        raise ProfilerUsageError(
            "slo.metric", f"{text!r} names metric {metric!r}; expected one of {expected}", hint=hint
        )
    if statistic not in STATISTICS:
        expected = ", ".join(STATISTICS)
        raise ProfilerUsageError(
            "slo.statistic",
            f"{text!r} names statistic {statistic!r}; expected one of {expected}",
            hint=hint,
        )
    try:
        limit_s = parse_duration(limit)
    except UsageError as error:
        raise ProfilerUsageError(error.code, f"{text!r}: {error.message}", hint=hint) from error
    if limit_s <= 0:
        raise ProfilerUsageError(
            "slo.limit", f"{text!r} has limit {limit}; expected more than 0", hint=hint
        )
    return Slo(metric, statistic, limit_s)


def parse_slos(texts: Iterable[str]) -> tuple[Slo, ...]:
    """Return the objectives in a fixed order; of two on one metric and statistic, the tighter."""
    tightest: dict[str, Slo] = {}
    for slo in map(parse_slo, texts):
        known = tightest.get(slo.name)
        if known is None or slo.limit_s < known.limit_s:
            tightest[slo.name] = slo
    return tuple(sorted(tightest.values()))


def differences(ours: Sequence[Slo], theirs: Sequence[Slo]) -> list[str]:
    """Return what differs between two sets of objectives, one readable line each."""
    left = {slo.name: slo for slo in ours}
    right = {slo.name: slo for slo in theirs}
    return [
        f"{name}: {left.get(name, 'not set')} against {right.get(name, 'not set')}"
        for name in sorted(left.keys() | right.keys())
        if left.get(name) != right.get(name)
    ]
