"""When the requests of an open loop are due."""

import hashlib

import numpy as np

from profiler.load.config import LoadConfig
from profiler.samples import Floats


def digest(*of: int | str) -> bytes:
    """Return 64 bytes that depend on the values alone."""
    return hashlib.blake2b("\0".join(map(str, of)).encode()).digest()


def _spread(config: LoadConfig, count: int, rng: np.random.Generator) -> Floats:
    """Return ``count`` ascending instants within [0, 1)."""
    if config.arrival == "constant":
        return np.arange(count) / max(count, 1)
    shape = config.burstiness if config.arrival == "gamma" else 1.0
    gaps = rng.gamma(shape, size=count + 1)
    total = float(gaps.sum())
    if not total > 0:
        return np.arange(count) / max(count, 1)
    spread: Floats = np.cumsum(gaps)[:count] / total
    return spread


def due_times(config: LoadConfig) -> Floats:
    """Return when each request is due, [n] seconds from the start, ascending.

    The number of requests of the warm-up and of the window is fixed at rate x length, and the
    arrivals are spread at random given that number: for Poisson arrivals these are n uniform
    order statistics, a Poisson process conditioned on its count. So the offered rate is the
    one that was asked for, not within 1/sqrt(n) of it.
    """
    assert config.request_rate is not None
    rng = np.random.default_rng(int.from_bytes(digest(config.seed, "arrivals")[:8], "little"))
    warm_count = round(config.request_rate * config.warmup_s)
    count = max(1, round(config.request_rate * config.window_s))
    warm = _spread(config, warm_count, rng) * config.warmup_s
    steady = config.warmup_s + _spread(config, count, rng) * config.window_s
    times: Floats = np.concatenate([warm, steady])
    return times
