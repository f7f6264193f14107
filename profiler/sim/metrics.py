"""Counters and histograms under vLLM's names, in the Prometheus text format.

Names, kinds and bounds are those of vLLM 0.32, with one older name beside them. Times are what a
client sees: seconds of wall time, also when virtual time runs faster.
"""

import bisect
from collections.abc import Iterator

_SHORT = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5)
_TTFT = (*_SHORT, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0)
_GAPS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5)
_ITL = (*_GAPS, 10.0, 20.0, 40.0, 80.0)
_SPANS = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0)
_E2E = (*_SPANS, 240.0, 480.0, 960.0, 1920.0, 7680.0)
_REASONS = ("stop", "length", "abort", "error", "repetition")


class Histogram:
    """Counts of values by upper bound, with their sum."""

    def __init__(self, bounds: tuple[float, ...]):
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect.bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self, name: str, labels: str) -> Iterator[str]:
        """Yield the samples of the exposition format; the buckets are cumulative."""
        below = 0
        for bound, count in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            below += count
            yield f'{name}_bucket{{le="{bound}",{labels}}} {below}'
        yield f"{name}_sum{{{labels}}} {self.total}"
        yield f"{name}_count{{{labels}}} {below}"


class Metrics:
    """What a simulated engine has done so far."""

    def __init__(self) -> None:
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.cache_queries = 0
        self.cache_hits = 0
        self.success = dict.fromkeys(_REASONS, 0)
        self.late_s = 0.0
        self.worst_late_s = 0.0
        self.ttft = Histogram(_TTFT)
        self.itl = Histogram(_ITL)
        self.tpot = Histogram(_ITL)
        self.e2e = Histogram(_E2E)
        self.queue = Histogram(_E2E)

    def text(
        self,
        *,
        model: str,
        running: int,
        waiting: int,
        kv_usage: float,
        preemptions: int,
        about: dict[str, str],
        faults: dict[str, bool],
    ) -> str:
        """Return the exposition: these counters, and the gauges given.

        Args:
            model: label ``model_name``.
            running: requests in execution.
            waiting: requests in the queue.
            kv_usage: share of KV blocks in use.
            preemptions: so far.
            about: labels of the series that says that this is a simulator.
            faults: each fault that it was told to have, and whether it acts now.
        """
        labels = f'engine="0",model_name="{_escape(model)}"'
        lines = [
            *_series(
                "vllm:num_requests_running", "gauge", "Requests in execution.", labels, running
            ),
            *_series("vllm:num_requests_waiting", "gauge", "Requests waiting.", labels, waiting),
            *_series(
                "vllm:kv_cache_usage_perc",
                "gauge",
                "KV-cache usage, 1 is all.",
                labels,
                round(kv_usage, 6),
            ),
            *_series("vllm:num_preemptions_total", "counter", "Preemptions.", labels, preemptions),
            *_series(
                "vllm:prompt_tokens_total", "counter", "Prefill tokens.", labels, self.prompt_tokens
            ),
            *_series(
                "vllm:generation_tokens_total",
                "counter",
                "Generated tokens.",
                labels,
                self.generation_tokens,
            ),
            *_series(
                "vllm:prefix_cache_queries_total",
                "counter",
                "Tokens looked up in the prefix cache.",
                labels,
                self.cache_queries,
            ),
            *_series(
                "vllm:prefix_cache_hits_total",
                "counter",
                "Tokens found in the prefix cache.",
                labels,
                self.cache_hits,
            ),
            *_head("vllm:request_success_total", "counter", "Requests by how they ended."),
        ]
        for reason, count in self.success.items():
            lines.append(
                f'vllm:request_success_total{{finished_reason="{reason}",{labels}}} {count}'
            )
        for name, histogram, what in (
            ("time_to_first_token", self.ttft, "Time to first token"),
            ("inter_token_latency", self.itl, "Gap between tokens"),
            # What vLLM called it before, and some dashboards and autoscalers still ask for.
            ("time_per_output_token", self.itl, "Gap between tokens"),
            ("request_time_per_output_token", self.tpot, "Mean gap between tokens of a request"),
            ("e2e_request_latency", self.e2e, "Time from arrival to last token"),
            ("request_queue_time", self.queue, "Time in the queue"),
        ):
            full = f"vllm:{name}_seconds"
            lines += [
                *_head(full, "histogram", f"{what} in seconds."),
                *histogram.lines(full, labels),
            ]
        facts = ",".join(f'{key}="{_escape(value)}"' for key, value in sorted(about.items()))
        lines += _series("aibrixctl_simulator_info", "gauge", "This engine is simulated.", facts, 1)
        if faults:
            name = "aibrixctl_simulator_fault_active"
            lines += _head(name, "gauge", "Whether a fault it was told to have acts now.")
            lines += [f'{name}{{fault="{fault}"}} {on:d}' for fault, on in faults.items()]
        lines += _series(
            "aibrixctl_simulator_late_seconds",
            "gauge",
            "How late the last step was delivered.",
            labels,
            round(self.late_s, 6),
        )
        lines += _series(
            "aibrixctl_simulator_worst_late_seconds",
            "gauge",
            "How late the latest step was delivered.",
            labels,
            round(self.worst_late_s, 6),
        )
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, about: str) -> list[str]:
    return [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]


def _series(name: str, kind: str, about: str, labels: str, value: float) -> list[str]:
    return [*_head(name, kind, about), f"{name}{{{labels}}} {value}"]


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
