"""Sizes to buckets, and statistics."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.errors import OptimizerUsageError
from optimizer.workload import Workload

SIZES = st.lists(
    st.tuples(st.integers(1, 5000), st.integers(1, 3000), st.integers(1, 9)),
    min_size=1,
    max_size=30,
    unique_by=lambda size: size[:2],
)
TICKS = st.lists(st.integers(1, 4000), min_size=1, max_size=6, unique=True).map(sorted)


def workload(sizes: list[tuple[int, int, int]], rate: float = 10.0) -> Workload:
    columns = np.array(sorted(sizes)).T
    return Workload("t", "synthetic", None, columns[0], columns[1], columns[2].astype(float), rate)


@given(SIZES, TICKS, TICKS)
def test_every_request_goes_to_the_smallest_bucket_that_holds_it(
    sizes: list[tuple[int, int, int]], inputs: list[int], outputs: list[int]
) -> None:
    """Against a plain loop; beyond the table, work grows and no request is lost."""
    demand = workload(sizes).bucketize(inputs, outputs, out_of_range="extrapolate")
    total = sum(count for *_, count in sizes)
    expected = np.zeros((len(inputs), len(outputs)))
    work = np.zeros_like(expected)
    for i, o, count in sizes:
        row = next((r for r, tick in enumerate(inputs) if i <= tick), len(inputs) - 1)
        column = next((c for c, tick in enumerate(outputs) if o <= tick), len(outputs) - 1)
        expected[row, column] += 10 * count / total
        work[row, column] += 10 * count / total * max(i / inputs[-1], 1) * max(o / outputs[-1], 1)
    np.testing.assert_allclose(demand.requests_per_s, expected, rtol=1e-9)
    np.testing.assert_allclose(demand.requests_per_s * demand.work, work, rtol=1e-9)


@given(SIZES, TICKS, TICKS)
def test_dropping_lowers_the_rate_by_the_share_outside(
    sizes: list[tuple[int, int, int]], inputs: list[int], outputs: list[int]
) -> None:
    asked = workload(sizes)
    inside = [i <= inputs[-1] and o <= outputs[-1] for i, o, _ in sizes]
    if not any(inside):
        with pytest.raises(OptimizerUsageError):
            asked.bucketize(inputs, outputs, out_of_range="drop")
        return
    demand = asked.bucketize(inputs, outputs, out_of_range="drop")
    assert demand.requests_per_s.sum() == pytest.approx(10 * (1 - demand.outside_share))
    assert (demand.work == 1).all()


def test_rounding_is_up_and_outside_is_refused_with_count_and_sizes() -> None:
    asked = workload([(724, 10, 3), (512, 10, 5), (100_000, 300, 2)])
    with pytest.raises(OptimizerUsageError) as caught:
        asked.bucketize([512, 1024, 2048], [128])
    assert "2 requests (20.00%)" in caught.value.message
    assert "100,000 input and 300 output tokens" in caught.value.message
    kept = asked.bucketize([512, 1024, 2048], [128], out_of_range="drop")
    assert kept.requests_per_s.ravel().tolist() == pytest.approx([5, 3, 0])


def test_a_given_rate_replaces_the_workloads() -> None:
    demand = workload([(1, 1, 1)]).bucketize([1], [1], request_rate=3)
    assert demand.requests_per_s.sum() == pytest.approx(3)


@given(st.lists(st.tuples(st.integers(1, 999), st.integers(1, 20)), min_size=1, max_size=20))
def test_percentiles_are_those_of_the_single_requests(sizes: list[tuple[int, int]]) -> None:
    merged: dict[int, int] = {}
    for tokens, count in sizes:
        merged[tokens] = merged.get(tokens, 0) + count
    stats = workload([(t, 1, c) for t, c in merged.items()]).size_stats("input_tokens")
    plain = np.repeat(*map(list, zip(*merged.items(), strict=True)))
    expected = [np.percentile(plain, q, method="inverted_cdf") for q in (50, 90, 95, 99)]
    assert [stats.p50, stats.p90, stats.p95, stats.p99] == expected
    assert stats.mean == pytest.approx(plain.mean())
