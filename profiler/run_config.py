"""What a profiling run is: its configuration, checked, and how long it will take."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from profiler.errors import ProfilerUsageError
from profiler.slo import Slo
from profiler.targets import Target
from profiler.verdict import needed_requests, wanted_requests

# Medians of the search on simulated tables: a first cell without neighbours, and the others.
PROBES_OF_FIRST_CELL = 10
PROBES_PER_CELL = 7
# A probe of a percentile may run this many times its duration to collect the requests it needs.
MAX_STRETCH = 10
SIMULATED_CELL_S = 0.3


@dataclass(frozen=True)
class EngineOptions:
    """How to talk to engines at a URL.

    Attributes:
        endpoint: path of the completions API.
        token: API key; never shown.
        ca_file, insecure: how to verify TLS.
        ready_timeout_s: how long to wait for an engine that is not up yet.
    """

    endpoint: str = "/v1/completions"
    token: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    insecure: bool = False
    ready_timeout_s: float = 0.0


@dataclass(frozen=True)
class ProfileConfig:
    """Targets, buckets and objectives of one profiling run.

    Attributes:
        model: served by every target; for simulated ones a named shape or a ``config.json``.
        targets: what is profiled.
        input_tokens, output_tokens: ascending bucket bounds.
        slos: objectives that a rate has to meet.
        tolerance: relative width at which the search for a rate stops.
        seed: of prompts, arrivals and simulator; every probe draws its own from it.
        duration_s: steady window of one probe of an engine; longer at rates so low that the
            objectives' percentiles would rest on too few requests. Simulated probes are as long
            as the objectives want.
        warmup_s: load before the window of a probe of an engine.
        max_probes: runs after which the search in one cell stops.
        engine: how to talk to engines.
        shards: clients that send each probe of an engine together. Their number does not change
            what is sent, so a run may be resumed with more of them.
    """

    model: str
    targets: tuple[Target, ...]
    input_tokens: tuple[int, ...]
    output_tokens: tuple[int, ...]
    slos: tuple[Slo, ...]
    tolerance: float = 0.05
    seed: int = 0
    duration_s: float = 30.0
    warmup_s: float = 5.0
    max_probes: int = 40
    engine: EngineOptions = EngineOptions()
    shards: int = 1

    @property
    def cells(self) -> list[tuple[int, int]]:
        """Pairs of input and output bounds, in the order they are measured."""
        return list(itertools.product(self.input_tokens, self.output_tokens))

    def window_s(self, rate: float) -> float:
        """Return the steady window of a probe of an engine at a rate."""
        for_percentile = needed_requests(self.slos) / rate
        return min(max(self.duration_s, for_percentile), MAX_STRETCH * self.duration_s)

    def identity(self, tool_version: str) -> dict[str, Any]:
        """Return what the probes depend on, for the journal's hash."""
        return {
            "model": self.model,
            "targets": {target.name: target.identity() for target in self.targets},
            "input_tokens": list(self.input_tokens),
            "output_tokens": list(self.output_tokens),
            "slos": [str(slo) for slo in self.slos],
            "tolerance": self.tolerance,
            "seed": self.seed,
            "duration_s": self.duration_s,
            "warmup_s": self.warmup_s,
            "max_probes": self.max_probes,
            "endpoint": self.engine.endpoint,
            "tool_version": tool_version,
        }


def parse_sizes(text: str, what: str) -> tuple[int, ...]:
    """Return ascending bucket bounds of text such as ``128,512,2048``.

    Raises:
        ProfilerUsageError: not a list of whole numbers from 1 to 10,000,000, or one given twice.
    """
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or not all(1 <= size <= 10_000_000 for size in sizes):
        raise ProfilerUsageError(
            "profile.sizes",
            f"{what} is {text!r}; expected whole numbers from 1, separated by commas",
            hint="e.g. 128,512,2048",
            target=what,
        )
    if len(set(sizes)) < len(sizes):
        raise ProfilerUsageError("profile.sizes", f"{what} {text!r} names a size twice")
    return tuple(sorted(sizes))


def check(config: ProfileConfig) -> None:
    """Refuse a configuration that can't be run.

    Raises:
        ProfilerUsageError: names the value and what is expected.
    """
    if not config.slos:
        raise ProfilerUsageError(
            "profile.slo",
            "no SLO is given, and without one no rate is too high",
            hint="e.g. --slo 'ttft_p99<=2s' --slo 'tpot_p99<=50ms'",
        )
    limits: Sequence[tuple[str, float, float]] = (
        ("tolerance", 0.005, 1),
        ("duration_s", 0.1, 86_400),
        ("warmup_s", 0, 86_400),
        ("max_probes", 5, 1000),
        ("seed", 0, 2**31 - 1),
    )
    for name, low, high in limits:
        value = getattr(config, name)
        if not low <= value <= high:
            raise ProfilerUsageError(
                "profile.range", f"{name} is {value:g}; expected {low:g} to {high:g}", target=name
            )


def estimate_s(config: ProfileConfig, target: Target) -> float:
    """Return about how many seconds a target takes: an order of magnitude, for planning.

    The rates are not known ahead, so a probe counts with its plain duration and as much drain.
    """
    probes = PROBES_OF_FIRST_CELL + PROBES_PER_CELL * (len(config.cells) - 1)
    if target.kind == "sim":
        share = wanted_requests(config.slos) / 500
        return SIMULATED_CELL_S * len(config.cells) * max(share, 0.2)
    return math.ceil(probes * (config.warmup_s + 1.5 * config.duration_s))
