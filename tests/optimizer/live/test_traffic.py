import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.errors import OptimizerError
from optimizer.live.traffic import gather, workload
from tests.gateway import GatewayTrace

START_S = 1_700_000_000


def test_the_rate_is_over_the_slots_that_are_there() -> None:
    trace = GatewayTrace("m", START_S)
    trace.slot([(512, 128)] * 30, total=50, pending=20)
    trace.skip(2).raw("{").slot([(512, 128)] * 10, total=10, pending=20)
    traffic = gather("m", "here", trace.values.items())
    assert (len(traffic.slots), traffic.seconds, traffic.coverage) == (2, 20, 0.4)
    assert traffic.missing == (START_S + 10, START_S + 20, START_S + 30)
    found = workload(traffic)
    assert found.request_rate == pytest.approx(60 / 20)
    assert (found.total, found.duration_s) == (pytest.approx(60), 50.0)
    assert np.array_equal(found.arrivals, [50, np.nan, np.nan, np.nan, 10], equal_nan=True)
    notes = "\n".join(found.notes)
    assert "3 of 5 slots have no data, which is not zero traffic: 3 requests/s" in notes
    assert "1.2 if nothing came" in notes
    assert "22:13:50Z is damaged: not JSON" in notes
    assert "20 requests are not yet answered" in notes


def test_before_version_3_the_rate_is_of_answered_requests() -> None:
    trace = GatewayTrace("m", START_S, version=2).slot([(512, 128)] * 30)
    trace.version = 1
    trace.slot([(512, 128)] * 10)
    found = workload(gather("m", "here", trace.values.items()))
    assert found.request_rate == pytest.approx(2.0)
    assert list(zip(found.input_tokens, found.output_tokens, strict=True)) == [
        (530, 132),  # 2^9.05, 2^7.05
        (724, 181),  # 2^9.5, 2^7.5
    ]
    assert any("version 1 count answered requests only" in note for note in found.notes)


def test_what_is_doubtful_is_said() -> None:
    trace = GatewayTrace("m", START_S)
    trace.slot([(512, 128)] * 5, total=5, queueing=0)
    trace.slot([(512, 128)] * 50, total=5, pending=3, queueing=2)
    values = dict(trace.values)
    first = min(values)
    values[first] = values[first].replace(b"{", b'{"who": 1, ', 1).replace(b'_v": 4', b'_v": 9')
    traffic = gather("m", "here", values.items(), now_s=START_S + 200)
    notes = "\n".join(workload(traffic).notes)
    assert "unknown fields skipped: 'who'" in notes
    assert "version 9 of the slots is read as 4" in notes
    assert "two gateways may overwrite each other's slots" in notes
    assert "2 wait in the gateway's queue" in notes
    assert "the newest slot is 3m10s old" in notes
    assert traffic.requests == 55  # as many as were answered, though only 10 were counted


def test_a_window_counts_from_the_newest_slot() -> None:
    trace = GatewayTrace("m", START_S)
    for n in range(12):
        trace.slot([(512, 128)] * (n + 1))
    traffic = gather("m", "here", trace.values.items(), window_s=60)
    assert [slot.total for slot in traffic.slots] == [7, 8, 9, 10, 11, 12]
    assert gather("m", "here", []).coverage == 0


def test_no_size_no_workload() -> None:
    trace = GatewayTrace("m", START_S).slot([], total=7, pending=7)
    with pytest.raises(OptimizerError, match="7 requests came in, none was answered"):
        workload(gather("m", "here", trace.values.items()))


@given(
    st.lists(st.one_of(st.none(), st.integers(1, 50)), min_size=1, max_size=40).filter(any),
    st.integers(1, 4),
)
def test_gaps_never_lower_the_rate(counts: list[int | None], version: int) -> None:
    """Whatever slots are lost, the rate is the mean of those that are there."""
    trace = GatewayTrace("m", START_S, version=version)
    for count in counts:
        if count is None:
            trace.skip()
        else:
            trace.slot([(512, 128)] * count)
    found = workload(gather("m", "here", trace.values.items()))
    there = [count for count in counts if count is not None]
    assert math.isclose(found.request_rate, sum(there) / (10 * len(there)))
    known = found.arrivals[~np.isnan(found.arrivals)]
    assert known.tolist() == there
