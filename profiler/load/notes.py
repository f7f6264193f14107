"""What a reader of a run's figures must know beside them."""

from collections.abc import Sequence

import numpy as np

from profiler.load.collect import Observed
from profiler.load.config import LoadConfig
from profiler.load.recording import Recording
from profiler.samples import Ints

_FEW = 100


def notes_of(
    config: LoadConfig,
    recordings: Sequence[Recording],
    observed: Observed,
    window: tuple[float, float],
) -> tuple[str, ...]:
    """Return one sentence per thing that is not as the figures alone suggest."""
    samples = observed.samples
    due = (samples.scheduled_s >= window[0]) & (samples.scheduled_s < window[1])
    good = np.array([error is None for error in samples.errors], dtype=bool)
    output = samples.output_tokens[good]
    notes = [
        _cut_short(sum(one.cut for one in recordings)),
        _few(int(due.sum())),
        _input_length(config, samples.input_tokens[good]),
        _output_length(config, output),
        _usage(sum(one.without_usage for one in recordings), len(output)),
        _bursts(int(output.sum()), observed.chunks),
        _held_back(config, int(observed.held_back.sum())),
        _resent(sum(one.resent for one in recordings)),
        _short_window(config, observed, window),
    ]
    before = [note for one in recordings for note in one.notes]
    return tuple(dict.fromkeys(note for note in (*before, *notes) if note))


def _cut_short(cut: int) -> str | None:
    return f"stopped early: {cut} requests in flight are left out" if cut else None


def _few(due: int) -> str | None:
    if due >= _FEW:
        return None
    return f"{due} requests in the window: p99 is its slowest; {_FEW} or more tell more"


def _input_length(config: LoadConfig, counts: Ints) -> str | None:
    mean = float(np.mean(counts)) if len(counts) else config.input_tokens
    if abs(mean - config.input_tokens) <= 0.05 * config.input_tokens:
        return None
    return f"prompts had {mean:.1f} tokens on average; {config.input_tokens} were asked for"


def _output_length(config: LoadConfig, counts: Ints) -> str | None:
    other = int((counts != config.output_tokens).sum())
    if not other:
        return None
    return (
        f"{other} of {len(counts)} answers had other than {config.output_tokens} tokens; "
        f"{float(np.mean(counts)):.1f} on average"
    )


def _usage(without: int, good: int) -> str | None:
    if not without:
        return None
    return f"{without} of {good} answers came without usage: their events were counted"


def _bursts(tokens: int, chunks: int) -> str | None:
    if not chunks or tokens <= 1.2 * chunks:
        return None
    return (
        f"the server sends {tokens / chunks:.1f} tokens an event: within one, gaps are 0; "
        "TPOT describes the pace better than ITL percentiles"
    )


def _held_back(config: LoadConfig, held: int) -> str | None:
    if not held:
        return None
    return (
        f"{held} requests waited for the cap of {config.max_concurrency} in flight; "
        "ttft_from_schedule holds their wait, ttft does not"
    )


def _resent(resent: int) -> str | None:
    if not resent:
        return None
    return (
        f"{resent} requests were sent again, once, on a new connection: "
        "the server had closed theirs while it idled"
    )


def _short_window(
    config: LoadConfig, observed: Observed, window: tuple[float, float]
) -> str | None:
    samples = observed.samples
    e2e = samples.last_token_s - samples.sent_s
    e2e = e2e[np.isfinite(e2e)]
    if config.request_rate is None or not len(e2e):
        return None
    median = float(np.median(e2e))
    length = window[1] - window[0]
    if median <= min(length, max(config.warmup_s, 0.1 * length) + 0.25 * length):
        return None
    return (
        f"an answer takes {median:.3g} s, long beside a warm-up of {config.warmup_s:g} s and a "
        f"window of {length:.3g} s: the load was hardly steady"
    )
