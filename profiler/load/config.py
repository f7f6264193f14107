"""What a run of load is: its configuration, checked, and what it returns."""

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from profiler.errors import ProfilerUsageError
from profiler.samples import LoadSummary, Samples
from profiler.slo import Slo

Arrival = Literal["poisson", "constant", "gamma"]
ENDPOINTS = ("/v1/completions", "/v1/chat/completions")
DEFAULT_DURATION_S = 30.0


@dataclass(frozen=True)
class LoadConfig:
    """One run of load at one rate or one concurrency.

    Attributes:
        base_url: of the server, with or without a final ``/v1``.
        model: name that the server knows.
        input_tokens, output_tokens: length of every prompt and of every answer.
        request_rate: requests/s of an open loop; None for a closed loop.
        max_concurrency: requests in flight of a closed loop; with a rate, a cap on them. A request
            that the cap holds back is late against its schedule, and reported so.
        duration_s: length of the steady window. num_prompts: requests in it. The first of the two
            that is reached ends it; 30 s when neither is given.
        warmup_s: load before the window, at the same rate.
        seed: of arrivals and prompts.
        salt: of the prompts, beside the seed; a new one for each configuration made. A server's
            prefix cache knows the prompts of a run before this one with the same seed and salt.
        arrival, burstiness: spread of the gaps between arrivals; burstiness is the shape of
            the gamma distribution (1 = Poisson, less = burstier).
        endpoint: one of ENDPOINTS.
        shared_prefix_tokens: tokens at the head of every prompt that are the same.
        ignore_eos: ask for exactly ``output_tokens``; a shorter answer is then a failure.
        timeout_s: of a whole request; first_token_timeout_s from send to the first token;
            stall_timeout_s between two reads after it.
        connect_timeout_s: of a connection and of the checks before the load.
        ready_timeout_s: how long to wait for a server that is not up yet.
        slos: objectives for goodput.
        token: API key; never shown. ca_file, insecure: how to verify TLS.
        extra_body: fields added to each request.
    """

    base_url: str
    model: str
    input_tokens: int
    output_tokens: int
    request_rate: float | None = None
    max_concurrency: int | None = None
    duration_s: float | None = None
    num_prompts: int | None = None
    warmup_s: float = 5.0
    seed: int = 0
    salt: str = field(default_factory=lambda: secrets.token_hex(4))
    arrival: Arrival = "poisson"
    burstiness: float = 1.0
    endpoint: str = "/v1/completions"
    shared_prefix_tokens: int = 0
    ignore_eos: bool = True
    timeout_s: float = 600.0
    first_token_timeout_s: float = 120.0
    stall_timeout_s: float = 60.0
    connect_timeout_s: float = 10.0
    ready_timeout_s: float = 0.0
    slos: tuple[Slo, ...] = ()
    token: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    insecure: bool = False
    extra_body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def window_s(self) -> float:
        """Planned length of the steady window; infinite when only ``num_prompts`` ends it."""
        by_count = math.inf
        if self.num_prompts is not None and self.request_rate is not None:
            by_count = self.num_prompts / self.request_rate
        if self.duration_s is None:
            return by_count if self.num_prompts is not None else DEFAULT_DURATION_S
        return min(self.duration_s, by_count)


@dataclass(frozen=True)
class Progress:
    """How far a run is; ``total`` is None when it is not known ahead."""

    elapsed_s: float
    sent: int
    completed: int
    failed: int
    in_flight: int
    total: int | None


@dataclass(frozen=True)
class LostShard:
    """One of several clients, whose part of the load is not in the figures.

    Attributes:
        part: which, as in "2 of 3".
        reason: what became of it.
    """

    part: str
    reason: str

    def to_json(self) -> dict[str, str]:
        """Return the JSON form."""
        return {"shard": self.part, "reason": self.reason}


@dataclass(frozen=True)
class LoadRun:
    """What one run measured.

    Attributes:
        summary: its figures.
        samples: the observations they were read from.
        complete: False when it was stopped early; what was in flight is then left out.
        engine, engine_version: what served, as far as it says so.
        input_tokens_mean, output_tokens_mean: of successful requests; None without any.
        window: start and end of the steady window, seconds from the start of the run.
        chunks: events of the streams that carried tokens.
        messages: cause of failure to the first message that came with it.
        shards: clients that sent the load together.
        lost: those of them whose part is missing.
    """

    summary: LoadSummary
    samples: Samples
    complete: bool
    engine: str
    engine_version: str | None
    input_tokens_mean: float | None
    output_tokens_mean: float | None
    window: tuple[float, float]
    chunks: int
    messages: dict[str, str]
    shards: int = 1
    lost: tuple[LostShard, ...] = ()


_LIMITS: dict[str, tuple[float, float]] = {
    "input_tokens": (1, 10_000_000),
    "output_tokens": (1, 1_000_000),
    "request_rate": (1e-4, 100_000),
    "max_concurrency": (1, 100_000),
    "duration_s": (1e-3, 7 * 86_400),
    "num_prompts": (1, 1_000_000),
    "warmup_s": (0, 86_400),
    "burstiness": (1e-3, 1e6),
    "shared_prefix_tokens": (0, 10_000_000),
    "timeout_s": (1e-3, 86_400),
    "first_token_timeout_s": (1e-3, 86_400),
    "stall_timeout_s": (1e-3, 86_400),
    "connect_timeout_s": (1e-3, 3_600),
    "ready_timeout_s": (0, 86_400),
}
_OURS = {"model", "prompt", "messages", "stream", "stream_options", "max_tokens", "min_tokens", "n"}
_MOST_REQUESTS = 1_000_000


def _refuse(name: str, message: str, hint: str = "") -> ProfilerUsageError:
    return ProfilerUsageError("load.config", message, hint=hint, target=name)


def check(config: LoadConfig) -> None:
    """Refuse a configuration that cannot be run.

    Raises:
        ProfilerUsageError: a number out of range, no rate and no concurrency, an unknown endpoint.
    """
    for name, (low, high) in _LIMITS.items():
        value = getattr(config, name)
        if value is not None and not low <= value <= high:
            raise _refuse(name, f"{name} is {value:g}; expected {low:g} to {high:,.0f}")
    if config.request_rate is None and config.max_concurrency is None:
        raise _refuse(
            "request_rate",
            "neither a request rate nor a concurrency is given",
            "give a rate for an open loop, or a concurrency for a closed one",
        )
    if config.endpoint not in ENDPOINTS:
        expected = " or ".join(ENDPOINTS)
        raise _refuse("endpoint", f"endpoint is {config.endpoint!r}; expected {expected}")
    if config.arrival != "gamma" and config.burstiness != 1.0:
        raise _refuse(
            "burstiness",
            f"burstiness is {config.burstiness:g} with {config.arrival} arrivals",
            "burstiness shapes gamma arrivals only",
        )
    if config.shared_prefix_tokens >= config.input_tokens:
        raise _refuse(
            "shared_prefix_tokens",
            f"a shared prefix of {config.shared_prefix_tokens} tokens leaves nothing of the "
            f"{config.input_tokens} input tokens",
        )
    taken = sorted(_OURS.intersection(config.extra_body))
    if taken:
        raise _refuse("extra_body", f"the extra body sets {', '.join(taken)}, which the load sets")
    if not config.model:
        raise _refuse("model", "the model's name is empty")
    _check_size(config)


def _check_size(config: LoadConfig) -> None:
    if config.request_rate is None:
        return
    requests = config.request_rate * (config.warmup_s + config.window_s)
    if requests > _MOST_REQUESTS:
        raise _refuse(
            "duration_s",
            f"the schedule would hold {requests:,.0f} requests; at most {_MOST_REQUESTS:,} fit",
            "lower the rate or the duration",
        )
