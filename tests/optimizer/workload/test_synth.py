"""Synthetic workloads follow what was asked, from a seed."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.errors import OptimizerUsageError
from optimizer.workload import read, synth


def drawn(seed: int = 0, **options: float) -> synth.Requests:
    parts = synth.preset({"conversation": 0.5, "text-to-sql": 0.5}, 4096, 1024)
    return synth.draw(parts, request_rate=50, duration_s=200, seed=seed, **options)


def test_a_seed_gives_the_same_requests() -> None:
    first, again, other = drawn(1), drawn(1), drawn(2)
    np.testing.assert_array_equal(first.arrival_s, again.arrival_s)
    np.testing.assert_array_equal(first.input_tokens, again.input_tokens)
    assert first.arrival_s[0] != other.arrival_s[0]


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_arrivals_have_the_rate_and_spread_asked_for(burstiness: float) -> None:
    requests = drawn(burstiness=burstiness)
    gaps = np.diff(requests.arrival_s)
    assert len(requests.arrival_s) == pytest.approx(10_000, rel=0.1)
    assert gaps.std() / gaps.mean() == pytest.approx(burstiness**-0.5, rel=0.1)


@pytest.mark.parametrize("name", synth.PRESETS)
def test_presets_have_their_means_before_clipping(name: str) -> None:
    part = synth.PRESETS[name]
    random = np.random.default_rng(0)
    for lengths in (part.input_tokens, part.output_tokens):
        free = synth.Lengths(lengths.kind, lengths.mean, lengths.cv, 1, 10**7)
        assert free.draw(random, 200_000).mean() == pytest.approx(lengths.mean, rel=0.05)


@given(
    st.sampled_from(["lognormal", "gamma", "uniform", "fixed"]),
    st.integers(1, 5000),
    st.integers(1, 500),
    st.integers(0, 5000),
)
def test_lengths_keep_to_their_bounds(kind: str, mean: int, low: int, more: int) -> None:
    lengths = synth.parse_lengths(f"{kind}:mean={mean},cv=0.8,min={low},max={low + more}")
    values = lengths.draw(np.random.default_rng(0), 50)
    assert values.min() >= low
    assert values.max() <= low + more


@pytest.mark.parametrize(
    "text", ["", "normal:mean=3", "fixed:mean=0", "gamma:cv", "uniform:min=9,max=3", "fixed:x=1"]
)
def test_unreadable_distributions_are_refused(text: str) -> None:
    with pytest.raises(OptimizerUsageError, match="not a distribution"):
        synth.parse_lengths(text)


@pytest.mark.parametrize("format_name", ["azure", "mooncake"])
def test_written_traces_are_read_back(tmp_path: Path, format_name: str) -> None:
    requests = drawn()
    path = tmp_path / "trace"
    synth.write(requests, str(path), format_name)
    workload = read(path)
    assert workload.format == format_name
    assert workload.total == len(requests.arrival_s)
    assert workload.size_stats("input_tokens").mean == pytest.approx(requests.input_tokens.mean())
    duration = requests.arrival_s[-1] - requests.arrival_s[0]
    assert workload.duration_s == pytest.approx(duration, abs=1e-3)


@pytest.mark.parametrize(
    "options", [{"request_rate": 0}, {"duration_s": -1}, {"burstiness": 0}, {"request_rate": 1e9}]
)
def test_absurd_requests_are_refused(options: dict[str, float]) -> None:
    parts = synth.preset({"code": 1}, 4096, 1024)
    with pytest.raises(OptimizerUsageError):
        synth.draw(parts, **{"request_rate": 1.0, "duration_s": 10.0} | options)


def test_unknown_presets_and_shares_are_refused() -> None:
    with pytest.raises(OptimizerUsageError, match="expected one of conversation"):
        synth.preset({"chat": 1}, 10, 10)
    with pytest.raises(OptimizerUsageError, match="more than 0"):
        synth.preset({"code": 0}, 10, 10)
