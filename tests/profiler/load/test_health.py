from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.load.collect import Observed
from profiler.load.health import assess
from profiler.load.recording import busy, earliest
from profiler.samples import ClientHealth, Samples, summarise

WINDOW = (0.0, 10.0)


def samples(send_lag_s: float = 0.0, read_lag_s: float = 0.0) -> Samples:
    due = np.arange(100) / 10
    first = due + send_lag_s + 0.1 + read_lag_s
    return Samples(
        scheduled_s=due,
        sent_s=due + send_lag_s,
        first_token_s=first,
        last_token_s=first + 0.4,
        input_tokens=np.full(100, 8),
        output_tokens=np.full(100, 5),
        errors=[None] * 100,
        gap_s=np.full(400, 0.1),
        gap_end_s=np.repeat(due, 4),
        gap_weight=np.ones(400),
    )


def health(read: Samples, come: Samples, held: bool = False, cpu: float = 0.9) -> ClientHealth:
    observed = Observed(read, come, np.full(len(read), held), 0)
    return assess(
        observed,
        summarise(read, window=WINDOW),
        summarise(come, window=WINDOW),
        window=WINDOW,
        loop_lag_s=np.array([0.0, 0.001]),
        cpu_share=cpu,
    )


def test_a_prompt_client_is_no_bottleneck() -> None:
    found = health(samples(), samples())
    assert found.bottleneck is None
    assert found.loop_lag_ms is not None
    assert found.loop_lag_ms.p99 == 1.0


@pytest.mark.parametrize(("lag_s", "bad"), [(0.004, False), (0.02, True)])
def test_late_sends(lag_s: float, bad: bool) -> None:
    found = health(samples(lag_s), samples(lag_s))
    assert (found.bottleneck is not None) == bad
    assert not bad or "requests were sent late: p50 20.00 ms" in str(found.bottleneck)
    assert health(samples(lag_s), samples(lag_s), held=True).bottleneck is None


@pytest.mark.parametrize(("lag_s", "bad"), [(0.004, False), (0.02, True)])
def test_late_reads(lag_s: float, bad: bool) -> None:
    found = health(samples(0.0, lag_s), samples())
    assert (found.bottleneck is not None) == bad
    assert not bad or "ttft p50 is 120.00 ms, and could be 100.00 ms" in str(found.bottleneck)


def test_a_load_that_was_not_delivered() -> None:
    late = replace(samples(), sent_s=np.full(100, 11.0))
    found = health(late, late, held=True)
    assert "0 of 10 requests/s due in the window were sent in it" in str(found.bottleneck)


def test_an_idle_client_is_told_to_look_elsewhere() -> None:
    assert "other work" in str(health(samples(0.02), samples(0.02), cpu=0.1).bottleneck)
    assert "split the load" in str(health(samples(0.02), samples(0.02), cpu=0.9).bottleneck)


def test_busy_stretches_join_turns_and_late_ticks() -> None:
    turns = np.array([1.0, 1.1, 1.10001, 1.2, 5.0, 5.1])
    starts, ends = busy(turns, np.array([5.3, 9.0]), np.array([0.25, 0.0]))
    assert starts == pytest.approx([1.0, 5.0, 9.0])
    assert ends == pytest.approx([1.2, 5.3, 9.0])


@given(
    st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1)), max_size=20),
    st.lists(st.floats(0, 12), min_size=1, max_size=20),
)
def test_data_never_comes_after_it_is_read(turns, reads) -> None:
    flat = np.array([edge for start, length in turns for edge in (start, start + length)])
    stretches = busy(flat, np.array([]), np.array([]))
    at = np.array(reads)
    come = earliest(at, stretches)
    assert np.all(come <= at)
    inside = [any(a <= t <= a + n for a, n in turns) for t in reads]
    assert np.all((come < at) | ~np.array(inside) | np.isin(at, stretches[0]))
