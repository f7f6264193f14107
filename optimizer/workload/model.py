"""A workload: how often each request size occurs, and how requests spread over time."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from optimizer.errors import OptimizerUsageError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
OutOfRange = Literal["refuse", "extrapolate", "drop"]
PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True)
class SizeStats:
    """Mean, percentiles and extremes of a token count over requests."""

    mean: float
    p50: int
    p90: int
    p95: int
    p99: int
    max: int

    def to_json(self) -> dict[str, float]:
        """Return the JSON form."""
        return {**vars(self), "mean": round(self.mean, 3)}


@dataclass(frozen=True)
class Demand:
    """A workload laid onto the buckets of a throughput table.

    Attributes:
        requests_per_s: [inputs, outputs] rate per bucket.
        work: [inputs, outputs] throughput that a mean request of the bucket takes, in requests
            of the bucket's own size: 1, or more where larger requests were extrapolated.
        out_of_range: what was done with requests beyond the table.
        outside_share: share of the requests that lay beyond it.
        largest_input_tokens, largest_output_tokens: of the workload.
    """

    requests_per_s: Floats
    work: Floats
    out_of_range: OutOfRange
    outside_share: float
    largest_input_tokens: int
    largest_output_tokens: int


@dataclass(frozen=True)
class Workload:
    """Requests by exact size; n distinct sizes in order of input, then output.

    Attributes:
        source: file or description it comes from.
        format: name in FORMATS, or ``synthetic``.
        digest: ``sha256:…`` of the file; None without one.
        input_tokens, output_tokens: [n] tokens.
        count: [n] requests of that size; shares for a histogram.
        request_rate: requests/s.
        duration_s: time between the first and the last request; None when unknown.
        arrivals: [bins] requests per equal slice of the duration, NaN where there is no data;
            empty when unknown.
        notes: what was left out while reading, and why.
    """

    source: str
    format: str
    digest: str | None
    input_tokens: Ints
    output_tokens: Ints
    count: Floats
    request_rate: float
    duration_s: float | None = None
    arrivals: Floats = field(default_factory=lambda: np.empty(0))
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> float:
        """Requests in all (1 for a histogram of shares)."""
        return float(self.count.sum())

    def size_stats(self, axis: Literal["input_tokens", "output_tokens"]) -> SizeStats:
        """Return the statistics of one side of the sizes, weighted by requests."""
        tokens: Ints = getattr(self, axis)
        order = np.argsort(tokens, kind="stable")
        cumulative = np.cumsum(self.count[order])
        ranks = np.asarray(PERCENTILES) / 100 * cumulative[-1]
        at = np.searchsorted(cumulative, ranks * (1 - 1e-12))
        p50, p90, p95, p99 = (int(tokens[order[min(i, len(order) - 1)]]) for i in at)
        mean = float(np.average(tokens, weights=self.count))
        return SizeStats(mean, p50, p90, p95, p99, int(tokens.max()))

    def rate_over_time(self) -> tuple[float, Floats]:
        """Return seconds per slice and [slices] requests/s; (0, empty) when unknown."""
        if not self.duration_s or not len(self.arrivals):
            return 0.0, np.empty(0)
        width_s = self.duration_s / len(self.arrivals)
        return width_s, self.arrivals / width_s

    def bucketize(
        self,
        input_ticks: Sequence[int],
        output_ticks: Sequence[int],
        *,
        out_of_range: OutOfRange = "refuse",
        request_rate: float | None = None,
    ) -> Demand:
        """Assign every request to the smallest bucket that holds it (rounding up).

        Beyond the table ``extrapolate`` takes the outermost bucket and counts a request as
        max(in/in_top, 1) * max(out/out_top, 1) requests of it, as if work grew in proportion to
        each side; ``drop`` leaves the request out, which lowers the rate by its share.

        Args:
            input_ticks: ascending upper bounds of the buckets, in tokens.
            output_ticks: the same for the output.
            out_of_range: what to do with requests beyond the largest bounds.
            request_rate: requests/s in place of the workload's own.

        Raises:
            OptimizerUsageError: requests lie beyond the table and are to be refused, or all do.
        """
        top_in, top_out = input_ticks[-1], output_ticks[-1]
        outside = (self.input_tokens > top_in) | (self.output_tokens > top_out)
        outside_count = float(self.count[outside].sum())
        share = outside_count / self.total
        refused = outside.any() if out_of_range == "refuse" else outside.all()
        if refused and out_of_range != "extrapolate":
            raise self._beyond(outside_count, share, top_in, top_out)
        kept = ~outside if out_of_range == "drop" else np.ones(len(outside), dtype=bool)
        tokens_in, tokens_out, count = (
            values[kept] for values in (self.input_tokens, self.output_tokens, self.count)
        )
        row = np.searchsorted(input_ticks, np.minimum(tokens_in, top_in))
        column = np.searchsorted(output_ticks, np.minimum(tokens_out, top_out))
        size = np.maximum(tokens_in / top_in, 1) * np.maximum(tokens_out / top_out, 1)
        rate = (self.request_rate if request_rate is None else request_rate) / self.total
        requests, work = np.zeros((2, len(input_ticks), len(output_ticks)))
        np.add.at(requests, (row, column), count * rate)
        np.add.at(work, (row, column), count * rate * size)
        work = np.divide(work, requests, out=np.ones_like(work), where=requests > 0)
        return Demand(
            requests_per_s=requests,
            work=np.maximum(work, 1.0),
            out_of_range=out_of_range,
            outside_share=share,
            largest_input_tokens=int(self.input_tokens.max()),
            largest_output_tokens=int(self.output_tokens.max()),
        )

    def _beyond(self, count: float, share: float, top_in: int, top_out: int) -> OptimizerUsageError:
        counted = f"{count:,.0f} requests ({share:.2%})" if self.total > 1 else f"{share:.2%}"
        return OptimizerUsageError(
            "workload.out_of_range",
            f"{counted} of {self.source} lie beyond the table's {top_in:,} input and "
            f"{top_out:,} output tokens; the largest have {int(self.input_tokens.max()):,} input "
            f"and {int(self.output_tokens.max()):,} output tokens",
            hint="profile larger buckets, or choose --out-of-range extrapolate or drop",
            target=self.source,
        )

    def to_json(self) -> dict[str, Any]:
        """Return a summary: sizes and rates, not the single requests."""
        width_s, rates = self.rate_over_time()
        return {
            "source": self.source,
            "format": self.format,
            "digest": self.digest,
            "requests": round(self.total) if self.total > 1 else None,
            "distinct_sizes": len(self.count),
            "request_rate": round(self.request_rate, 6),
            "duration_s": None if self.duration_s is None else round(self.duration_s, 3),
            "input_tokens": self.size_stats("input_tokens").to_json(),
            "output_tokens": self.size_stats("output_tokens").to_json(),
            "rate_over_time": {
                "slice_s": round(width_s, 3),
                "requests_per_s": [
                    None if np.isnan(rate) else round(float(rate), 6) for rate in rates
                ],
            },
            "notes": list(self.notes),
        }
