"""From the recordings of a load's clients to its observations."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from profiler.load.recording import Bools, Recording
from profiler.samples import Floats, Ints, Samples


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
    held_back: Bools
    chunks: int


def observe(recordings: Sequence[Recording]) -> Observed:
    """Return the observations of all clients together, requests in order of their schedule.

    Observations are joined, never figures: what is read from them is what one client would have
    read. Tokens that arrive in one read arrive together: the first of them ends the gap since the
    read before, the others stand for gaps of zero. So the mean gap is that of the tokens, and a
    stall is never spread over the tokens that follow it. Where the server reports more tokens
    than it sent events, each event stands for the mean number of tokens per event.
    """
    return Observed(
        samples=join([_samples(one, one.read_s) for one in recordings]),
        prompt=join([_samples(one, one.earliest_s) for one in recordings]),
        held_back=_in_order(recordings, [one.held_back for one in recordings]),
        chunks=sum(int(one.events.sum()) for one in recordings),
    )


def _in_order(recordings: Sequence[Recording], values: Sequence[Bools]) -> Bools:
    scheduled = np.concatenate([one.scheduled_s for one in recordings])
    joined: Bools = np.concatenate(values)
    return joined if len(values) == 1 else joined[np.argsort(scheduled, kind="stable")]


def join(parts: Sequence[Samples]) -> Samples:
    """Return the samples of several clients as those of one, in order of the schedule."""
    if len(parts) == 1:
        return parts[0]
    order = np.argsort(np.concatenate([part.scheduled_s for part in parts]), kind="stable")
    errors = [error for part in parts for error in part.errors]
    per_request = ("scheduled_s", "sent_s", "first_token_s", "last_token_s")
    counts = ("input_tokens", "output_tokens")
    return Samples(
        **{
            name: np.concatenate([getattr(part, name) for part in parts])[order]
            for name in (*per_request, *counts)
        },
        errors=[errors[index] for index in order],
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("gap_s", "gap_end_s", "gap_weight")
        },
    )


def _samples(of: Recording, at: Floats) -> Samples:
    """Return the samples of a client whose reads came at ``at``, [r]."""
    ok = of.reads > 0
    ends = np.cumsum(of.reads)
    begins = ends - of.reads
    first, last = np.full(len(of), np.nan), np.full(len(of), np.nan)
    first[ok], last[ok] = at[begins[ok]], at[ends[ok] - 1]
    gap_s, gap_end_s, gap_weight = _gaps(of, at)
    return Samples(
        scheduled_s=of.scheduled_s,
        sent_s=of.sent_s,
        first_token_s=first,
        last_token_s=last,
        input_tokens=of.prompt_tokens,
        output_tokens=of.output_tokens,
        errors=of.errors,
        gap_s=gap_s,
        gap_end_s=gap_end_s,
        gap_weight=gap_weight,
    )


def _gaps(of: Recording, at: Floats) -> tuple[Floats, Floats, Floats]:
    """Return gaps, their ends and weights: those between reads, then the zeros within reads."""
    owner: Ints = np.repeat(np.arange(len(of)), of.reads)
    events = of.events.astype(np.float64)
    sums = np.bincount(owner, weights=events, minlength=len(of))
    per_event = np.divide(of.output_tokens, sums, out=np.ones(len(of)), where=sums > 0)
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
