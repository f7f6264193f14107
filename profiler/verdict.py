"""What one probe of an engine says about the rate it was run at.

A rate passes when every objective holds with failed requests counted as infinitely late, the
backlog did not keep growing, at most 1% of the requests failed, and the client delivered the load
it was asked for. A probe that the client itself held back says nothing about the engine: it
neither passes nor misses.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from profiler.samples import LoadSummary, Stats
from profiler.slo import Slo

Verdict = Literal["pass", "miss", "client_limited", "error"]

# Wanted where requests cost nothing: a p99 then has five requests beyond it, and neighbours in
# time, whose latencies resemble each other, still leave enough independent ones for the others.
_WANTED_REQUESTS = {"mean": 200, "p50": 200, "p90": 300, "p95": 400, "p99": 500}
# Needed at least: one request beyond a p99, and enough for the others to be more than a maximum.
_NEEDED_REQUESTS = {"mean": 20, "p50": 20, "p90": 20, "p95": 20, "p99": 100}
MAX_FAILED_SHARE = 0.01
MAX_UNDELIVERED_SHARE = 0.05


def wanted_requests(slos: Sequence[Slo]) -> int:
    """Return how many requests a good probe of these objectives has in its window."""
    return max((_WANTED_REQUESTS[slo.statistic] for slo in slos), default=200)


def needed_requests(slos: Sequence[Slo]) -> int:
    """Return the fewest requests at which the objectives' percentiles mean anything."""
    return max((_NEEDED_REQUESTS[slo.statistic] for slo in slos), default=20)


@dataclass(frozen=True)
class ProbeOutcome:
    """The reduced result of one probe.

    Attributes:
        verdict: ``pass``; ``miss``, the engine did not keep the SLO; ``client_limited``, the load
            generator was the bottleneck; ``error``, nothing usable was measured.
        request_rate: requests/s that were due within the window; 0 when none was.
        requests: how many requests the figures rest on.
        reasons: objectives missed, ``backlog``, ``failures (…)``, or what went wrong.
        latency: metric name to statistics (milliseconds) of the successful requests.
        output_tokens_per_s: produced within the window.
    """

    verdict: Verdict
    request_rate: float = 0.0
    requests: int = 0
    reasons: tuple[str, ...] = ()
    latency: dict[str, Stats | None] = field(default_factory=dict)
    output_tokens_per_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "verdict": self.verdict,
            "request_rate": round(self.request_rate, 6),
            "requests": self.requests,
            "reasons": list(self.reasons),
            "latency": {
                f"{name}_ms": stats and stats.to_json()
                for name, stats in sorted(self.latency.items())
            },
            "output_tokens_per_s": round(self.output_tokens_per_s, 3),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "ProbeOutcome":
        """Read the JSON form back; raises KeyError, TypeError or ValueError on other input."""
        return cls(
            verdict=value["verdict"],
            request_rate=float(value["request_rate"]),
            requests=int(value["requests"]),
            reasons=tuple(value["reasons"]),
            latency={
                name.removesuffix("_ms"): stats and Stats.from_json(stats)
                for name, stats in value["latency"].items()
            },
            output_tokens_per_s=float(value["output_tokens_per_s"]),
        )


def failed_probe(reason: str) -> ProbeOutcome:
    """Return the outcome of a probe that measured nothing."""
    return ProbeOutcome("error", reasons=(reason,))


def judge(summary: LoadSummary, slos: Sequence[Slo], *, alone: bool = False) -> ProbeOutcome:
    """Return what a run says about its rate.

    Args:
        summary: figures of the run.
        slos: the objectives.
        alone: the run sent one request at a time, so it has no rate to sustain.
    """
    verdict, reasons = _verdict(summary, slos, alone)
    return ProbeOutcome(
        verdict=verdict,
        request_rate=summary.offered_request_rate,
        requests=round(summary.offered_request_rate * summary.window_s),
        reasons=reasons,
        latency=dict(summary.latency),
        output_tokens_per_s=summary.output_tokens_per_s,
    )


def _verdict(
    summary: LoadSummary, slos: Sequence[Slo], alone: bool
) -> tuple[Verdict, tuple[str, ...]]:
    bottleneck = summary.client.bottleneck
    if bottleneck is not None and not _holds_with_lag(summary, slos):
        return "client_limited", (bottleneck,)
    if summary.completed == 0:
        return _nothing_completed(summary, alone)
    if summary.offered_request_rate == 0:
        return "error", ("no request was due within the measured window",)
    if not alone and _undelivered(summary):
        sent, offered = summary.sent_request_rate, summary.offered_request_rate
        return "client_limited", (f"the client sent {sent:.4g} of {offered:.4g} requests/s",)
    reasons = [slo.name for slo in summary.violated(slos)]
    if not alone and not summary.sustained:
        reasons.append("backlog")
    if summary.failed > MAX_FAILED_SHARE * (summary.failed + summary.completed):
        reasons.append(f"failures ({_causes(summary)})")
    if reasons and bottleneck is not None:
        return "client_limited", (bottleneck,)
    return ("miss" if reasons else "pass"), tuple(reasons)


def _holds_with_lag(summary: LoadSummary, slos: Sequence[Slo]) -> bool:
    """Return whether every objective has more room than the client was late, at its p99."""
    attained = [(slo, summary.attained.get(slo.metric)) for slo in slos]
    room = [
        stats is not None
        and getattr(stats, slo.statistic) + _lag_ms(summary, slo.metric) <= slo.limit_s * 1e3
        for slo, stats in attained
    ]
    return all(room)


def _lag_ms(summary: LoadSummary, metric: str) -> float:
    """Return by how much the client's lag may have flattered a metric; infinite when unknown.

    A late send hides time in front of a request. A late read makes a latency look longer, never
    shorter, but for the gaps between tokens: the next one is shorter by as much, and of a TPOT
    one token's share of it is missing.
    """
    send, loop = summary.client.send_lag_ms, summary.client.loop_lag_ms
    if metric not in ("itl", "tpot"):
        return send.p99 if send is not None else math.inf
    if loop is None:
        return math.inf
    tokens = summary.output_tokens_per_s / max(summary.request_rate, 1e-9)
    return loop.p99 / max(tokens - 1, 1) if metric == "tpot" else loop.p99


def _undelivered(summary: LoadSummary) -> bool:
    """Return whether fewer requests were sent than due, beyond one at the window's edge."""
    allowed = MAX_UNDELIVERED_SHARE * summary.offered_request_rate + 1 / summary.window_s
    return summary.offered_request_rate - summary.sent_request_rate > allowed


def _nothing_completed(summary: LoadSummary, alone: bool) -> tuple[Verdict, tuple[str, ...]]:
    """Judge a run without one success: an overload under load, trouble when alone.

    An engine that refuses the size outright (``context_length``) can't serve it at any rate.
    """
    causes = set(summary.by_cause)
    text = _causes(summary) or "nothing was sent"
    if causes == {"context_length"}:
        return "miss", ("context_length",)
    overload = any(
        cause == "http_429" or cause.startswith(("http_5", "timeout")) for cause in causes
    )
    if overload and not alone:
        return "miss", (f"failures ({text})",)
    return "error", (f"no request completed ({text})",)


def _causes(summary: LoadSummary) -> str:
    return ", ".join(f"{cause}: {count}" for cause, count in sorted(summary.by_cause.items()))
