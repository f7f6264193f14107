"""Whether the load generator itself moved the figures that it reports."""

import numpy as np

from profiler.load.collect import Observed
from profiler.load.pool import CLIENT_SOCKETS
from profiler.load.recording import Recording
from profiler.samples import (
    PERCENTILES,
    ClientHealth,
    Floats,
    LoadSummary,
    ShardHealth,
    Stats,
    weighted_stats,
)

SHARE = 0.05
# Below this a delay is not told from the clock and the wake-up of an idle machine.
FLOOR_MS = 0.5
_METRICS = ("ttft", "itl", "tpot", "e2e")


def send_lag(observed: Observed, window: tuple[float, float]) -> Floats:
    """Return how late each request due in the window was sent by no fault of the cap, seconds."""
    samples = observed.samples
    counted = (samples.scheduled_s >= window[0]) & (samples.scheduled_s < window[1])
    counted &= np.isfinite(samples.sent_s) & ~observed.held_back
    lag: Floats = (samples.sent_s - samples.scheduled_s)[counted]
    return lag


def of_shard(recording: Recording, window: tuple[float, float]) -> ShardHealth:
    """Return how one of several clients kept up."""
    due = recording.scheduled_s
    counted = (due >= window[0]) & (due < window[1])
    counted &= np.isfinite(recording.sent_s) & ~recording.held_back
    return ShardHealth(
        shard=recording.part,
        requests=len(recording),
        send_lag_ms=weighted_stats((recording.sent_s - due)[counted]),
        loop_lag_ms=weighted_stats(recording.loop_lag_s),
        cpu_share=recording.cpu_share,
    )


def assess(
    observed: Observed,
    as_read: LoadSummary,
    as_come: LoadSummary,
    *,
    window: tuple[float, float],
    loop_lag_s: Floats,
    cpu_share: float,
) -> ClientHealth:
    """Judge the client of a run.

    It was the bottleneck when a delay of its own could have moved a reported percentile by more
    than 5% and half a millisecond. Two delays are looked at: that of the sends against the
    schedule, and that of the reads, by taking every percentile again with each read at the
    earliest moment at which its data can have come (``as_come``).
    """
    send = weighted_stats(send_lag(observed, window))
    loop = weighted_stats(loop_lag_s)
    reasons = [
        _no_sockets(as_read),
        _undelivered(as_read),
        _late_sends(as_read, send),
        _late_reads(as_read, as_come),
    ]
    found = [reason for reason in reasons if reason]
    if not found:
        return ClientHealth(send, loop, cpu_share, None)
    advice = "lower the rate, split the load over several clients, or use a machine with less load"
    if cpu_share < 0.5:
        advice = (
            f"the client used {cpu_share:.0%} of a core: the load comes in bursts, or its machine "
            "has other work"
        )
    return ClientHealth(send, loop, cpu_share, f"{'; '.join(found)} ({advice})")


def _moves(delay_ms: float, figure_ms: float) -> bool:
    return delay_ms > FLOOR_MS and delay_ms > SHARE * figure_ms


def _no_sockets(summary: LoadSummary) -> str | None:
    lost = summary.by_cause.get(CLIENT_SOCKETS)
    return f"{lost} requests found no free socket on the client's machine" if lost else None


def _undelivered(summary: LoadSummary) -> str | None:
    offered, sent = summary.offered_request_rate, summary.sent_request_rate
    if offered <= 0 or abs(sent - offered) <= SHARE * offered + 1 / summary.window_s:
        return None
    return f"{sent:.4g} of {offered:.4g} requests/s due in the window were sent in it"


def _late_sends(summary: LoadSummary, lag: Stats | None) -> str | None:
    stats = summary.latency.get("ttft_from_schedule")
    for name in PERCENTILES:
        if lag is None or stats is None:
            continue
        delay, figure = getattr(lag, name), getattr(stats, name)
        if _moves(delay, figure):
            return (
                f"requests were sent late: {name} {delay:.2f} ms beside "
                f"ttft_from_schedule {name} {figure:.2f} ms"
            )
    return None


def _late_reads(as_read: LoadSummary, as_come: LoadSummary) -> str | None:
    for metric in _METRICS:
        read, come = as_read.latency.get(metric), as_come.latency.get(metric)
        for name in PERCENTILES:
            if read is None or come is None:
                continue
            figure, earliest = getattr(read, name), getattr(come, name)
            if _moves(abs(figure - earliest), figure):
                return (
                    f"answers were read late: {metric} {name} is {figure:.2f} ms, "
                    f"and could be {earliest:.2f} ms"
                )
    return None
