"""From the recordings of a load's clients to its figures."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from profiler.load.collect import Observed, observe
from profiler.load.config import LoadConfig, LoadRun, LostShard
from profiler.load.health import assess, of_shard
from profiler.load.notes import notes_of
from profiler.load.recording import Recording
from profiler.samples import ClientHealth, summarise

_STEADY_ROUNDS = 4


def reduce(
    config: LoadConfig, recordings: Sequence[Recording], lost: Sequence[LostShard] = ()
) -> LoadRun:
    """Return what a load measured, from what each of its clients recorded.

    Args:
        config: of the whole load.
        recordings: one a client, at least one.
        lost: clients that left nothing.
    """
    observed = observe(recordings)
    window = _window(config, recordings)
    engine = " and ".join(sorted({one.engine for one in recordings}))
    versions = sorted({one.engine_version for one in recordings if one.engine_version})
    notes = (
        *(["the engine is a simulator"] if "simulator" in engine else []),
        *(f"shard {one.part} was lost: {one.reason}; its requests are missing" for one in lost),
        *notes_of(config, recordings, observed, window),
    )
    summary = summarise(observed.samples, window=window, slos=config.slos, notes=notes)
    health = ClientHealth()
    if len(observed.samples):
        health = assess(
            observed,
            summary,
            summarise(observed.prompt, window=window),
            window=window,
            loop_lag_s=np.concatenate([one.loop_lag_s for one in recordings]),
            cpu_share=max(one.cpu_share for one in recordings),
        )
    if len(recordings) + len(lost) > 1:
        health = replace(health, shards=tuple(of_shard(one, window) for one in recordings))
    messages: dict[str, str] = {}
    for cause, message in (item for one in recordings for item in one.messages.items()):
        messages.setdefault(cause, message)
    return LoadRun(
        summary=replace(summary, client=health),
        samples=observed.samples,
        complete=all(one.complete for one in recordings),
        engine=engine,
        engine_version=" and ".join(versions) or None,
        input_tokens_mean=_mean(observed, "input_tokens"),
        output_tokens_mean=_mean(observed, "output_tokens"),
        window=window,
        chunks=observed.chunks,
        messages=messages,
        shards=len(recordings) + len(lost),
        lost=tuple(lost),
    )


def _window(config: LoadConfig, recordings: Sequence[Recording]) -> tuple[float, float]:
    """Return the steady window, seconds from the start.

    A closed loop over a number of requests is steady until the last one is sent, if there were
    enough of them to fill it several times; else all of it counts, the ramp down included.
    """
    start, end = config.warmup_s, config.warmup_s + config.window_s
    elapsed = max(one.elapsed_s for one in recordings)
    if config.request_rate is None and config.num_prompts is not None:
        sent = np.concatenate([one.sent_s for one in recordings])
        by_count = max(sent[np.isfinite(sent)], default=0.0) + 1e-6
        if config.num_prompts < _STEADY_ROUNDS * (config.max_concurrency or 0):
            by_count = elapsed
        end = min(end, float(by_count))
    if not all(one.complete for one in recordings):
        end = min(end, elapsed)
    return (start, end) if end > start else (0.0, max(elapsed, 1e-3))


def _mean(observed: Observed, name: str) -> float | None:
    ok = np.array([error is None for error in observed.samples.errors], dtype=bool)
    return float(getattr(observed.samples, name)[ok].mean()) if ok.any() else None
