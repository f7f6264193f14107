"""What one run of load observed, request by request, and the figures read from it.

Definitions (they differ between tools):

- TTFT: from the request's send to its first output token; ``ttft_from_schedule`` counts from the
  moment the request was due, so a client that falls behind can't hide a queue.
- ITL: every gap between output tokens, pooled over all requests; tokens that arrive together
  have gaps of 0 between them.
- TPOT: (E2E - TTFT) / (output tokens - 1), one value a request of two tokens or more.
- E2E: from send to the last output token.

TTFT, TPOT and E2E are those of requests due within the steady window, each followed to its end;
ITL takes the gaps that ended inside it; rates count what was completed or produced inside it.
Warm-up and drain are thus left out.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from profiler.slo import Slo

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# A load of 1.05 times the capacity. Beyond, in 20 of 20 simulated runs of 1.5 times; up to 0.8
# times, in 1 of 20 at most.
_MOST_WAIT_GROWTH = 0.05
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0}


@dataclass(frozen=True)
class Samples:
    """Observations of one run; n requests in order of their schedule, g token gaps.

    All times are seconds from the start of the run; NaN where an event did not happen.

    Attributes:
        scheduled_s: [n] when the request was due (equal to ``sent_s`` in a closed loop).
        sent_s: [n] when its first byte was handed to the socket.
        first_token_s: [n] when its first output token arrived.
        last_token_s: [n] when its last output token arrived.
        input_tokens: [n] from the server's ``usage``; as requested where it gave none.
        output_tokens: [n] from the server's ``usage``; 0 for a failed request.
        errors: [n] cause of failure such as ``http_429`` or ``timeout``; None for a success.
        gap_s: [g] gaps between output tokens of successful requests.
        gap_end_s: [g] when the gap ended, that is when the later token arrived.
        gap_weight: [g] how many tokens the gap stands for.
    """

    scheduled_s: Floats
    sent_s: Floats
    first_token_s: Floats
    last_token_s: Floats
    input_tokens: Ints
    output_tokens: Ints
    errors: Sequence[str | None]
    gap_s: Floats
    gap_end_s: Floats
    gap_weight: Floats

    def __len__(self) -> int:
        return len(self.scheduled_s)


@dataclass(frozen=True)
class Stats:
    """Mean and percentiles of one metric, in milliseconds; infinite where failures reach."""

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float

    def to_json(self) -> dict[str, float | None]:
        """Return the JSON form, rounded to a microsecond; null where a value is not finite."""
        return {
            name: round(value, 3) if np.isfinite(value) else None
            for name, value in vars(self).items()
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Stats":
        """Read the JSON form back, null as infinite; raises KeyError or ValueError on others."""
        read = {
            name: float("inf") if value[name] is None else float(value[name])
            for name in cls.__dataclass_fields__
        }
        for name, number in read.items():
            if not number >= 0:
                raise ValueError(f"{name} is {number}; expected milliseconds from 0")
        return cls(**read)


def weighted_stats(values: Floats, weights: Floats | None = None) -> Stats | None:
    """Return statistics of values in seconds as milliseconds, or None when there are none.

    A percentile is the smallest value that at least that share of the weight does not exceed.
    NaN stands for a metric that a request does not have, and is left out. The order of the values
    does not matter, to the last bit.
    """
    counted = ~np.isnan(values)
    if weights is not None:
        counted &= weights > 0
        weights = weights[counted]
    values = values[counted]
    if len(values) == 0:
        return None
    # Ties are ordered too, so that the rounding of sums does not depend on the order given.
    order = np.argsort(values) if weights is None else np.lexsort((weights, values))
    ordered = values[order]
    weight = np.ones(len(values)) if weights is None else weights[order]
    cumulative = np.cumsum(weight)
    # The small slack keeps 0.99 x 100 from asking for the 100th of 100 values by rounding.
    points = np.array(list(PERCENTILES.values())) / 100 * cumulative[-1] * (1 - 1e-12)
    at = np.minimum(np.searchsorted(cumulative, points, side="left"), len(values) - 1)
    mean = float(np.average(ordered, weights=weight))
    return Stats(mean * 1e3, *(float(ordered[i]) * 1e3 for i in at))


@dataclass(frozen=True)
class ShardHealth:
    """How one of several clients of a load kept up; see :class:`ClientHealth`.

    ``shard`` says which, as in "2 of 3".
    """

    shard: str
    requests: int
    send_lag_ms: Stats | None
    loop_lag_ms: Stats | None
    cpu_share: float

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "shard": self.shard,
            "requests": self.requests,
            "send_lag_ms": self.send_lag_ms and self.send_lag_ms.to_json(),
            "loop_lag_ms": self.loop_lag_ms and self.loop_lag_ms.to_json(),
            "cpu_share": round(self.cpu_share, 4),
        }


@dataclass(frozen=True)
class ClientHealth:
    """Whether the load generator itself kept up; of several clients, all of them pooled.

    Attributes:
        send_lag_ms: how late requests were sent after they were due; None if nothing was sent.
        loop_lag_ms: how late the event loop woke up, sampled through the run; None if not sampled.
        cpu_share: CPU seconds of the client per second of the run (1.0 = one core); of several
            clients that of the busiest.
        bottleneck: why the client may have moved a reported figure; None when it did not.
        shards: each of several clients; empty where there was one.
    """

    send_lag_ms: Stats | None = None
    loop_lag_ms: Stats | None = None
    cpu_share: float | None = None
    bottleneck: str | None = None
    shards: tuple[ShardHealth, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "send_lag_ms": self.send_lag_ms and self.send_lag_ms.to_json(),
            "loop_lag_ms": self.loop_lag_ms and self.loop_lag_ms.to_json(),
            "cpu_share": None if self.cpu_share is None else round(self.cpu_share, 4),
            "bottleneck": self.bottleneck,
            "shards": [shard.to_json() for shard in self.shards],
        }


@dataclass(frozen=True)
class LoadSummary:
    """The figures of one run; latencies of successful requests, rates over the steady window.

    Attributes:
        offered: requests that the schedule held; sent, completed, failed: what became of them.
        by_cause: failures by cause.
        latency: metric name (see profiler.slo.METRICS) to its statistics; None without samples.
        attained: the same with every failed request at infinity; SLOs are judged on these.
        request_rate: completed requests/s; offered_request_rate, sent_request_rate likewise.
        output_tokens_per_s, total_tokens_per_s: from the server's usage.
        window_s: length of the steady window.
        goodput: requests/s that met every SLO, each limit taken for the one request (ITL limits
            are pooled, so they are left out); None when no SLO was given.
        backlog_growth: requests in flight gained over the second half of the window, as a share
            of the requests due in it, beyond what the length of unhindered answers
            explains; a rate is sustained while this stays near 0.
        sustained: False when the backlog, or the wait for the first token, kept growing beyond
            noise.
        client: health of the load generator.
        notes: what a reader must know, such as output lengths other than asked for.
    """

    offered: int
    sent: int
    completed: int
    failed: int
    by_cause: dict[str, int]
    latency: dict[str, Stats | None]
    attained: dict[str, Stats | None]
    request_rate: float
    offered_request_rate: float
    sent_request_rate: float
    output_tokens_per_s: float
    total_tokens_per_s: float
    window_s: float
    goodput: float | None
    backlog_growth: float
    sustained: bool
    client: ClientHealth = field(default_factory=ClientHealth)
    notes: tuple[str, ...] = ()

    @property
    def certified(self) -> bool:
        """True when the client was not the bottleneck and something completed."""
        return self.client.bottleneck is None and self.completed > 0

    def violated(self, slos: Sequence[Slo]) -> list[Slo]:
        """Return the objectives that this run missed, failures counted as infinitely late.

        Answers of a single token have no ITL and no TPOT: objectives on these are then not
        missed, unless nothing was completed at all.
        """
        missed = []
        for slo in slos:
            stats = self.attained.get(slo.metric)
            if stats is None:
                met = self.completed > 0 and slo.metric in ("itl", "tpot")
            else:
                met = getattr(stats, slo.statistic) <= slo.limit_s * 1e3
            if not met:
                missed.append(slo)
        return missed

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form that ``profile load -o json`` prints as its data."""
        latency = {f"{name}_ms": stats and stats.to_json() for name, stats in self.latency.items()}
        return {
            "requests": {
                "offered": self.offered,
                "sent": self.sent,
                "completed": self.completed,
                "failed": self.failed,
                "by_cause": dict(sorted(self.by_cause.items())),
            },
            **latency,
            "request_rate": round(self.request_rate, 6),
            "offered_request_rate": round(self.offered_request_rate, 6),
            "sent_request_rate": round(self.sent_request_rate, 6),
            "output_tokens_per_s": round(self.output_tokens_per_s, 3),
            "total_tokens_per_s": round(self.total_tokens_per_s, 3),
            "window_s": round(self.window_s, 6),
            "goodput": None if self.goodput is None else round(self.goodput, 6),
            "backlog_growth": round(self.backlog_growth, 6),
            "sustained": self.sustained,
            "client": self.client.to_json(),
            "certified": self.certified,
            "notes": list(self.notes),
        }


def summarise(
    samples: Samples,
    *,
    window: tuple[float, float],
    slos: Sequence[Slo] = (),
    client: ClientHealth | None = None,
    notes: Sequence[str] = (),
) -> LoadSummary:
    """Reduce the observations of a run to its figures; their order does not matter.

    Args:
        samples: what was observed.
        window: start and end of the steady window, seconds; requests due in [start, end) count.
        slos: objectives for goodput.
        client: health of the load generator.
        notes: carried into the summary.
    """
    start, end = window
    length = max(end - start, 1e-9)
    ok = np.array([error is None for error in samples.errors], dtype=bool)
    sent = np.isfinite(samples.sent_s)
    due = (samples.scheduled_s >= start) & (samples.scheduled_s < end)
    per_request = _per_request(samples)
    latency = {name: weighted_stats(values[due & ok]) for name, values in per_request.items()}
    attained = {
        name: weighted_stats(np.where(ok, values, np.inf)[due])
        for name, values in per_request.items()
    }
    in_window = (samples.gap_end_s >= start) & (samples.gap_end_s < end)
    gaps, gap_weight = samples.gap_s[in_window], samples.gap_weight[in_window]
    latency["itl"] = weighted_stats(gaps, gap_weight)
    attained["itl"] = _itl_with_failures(gaps, gap_weight, samples, due & ~ok)
    done = ok & (samples.last_token_s >= start) & (samples.last_token_s < end)
    first = ok & (samples.first_token_s >= start) & (samples.first_token_s < end)
    output_tokens = math.fsum(gap_weight) + float(first.sum())
    met = ok & due
    for slo in slos:
        if slo.metric in per_request:
            # A request without the metric can't miss it.
            met &= ~(per_request[slo.metric] > slo.limit_s)
    growth, sustained = _backlog(samples, start, end)
    sustained &= _wait_growth(samples, start, end) <= _MOST_WAIT_GROWTH
    return LoadSummary(
        offered=len(samples),
        sent=int(sent.sum()),
        completed=int(ok.sum()),
        failed=int((~ok).sum()),
        by_cause=dict(Counter(error for error in samples.errors if error is not None)),
        latency=latency,
        attained=attained,
        request_rate=float(done.sum()) / length,
        offered_request_rate=float(due.sum()) / length,
        sent_request_rate=float(
            (sent & (samples.sent_s >= start) & (samples.sent_s < end)).sum() / length
        ),
        output_tokens_per_s=output_tokens / length,
        total_tokens_per_s=(output_tokens + float(samples.input_tokens[first].sum())) / length,
        window_s=length,
        goodput=float(met.sum()) / length if slos else None,
        backlog_growth=growth,
        sustained=sustained,
        client=client or ClientHealth(),
        notes=tuple(notes),
    )


def _per_request(samples: Samples) -> dict[str, Floats]:
    """Return each per-request metric in seconds, [n]; NaN where it is not defined."""
    e2e = samples.last_token_s - samples.sent_s
    ttft = samples.first_token_s - samples.sent_s
    steps = np.where(samples.output_tokens > 1, samples.output_tokens - 1, np.nan)
    return {
        "ttft": ttft,
        "ttft_from_schedule": samples.first_token_s - samples.scheduled_s,
        "tpot": (e2e - ttft) / steps,
        "e2e": e2e,
    }


def _itl_with_failures(
    gaps: Floats, weights: Floats, samples: Samples, failed: npt.NDArray[np.bool_]
) -> Stats | None:
    """Pool the gaps with as many infinite ones as the failed requests should have produced."""
    lost = int(failed.sum())
    if not lost:
        return weighted_stats(gaps, weights)
    done = samples.output_tokens[samples.output_tokens > 0]
    each = max(float(done.mean()) - 1, 1.0) if len(done) else 1.0
    return weighted_stats(np.append(gaps, np.inf), np.append(weights, lost * each))


def _backlog(samples: Samples, start: float, end: float) -> tuple[float, bool]:
    """Return the growth of the backlog over the window's second half, and whether it is noise.

    The backlog is the number of requests in flight, less the number that would be if every
    answer were as quick as the quickest tenth: while the run is younger than an answer is long,
    requests in flight grow at any rate, and that says nothing. Noise is twice the Poisson
    spread of the arrivals and departures of that half.
    """
    middle = (start + end) / 2
    due = samples.scheduled_s
    failed = np.array([error is not None for error in samples.errors], dtype=bool)
    # A failed request has left the engine too; without a time it left when it was due.
    left = np.where(np.isfinite(samples.last_token_s), samples.last_token_s, np.inf)
    left = np.where(failed, due, left)
    taken = (left - due)[np.isfinite(left) & ~failed]
    quick = float(np.percentile(taken, 10)) if len(taken) else 0.0

    def backlog(at: float) -> int:
        in_flight = (due < at) & (left >= at)
        expected = (due < at) & (due + quick >= at) & ~failed
        return int(in_flight.sum()) - int(expected.sum())

    arrivals = int(((due >= middle) & (due < end)).sum())
    if arrivals == 0:
        return 0.0, True
    gained = backlog(end) - backlog(middle)
    return gained / arrivals, gained <= 0.05 * arrivals + 2 * float(np.sqrt(2 * arrivals))


def _wait_growth(samples: Samples, start: float, end: float) -> float:
    """Return by how much the wait for the first token grows, in seconds per second of the window.

    Under a load of r times the capacity a queue makes waits grow by r - 1, at any rate, and with
    far less noise than its length has. Taken between the medians of the window's first and last
    third, so that a hiccup does not count; 0 where one of them is empty.
    """
    third = (end - start) / 3
    waits = samples.first_token_s - samples.scheduled_s
    due, known = samples.scheduled_s, np.isfinite(waits)
    early = waits[known & (due >= start) & (due < start + third)]
    late = waits[known & (due >= end - third) & (due < end)]
    if not len(early) or not len(late) or third <= 0:
        return 0.0
    return float(np.median(late) - np.median(early)) / (2 * third)
