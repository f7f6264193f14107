"""Synthetic workloads: documented size distributions and arrivals, from a seed.

Lengths are drawn per request from one part of a mixture, then rounded and clipped to the part's
bounds. Arrivals are a renewal process whose gaps are gamma distributed with mean 1/rate and shape
``burstiness``: 1 is Poisson, less is burstier, more is steadier (as in ``vllm bench serve``).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from accelerators import documents
from optimizer.errors import OptimizerUsageError
from optimizer.workload.collect import MAX_TOKENS
from optimizer.workload.model import Floats, Ints

Kind = Literal["lognormal", "gamma", "uniform", "fixed"]
MAX_REQUESTS = 20_000_000
EPOCH = np.datetime64("2024-01-01T00:00:00", "us")


@dataclass(frozen=True)
class Lengths:
    """A distribution of token counts, clipped to ``low`` and ``high``.

    Attributes:
        kind: ``lognormal`` and ``gamma`` by mean and cv; ``uniform`` over low to high; ``fixed``
            at the mean.
        mean: before clipping, tokens.
        cv: standard deviation over mean, before clipping.
        low, high: bounds, tokens.
    """

    kind: Kind
    mean: float = 0.0
    cv: float = 1.0
    low: int = 1
    high: int = 32_768

    def draw(self, random: np.random.Generator, n: int) -> Ints:
        """Return [n] token counts."""
        if self.kind == "uniform":
            return random.integers(self.low, self.high, n, endpoint=True)
        if self.kind == "fixed":
            values: Floats = np.full(n, self.mean)
        elif self.kind == "gamma":
            values = random.gamma(1 / self.cv**2, self.mean * self.cv**2, n)
        else:
            sigma = math.sqrt(math.log1p(self.cv**2))
            values = random.lognormal(math.log(self.mean) - sigma**2 / 2, sigma, n)
        return np.clip(np.rint(values), self.low, self.high).astype(np.int64)


@dataclass(frozen=True)
class Part:
    """One kind of request in a mixture, with its share of the requests."""

    share: float
    input_tokens: Lengths
    output_tokens: Lengths


_CONVERSATION = Part(1, Lengths("lognormal", 1155, 0.96, 8, 4096), Lengths("gamma", 211, 0.77, 4))
_TEXT_TO_SQL = Part(
    1, Lengths("lognormal", 350, 0.6, 40, 2048), Lengths("lognormal", 40, 0.6, 4, 256)
)
_SUMMARISATION = Part(
    1, Lengths("lognormal", 5000, 0.7, 1000, 16_384), Lengths("lognormal", 220, 0.45, 32, 1024)
)
_CODE = Part(1, Lengths("lognormal", 2048, 0.94, 16, 8192), Lengths("lognormal", 28, 1.6, 2, 1024))
PRESETS: dict[str, Part] = {
    "conversation": _CONVERSATION,  # mean and cv of Azure's 2023 conversation trace
    "code": _CODE,  # those of Azure's 2023 code trace
    "text-to-sql": _TEXT_TO_SQL,  # a question with its CREATE TABLEs in, one statement out
    "summarisation": _SUMMARISATION,  # a document in, a paragraph out
}
MIXED = {"conversation": 0.5, "text-to-sql": 0.5}


@dataclass(frozen=True)
class Requests:
    """Drawn requests in order of arrival: [n] seconds from the start, and [n] tokens each side."""

    arrival_s: Floats
    input_tokens: Ints
    output_tokens: Ints


def preset(shares: Mapping[str, float], max_input: int, max_output: int) -> tuple[Part, ...]:
    """Return the mixture of presets in the given shares, clipped to the largest sizes.

    Raises:
        OptimizerUsageError: an unknown preset, or shares that are not positive.
    """
    total = sum(shares.values())
    unknown = sorted(shares.keys() - PRESETS.keys())
    if unknown:
        raise OptimizerUsageError(
            "synth.preset",
            f"unknown preset {unknown[0]!r}; expected one of {', '.join(PRESETS)}",
        )
    if not shares or min(shares.values()) <= 0 or not math.isfinite(total):
        raise OptimizerUsageError("synth.shares", "every share of a mixture must be more than 0")
    return tuple(
        Part(
            share / total,
            _clipped(PRESETS[name].input_tokens, max_input),
            _clipped(PRESETS[name].output_tokens, max_output),
        )
        for name, share in shares.items()
    )


def _clipped(lengths: Lengths, high: int) -> Lengths:
    if not 1 <= high <= MAX_TOKENS:
        raise OptimizerUsageError("synth.size", f"largest size is {high}; expected 1 or more")
    top = min(lengths.high, high)
    return Lengths(lengths.kind, lengths.mean, lengths.cv, min(lengths.low, top), top)


def parse_lengths(text: str) -> Lengths:
    """Return the distribution that text such as ``lognormal:mean=512,cv=1.2,max=4096`` names.

    Raises:
        OptimizerUsageError: an unknown kind or key, or a value that makes no sense.
    """
    kind, _, rest = text.partition(":")
    keys = {"mean": "mean", "cv": "cv", "min": "low", "max": "high"}
    try:
        pairs = dict(pair.split("=", 1) for pair in rest.split(",") if pair)
        values = {keys[key.strip()]: float(value) for key, value in pairs.items()}
        if kind not in ("lognormal", "gamma", "uniform", "fixed"):
            raise ValueError(kind)
        lengths = Lengths(
            kind,  # type: ignore[arg-type]
            values.get("mean", 0.0),
            values.get("cv", 1.0),
            int(values.get("low", 1)),
            int(values.get("high", 32_768)),
        )
        usable = 1 <= lengths.low <= lengths.high <= MAX_TOKENS and 0 < lengths.cv < 100
        if not usable or (kind != "uniform" and not 1 <= lengths.mean <= MAX_TOKENS):
            raise ValueError(text)
    except (ValueError, KeyError, OverflowError) as error:
        raise OptimizerUsageError(
            "synth.lengths",
            f"{text!r} is not a distribution of tokens",
            hint="e.g. lognormal:mean=512,cv=1.2,max=4096, gamma:mean=200,cv=0.8, "
            "uniform:min=16,max=2048 or fixed:mean=128",
        ) from error
    return lengths


def draw(
    parts: tuple[Part, ...],
    *,
    request_rate: float,
    duration_s: float,
    seed: int = 0,
    burstiness: float = 1.0,
) -> Requests:
    """Return the requests of a synthetic workload; the same seed gives the same requests.

    Raises:
        OptimizerUsageError: a rate, duration or burstiness that makes no sense, or no request.
    """
    for name, value in (
        ("rate", request_rate),
        ("duration", duration_s),
        ("burstiness", burstiness),
    ):
        if not 0 < value < math.inf:
            raise OptimizerUsageError(f"synth.{name}", f"{name} is {value:g}; expected more than 0")
    expected = request_rate * duration_s
    if not 2 <= expected <= MAX_REQUESTS:
        raise OptimizerUsageError(
            "synth.count",
            f"{request_rate:g} requests/s for {duration_s:g} s make {expected:,.0f} requests; "
            f"expected 2 to {MAX_REQUESTS:,}",
        )
    random = np.random.default_rng(seed)
    arrival = _arrivals(random, request_rate, duration_s, burstiness)
    n = len(arrival)
    shares = np.array([part.share for part in parts])
    choice = random.choice(len(parts), n, p=shares / shares.sum())
    inputs, outputs = np.zeros((2, n), dtype=np.int64)
    for index, part in enumerate(parts):
        chosen = choice == index
        inputs[chosen] = part.input_tokens.draw(random, int(chosen.sum()))
        outputs[chosen] = part.output_tokens.draw(random, int(chosen.sum()))
    return Requests(arrival, inputs, outputs)


def _arrivals(
    random: np.random.Generator, rate: float, duration_s: float, burstiness: float
) -> Floats:
    size = int(rate * duration_s * 1.1) + 100
    arrival = np.cumsum(random.gamma(burstiness, 1 / (rate * burstiness), size))
    while arrival[-1] < duration_s:
        more = np.cumsum(random.gamma(burstiness, 1 / (rate * burstiness), size))
        arrival = np.concatenate([arrival, arrival[-1] + more])
    return arrival[arrival < duration_s]


def write(requests: Requests, path: str, format_name: str = "azure") -> None:
    """Write requests as a trace in Azure's CSV or Mooncake's JSON Lines.

    Raises:
        OptimizerUsageError: another format.
        ToolError: the file cannot be written.
    """
    if format_name not in ("azure", "mooncake"):
        raise OptimizerUsageError(
            "synth.format", f"cannot write {format_name!r}; expected azure or mooncake"
        )
    rows = zip(requests.input_tokens.tolist(), requests.output_tokens.tolist(), strict=True)
    with documents.atomic_writer(path) as file:
        if format_name == "azure":
            times = EPOCH + np.round(requests.arrival_s * 1e6).astype("timedelta64[us]")
            file.write("TIMESTAMP,ContextTokens,GeneratedTokens\n")
            file.writelines(
                f"{time.replace('T', ' ')},{i},{o}\n"
                for time, (i, o) in zip(np.datetime_as_string(times).tolist(), rows, strict=True)
            )
            return
        times_ms = np.round(requests.arrival_s * 1e3).astype(np.int64).tolist()
        file.writelines(
            f'{{"timestamp": {time}, "input_length": {i}, "output_length": {o}}}\n'
            for time, (i, o) in zip(times_ms, rows, strict=True)
        )
