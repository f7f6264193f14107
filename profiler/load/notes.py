"""What a reader of a run's figures must know beside them."""

from collections.abc import Sequence

import numpy as np

from profiler.load.collect import Observed
from profiler.load.config import LoadConfig
from profiler.load.exchange import Exchange

_FEW = 100


def notes_of(
    config: LoadConfig,
    exchanges: Sequence[Exchange],
    observed: Observed,
    resent: int,
    window: tuple[float, float],
) -> tuple[str, ...]:
    """Return one sentence per thing that is not as the figures alone suggest."""
    good = [exchange for exchange in exchanges if exchange.cause is None]
    samples = observed.samples
    due = (samples.scheduled_s >= window[0]) & (samples.scheduled_s < window[1])
    notes = [
        _few(int(due.sum())),
        _input_length(config, good),
        _output_length(config, good),
        _usage(good),
        _bursts(good, observed.chunks),
        _held_back(config, int(observed.held_back.sum())),
        _resent(resent),
        _short_window(config, observed, window),
    ]
    return tuple(note for note in notes if note)


def _few(due: int) -> str | None:
    if due >= _FEW:
        return None
    return f"{due} requests in the window: p99 is its slowest; {_FEW} or more tell more"


def _input_length(config: LoadConfig, good: Sequence[Exchange]) -> str | None:
    counts = [e.tokens.prompt_tokens for e in good if e.tokens.prompt_tokens is not None]
    mean = float(np.mean(counts)) if counts else config.input_tokens
    if abs(mean - config.input_tokens) <= 0.05 * config.input_tokens:
        return None
    return f"prompts had {mean:.1f} tokens on average; {config.input_tokens} were asked for"


def _output_length(config: LoadConfig, good: Sequence[Exchange]) -> str | None:
    other = [e.output_tokens for e in good if e.output_tokens != config.output_tokens]
    if not other:
        return None
    mean = float(np.mean([e.output_tokens for e in good]))
    return (
        f"{len(other)} of {len(good)} answers had other than {config.output_tokens} tokens; "
        f"{mean:.1f} on average"
    )


def _usage(good: Sequence[Exchange]) -> str | None:
    without = sum(e.tokens.completion_tokens is None for e in good)
    if not without:
        return None
    return f"{without} of {len(good)} answers came without usage: their events were counted"


def _bursts(good: Sequence[Exchange], chunks: int) -> str | None:
    tokens = sum(e.output_tokens for e in good)
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
