"""What one client recorded of its part of a load, in a form that travels."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from profiler.load.exchange import Exchange
from profiler.samples import Floats, Ints

Bools = npt.NDArray[np.bool_]
# Two busy stretches this close have no poll between them that found nothing.
_PAUSE_S = 30e-6


@dataclass(frozen=True)
class Recording:
    """Observations of one client; n requests in order of their schedule, r reads of all of them.

    Times are seconds from the start of the load, which all clients of a load share; NaN where an
    event did not happen.

    Attributes:
        scheduled_s, sent_s: [n] when the request was due, and sent.
        reads: [n] how many reads brought tokens; 0 for a failed request.
        read_s: [r] when the read came, request by request.
        earliest_s: [r] the earliest moment at which its data can have come.
        events: [r] token events that it brought.
        prompt_tokens: [n] from the server's ``usage``, or as asked for.
        output_tokens: [n] generated; 0 for a failed request.
        held_back: [n] the cap on requests in flight made the request late.
        loop_lag_s: [t] how late each tick of the event loop came.
        errors: [n] cause of failure, None for a success.
        messages: cause to the first message that came with it.
        cpu_share: CPU seconds per second of the load (1.0 = one core).
        elapsed_s: from the start to the last answer.
        complete: the client was not stopped early.
        cut: requests in flight that the stop left out.
        resent: requests sent again on a new connection.
        without_usage: answers whose tokens were counted by their events.
        notes: of the checks before the load.
        engine, engine_version: what served, as far as it says so.
        part: of the load, as in "2 of 3".
    """

    scheduled_s: Floats
    sent_s: Floats
    reads: Ints
    read_s: Floats
    earliest_s: Floats
    events: Ints
    prompt_tokens: Ints
    output_tokens: Ints
    held_back: Bools
    loop_lag_s: Floats
    errors: tuple[str | None, ...]
    messages: dict[str, str] = field(default_factory=dict)
    cpu_share: float = 0.0
    elapsed_s: float = 0.0
    complete: bool = True
    cut: int = 0
    resent: int = 0
    without_usage: int = 0
    notes: tuple[str, ...] = ()
    engine: str = "unknown"
    engine_version: str | None = None
    part: str = "1 of 1"

    def __len__(self) -> int:
        return len(self.scheduled_s)


@dataclass(frozen=True)
class Client:
    """What the event loop of a client tells beside its exchanges; times of ``time.monotonic``.

    Attributes:
        started_at, ended_at: of the load.
        loop_lag_s: how late each tick came.
        stretches: what :func:`busy` returns.
        cpu_share, complete, cut, resent, notes: see :class:`Recording`.
    """

    started_at: float
    ended_at: float
    loop_lag_s: Floats
    stretches: tuple[Floats, Floats]
    cpu_share: float
    complete: bool
    cut: int
    resent: int
    notes: tuple[str, ...]


def busy(turns: Floats, ticked_at: Floats, loop_lag_s: Floats) -> tuple[Floats, Floats]:
    """Return starts and ends of the stretches in which the event loop could not take a read.

    Such are its turns with reads, and the time from when a tick was due until it came.

    Args:
        turns: began and ended, in pairs, seconds.
        ticked_at: when each tick came.
        loop_lag_s: how late it came.
    """
    starts = np.concatenate([turns[::2], ticked_at - loop_lag_s])
    ends = np.concatenate([turns[1::2], ticked_at])
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], np.maximum.accumulate(ends[order])
    first = np.ones(len(starts), dtype=bool)
    first[1:] = starts[1:] > ends[:-1] + _PAUSE_S
    last = np.append(first[1:], True) if len(first) else first
    return starts[first], ends[last]


def earliest(at: Floats, stretches: tuple[Floats, Floats]) -> Floats:
    """Return, for each time of a read, the earliest moment at which its data can have come."""
    starts, ends = stretches
    if not len(starts):
        return at
    index = np.searchsorted(starts, at, side="right") - 1
    within = (index >= 0) & (at <= ends[index] + _PAUSE_S)
    return np.where(within, starts[index], at)


def record(
    exchanges: Sequence[Exchange],
    client: Client,
    *,
    input_tokens: int,
    engine: str,
    engine_version: str | None,
    closed_loop: bool,
    part: str,
) -> Recording:
    """Reduce parsed and judged exchanges, in order of schedule, to arrays.

    Args:
        exchanges: requests that are over.
        client: what the event loop tells.
        input_tokens: of a prompt, where the server reports no usage.
        engine: what served.
        engine_version: of it.
        closed_loop: a request counts as due when it was sent.
        part: of the load.
    """
    counts: list[int] = []
    at: list[Floats] = []
    events: list[Ints] = []
    messages: dict[str, str] = {}
    for exchange in exchanges:
        if exchange.cause is not None:
            counts.append(0)
            messages.setdefault(exchange.cause, exchange.message)
            continue
        times, numbers = exchange.arrivals()
        counts.append(len(times))
        at.append(np.frombuffer(times, dtype=np.float64))
        events.append(np.frombuffer(numbers, dtype=np.int64))
    read_at = np.concatenate(at) if at else np.empty(0)
    due = [e.sent_at if closed_loop and e.sent_at > 0 else e.due_at for e in exchanges]
    prompts = [e.tokens.prompt_tokens for e in exchanges]
    good = [e for e in exchanges if e.cause is None]
    start = client.started_at
    return Recording(
        scheduled_s=np.array(due, dtype=np.float64) - start,
        sent_s=np.array([e.sent_at for e in exchanges], dtype=np.float64) - start,
        reads=np.array(counts, dtype=np.int64),
        read_s=read_at - start,
        earliest_s=earliest(read_at, client.stretches) - start,
        events=np.concatenate(events) if events else np.empty(0, dtype=np.int64),
        prompt_tokens=np.array([input_tokens if p is None else p for p in prompts], dtype=np.int64),
        output_tokens=np.array(
            [e.output_tokens if e.cause is None else 0 for e in exchanges], dtype=np.int64
        ),
        held_back=np.array([e.held_back for e in exchanges], dtype=bool),
        loop_lag_s=client.loop_lag_s,
        errors=tuple(e.cause for e in exchanges),
        messages=messages,
        cpu_share=client.cpu_share,
        elapsed_s=client.ended_at - start,
        complete=client.complete,
        cut=client.cut,
        resent=client.resent,
        without_usage=sum(e.tokens.completion_tokens is None for e in good),
        notes=client.notes,
        engine=engine,
        engine_version=engine_version,
        part=part,
    )
