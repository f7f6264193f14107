"""What an engine's ``/metrics`` says, under one set of names for vLLM and SGLang, old and new.

Names are those of vLLM 0.2 to 0.32 and SGLang 0.4 to 0.5. A data-parallel engine exports a series
per rank, which are kept apart: one rank can stand still while the others work.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Engine = Literal["vllm", "sglang"]

_LINE = re.compile(r"([A-Za-z_:][\w:]*)(?:\{(.*)\})?[ \t]+(\S+)(?:[ \t]+-?\d+)?")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
# Ray and some proxies write vllm_ or ray_vllm_ for vllm:.
_PREFIX = re.compile(r"^(?:ray_)?(vllm|sglang)[:_]")


class Names(NamedTuple):
    """Names of one engine; of several for one thing, the first that is there counts."""

    running: tuple[str, ...]
    waiting: tuple[str, ...]
    kv_usage: tuple[str, ...]
    progress: tuple[str, ...]
    """Counters that rise only when the model computes: all of them are looked at."""
    preemptions: tuple[str, ...]
    ended: tuple[str, ...]
    cache_queries: tuple[str, ...]
    cache_hits: tuple[str, ...]
    rank_label: str


_NAMES: dict[Engine, Names] = {
    "vllm": Names(
        running=("num_requests_running",),
        waiting=("num_requests_waiting",),
        kv_usage=("kv_cache_usage_perc", "gpu_cache_usage_perc"),
        progress=(
            "generation_tokens_total",
            "prompt_tokens_total",
            "iteration_tokens_total_count",  # every step, also one that only prefills
            "time_to_first_token_seconds_count",
        ),
        preemptions=("num_preemptions_total",),
        ended=("request_success_total",),
        cache_queries=("prefix_cache_queries_total", "gpu_prefix_cache_queries_total"),
        cache_hits=("prefix_cache_hits_total", "gpu_prefix_cache_hits_total"),
        rank_label="engine",
    ),
    "sglang": Names(
        running=("num_running_reqs",),
        waiting=("num_queue_reqs",),
        kv_usage=("token_usage",),
        progress=(
            # generation_tokens_total rises when a request ends; these rise while it runs.
            "inter_token_latency_seconds_count",
            "realtime_tokens_total",
            "cuda_graph_passes_total",
            "gpu_execution_seconds_total",
            "generation_tokens_total",
            "prompt_tokens_total",
            "time_to_first_token_seconds_count",
        ),
        preemptions=("num_retracted_requests_total", "num_retracted_reqs_total"),
        ended=("num_requests_total",),
        cache_queries=("prompt_tokens_total",),
        cache_hits=("cached_tokens_total",),
        rank_label="dp_rank",
    ),
}


class Series(NamedTuple):
    """One sample."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True)
class Rank:
    """One scheduler of the engine.

    Attributes:
        name: value of the label that tells ranks apart; empty where there is none.
        running, waiting: requests.
        kv_usage: share of the KV cache in use.
        progress: counters of its own that rise only when it computes; empty where the engine
            keeps none per rank.
    """

    name: str
    running: float
    waiting: float
    kv_usage: float | None
    progress: Mapping[str, float]


@dataclass(frozen=True)
class Scrape:
    """What the metrics said at one time.

    Attributes:
        engine: whose names they are.
        at_s: on the monotonic clock.
        started_at_s: when the server's process began, Unix time; None where it isn't told.
        asleep: whether the engine was put to sleep on purpose.
        simulated: whether it says that it is our simulator.
        ranks: each scheduler.
        progress: counters that rise only when the model computes, over all ranks.
        preemptions, ended, errors: requests so far; None where not told.
        cache_queries, cache_hits: tokens looked up and found in the prefix cache so far.
    """

    engine: Engine
    at_s: float
    ranks: tuple[Rank, ...]
    progress: Mapping[str, float] = field(default_factory=dict)
    preemptions: float | None = None
    ended: float | None = None
    errors: float | None = None
    cache_queries: float | None = None
    cache_hits: float | None = None
    started_at_s: float | None = None
    asleep: bool = False
    simulated: bool = False

    @property
    def running(self) -> float:
        """Requests in execution."""
        return sum(rank.running for rank in self.ranks)

    @property
    def waiting(self) -> float:
        """Requests in the queue."""
        return sum(rank.waiting for rank in self.ranks)

    @property
    def kv_usage(self) -> float | None:
        """Share of the KV cache in use, of the rank that has least left."""
        return max((r.kv_usage for r in self.ranks if r.kv_usage is not None), default=None)


def read_scrape(text: str, at_s: float) -> Scrape | None:
    """Return what an exposition says; None when it is of neither engine."""
    series = list(_series(text))
    found = [s.name.partition(":")[0] for s in series if s.name.startswith(("vllm:", "sglang:"))]
    if not found:
        return None
    engine: Engine = "vllm" if "vllm" in found else "sglang"
    names = _NAMES[engine]
    own = [s._replace(name=s.name.partition(":")[2]) for s in series if s.name.startswith(engine)]
    errors, ended = _errors(own, series), _sum(own, names.ended)
    return Scrape(
        engine=engine,
        at_s=at_s,
        ranks=tuple(_ranks(own, names)),
        progress=_progress(own, names),
        preemptions=_sum(own, names.preemptions),
        ended=ended,
        errors=errors,
        cache_queries=_sum(own, names.cache_queries),
        cache_hits=_sum(own, names.cache_hits),
        started_at_s=_sum(series, ("process_start_time_seconds",)),
        asleep=any(
            s.name == "engine_sleep_state"
            and s.labels.get("sleep_state") == "awake"
            and not s.value
            for s in own
        ),
        simulated=any(s.name == "aibrixctl_simulator_info" for s in series),
    )


def _series(text: str) -> Iterator[Series]:
    """Yield the samples of a Prometheus exposition; lines that are none are passed over."""
    for line in text.splitlines():
        match = None if line.startswith("#") else _LINE.fullmatch(line.strip())
        if match is None:
            continue
        try:
            value = float(match[3])
        except ValueError:
            continue
        if math.isfinite(value):
            labels = dict(_LABEL.findall(match[2] or ""))
            yield Series(_PREFIX.sub(r"\1:", match[1]), labels, value)


def _named(series: Iterable[Series], names: tuple[str, ...]) -> list[Series]:
    """Return the series of the first name that is there."""
    series = list(series)
    for name in names:
        if found := [s for s in series if s.name == name]:
            return found
    return []


def _sum(series: Iterable[Series], names: tuple[str, ...]) -> float | None:
    found = _named(series, names)
    return sum(s.value for s in found) if found else None


def _progress(series: Iterable[Series], names: Names) -> dict[str, float]:
    totals: dict[str, float] = {}
    for s in series:
        if s.name in names.progress:
            totals[s.name] = totals.get(s.name, 0.0) + s.value
    return totals


def _ranks(series: list[Series], names: Names) -> Iterator[Rank]:
    gauges = [*_named(series, names.running), *_named(series, names.waiting)]
    for name in sorted({s.labels.get(names.rank_label, "") for s in gauges}):
        own = [s for s in series if s.labels.get(names.rank_label, "") == name]
        yield Rank(
            name,
            _greatest(own, names.running) or 0.0,
            (_greatest(own, names.waiting) or 0.0) + (_sum(own, ("num_requests_swapped",)) or 0.0),
            _greatest(own, names.kv_usage),
            _progress(own, names),
        )


def _greatest(series: list[Series], names: tuple[str, ...]) -> float | None:
    """Return the greatest of the series of one rank: its tensor-parallel parts say the same."""
    return max((s.value for s in _named(series, names)), default=None)


def _errors(own: list[Series], series: list[Series]) -> float | None:
    """Return requests that failed by the server's fault: by its API or by its scheduler's count.

    An error of the scheduler comes out of the API as a 500, so the greater of the two counts.
    """
    reasons = [s for s in own if s.name == "request_success_total"]
    scheduler = [s.value for s in reasons if s.labels.get("finished_reason") == "error"]
    api = [
        s.value
        for s in series
        if s.name in ("http_requests_total", "sglang:http_responses_total")
        and (s.labels.get("status") or s.labels.get("status_code") or "").startswith("5")
        and (s.labels.get("handler") or s.labels.get("endpoint") or "/v1/").startswith("/v1/")
    ]
    counted = [sum(values) for values in (scheduler, api) if values]
    return max(counted, default=0.0 if reasons else None)


def since_restart(scrapes: tuple[Scrape, ...]) -> tuple[Scrape, ...]:
    """Return the last scrapes between which the engine did not start anew."""
    for later in range(len(scrapes) - 1, 0, -1):
        if _restarted(scrapes[later - 1], scrapes[later]):
            return scrapes[later:]
    return scrapes


def _restarted(before: Scrape, after: Scrape) -> bool:
    """Tell whether the process is another one, or a counter fell, which none ever does."""
    starts = (before.started_at_s, after.started_at_s)
    if None not in starts and starts[0] != starts[1]:
        return True
    return any(after.progress.get(name, 0.0) < value for name, value in before.progress.items())
