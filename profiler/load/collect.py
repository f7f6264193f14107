"""From finished exchanges to the observations of a run."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from profiler.load.exchange import Exchange
from profiler.samples import Floats, Samples

# Two busy stretches this close have no poll between them that found nothing.
_PAUSE_S = 30e-6


@dataclass(frozen=True)
class Observed:
    """Samples of a run, and the same as they could have been without the client's own delay.

    Attributes:
        samples: times as read.
        prompt: samples with each read at the earliest moment at which its data can have come: the
            start of the stretch of time in which the client was busy without a pause.
        held_back: [n] the cap on requests in flight made the request late.
        chunks: token events read.
    """

    samples: Samples
    prompt: Samples
    held_back: np.ndarray[tuple[int], np.dtype[np.bool_]]
    chunks: int


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


def observe(
    exchanges: Sequence[Exchange],
    start: float,
    input_tokens: int,
    stretches: tuple[Floats, Floats],
) -> Observed:
    """Reduce parsed and judged exchanges, in order of schedule; times become relative to start.

    ``stretches`` is what :func:`busy` returns.

    Tokens that arrive in one read arrive together: the first of them ends the gap since the
    read before, the others stand for gaps of zero. So the mean gap is that of the tokens, and a
    stall is never spread over the tokens that follow it. Where the server reports more tokens
    than it sent events, each event stands for the mean number of tokens per event.
    """
    counts: list[int] = []
    at: list[Floats] = []
    events: list[Floats] = []
    for exchange in exchanges:
        if exchange.cause is not None:
            counts.append(0)
            continue
        times, numbers = exchange.arrivals()
        counts.append(len(times))
        at.append(np.frombuffer(times, dtype=np.float64))
        events.append(np.frombuffer(numbers, dtype=np.int64).astype(np.float64))
    lengths = np.array(counts, dtype=np.int64)
    weights, times_read = _concatenate(events), _concatenate(at)
    times_come = earliest(times_read, stretches)
    read_samples = _samples(exchanges, lengths, times_read, weights, start, input_tokens)
    prompt = _samples(exchanges, lengths, times_come, weights, start, input_tokens)
    held = np.array([exchange.held_back for exchange in exchanges], dtype=bool)
    return Observed(read_samples, prompt, held, int(weights.sum()))


def _concatenate(parts: list[Floats]) -> Floats:
    return np.concatenate(parts) if parts else np.empty(0)


def _samples(
    exchanges: Sequence[Exchange],
    lengths: np.ndarray[tuple[int], np.dtype[np.int64]],
    at: Floats,
    events: Floats,
    start: float,
    input_tokens: int,
) -> Samples:
    at = at - start
    ok = lengths > 0
    ends = np.cumsum(lengths)
    begins = ends - lengths
    first, last = np.full(len(lengths), np.nan), np.full(len(lengths), np.nan)
    first[ok], last[ok] = at[begins[ok]], at[ends[ok] - 1]
    output = np.array(
        [e.output_tokens if e.cause is None else 0 for e in exchanges], dtype=np.int64
    )
    prompts = [e.tokens.prompt_tokens for e in exchanges]
    gap_s, gap_end_s, gap_weight = _gaps(lengths, at, events, output)
    return Samples(
        scheduled_s=np.array([e.due_at for e in exchanges], dtype=np.float64) - start,
        sent_s=np.array([e.sent_at for e in exchanges], dtype=np.float64) - start,
        first_token_s=first,
        last_token_s=last,
        input_tokens=np.array([input_tokens if p is None else p for p in prompts], dtype=np.int64),
        output_tokens=output,
        errors=[e.cause for e in exchanges],
        gap_s=gap_s,
        gap_end_s=gap_end_s,
        gap_weight=gap_weight,
    )


def _gaps(
    lengths: np.ndarray[tuple[int], np.dtype[np.int64]],
    at: Floats,
    events: Floats,
    output: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> tuple[Floats, Floats, Floats]:
    """Return gaps, their ends and weights: those between reads, then the zeros within reads."""
    owner = np.repeat(np.arange(len(lengths)), lengths)
    sums = np.bincount(owner, weights=events, minlength=len(lengths))
    per_event = np.divide(output, sums, out=np.ones(len(lengths)), where=sums > 0)
    tokens = events * per_event[owner]
    first = np.ones(len(at), dtype=bool)
    first[1:] = owner[1:] != owner[:-1]
    later = ~first
    between = np.diff(at, prepend=0.0)[later]
    together = tokens - 1.0
    some = together > 1e-9
    return (
        np.concatenate([between, np.zeros(int(some.sum()))]),
        np.concatenate([at[later], at[some]]),
        np.concatenate([np.minimum(tokens[later], 1.0), together[some]]),
    )
