from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import ProfilerUsageError
from profiler.load.config import LoadConfig, check
from profiler.load.schedule import due_times

BASE = LoadConfig("http://h", "m", 8, 8, request_rate=100.0, duration_s=100.0, warmup_s=5.0)


@given(
    st.floats(0.1, 500),
    st.floats(0.1, 50),
    st.floats(0, 10),
    st.integers(0, 5),
    st.sampled_from([("poisson", 1.0), ("constant", 1.0), ("gamma", 0.3), ("gamma", 5.0)]),
)
def test_the_offered_rate_is_the_one_asked_for(rate, duration, warmup, seed, spread) -> None:
    config = replace(
        BASE,
        request_rate=rate,
        duration_s=duration,
        warmup_s=warmup,
        seed=seed,
        arrival=spread[0],
        burstiness=spread[1],
    )
    due = due_times(config)
    assert np.all(np.diff(due) >= 0)
    assert due[0] >= 0
    assert due[-1] <= warmup + duration
    window = int((due >= warmup).sum())
    assert abs(window - max(1, round(rate * duration))) <= 1
    assert np.array_equal(due, due_times(config))


def test_the_seed_alone_changes_the_arrivals() -> None:
    first = due_times(BASE)
    assert not np.array_equal(first, due_times(replace(BASE, seed=1)))
    assert np.array_equal(first, due_times(replace(BASE, salt="another")))


@pytest.mark.parametrize(
    ("arrival", "burstiness", "spread"),
    [("poisson", 1.0, 1.0), ("constant", 1.0, 0.0), ("gamma", 0.25, 2.0), ("gamma", 4.0, 0.5)],
)
def test_gaps_spread_as_their_distribution_says(arrival, burstiness, spread) -> None:
    config = replace(BASE, arrival=arrival, burstiness=burstiness, warmup_s=0.0)
    gaps = np.diff(due_times(config))
    assert gaps.std() / gaps.mean() == pytest.approx(spread, abs=0.1)


def test_a_number_of_requests_sets_the_window() -> None:
    config = replace(BASE, duration_s=None, num_prompts=250)
    assert config.window_s == 2.5
    assert (due_times(config) >= 5.0).sum() == 250


@pytest.mark.parametrize(
    "changes",
    [
        {"request_rate": None},
        {"request_rate": 0.0},
        {"request_rate": float("nan")},
        {"request_rate": float("inf")},
        {"input_tokens": 0},
        {"output_tokens": -3},
        {"duration_s": 0.0},
        {"num_prompts": 0},
        {"max_concurrency": 0},
        {"warmup_s": -1.0},
        {"burstiness": 0.5},
        {"endpoint": "/v1/embeddings"},
        {"shared_prefix_tokens": 8},
        {"model": ""},
        {"extra_body": {"stream": False}},
        {"request_rate": 1e5, "duration_s": 1e5},
    ],
)
def test_what_can_t_be_run_is_refused(changes) -> None:
    check(BASE)
    with pytest.raises(ProfilerUsageError) as caught:
        check(replace(BASE, **changes))
    assert caught.value.target in (*changes, "duration_s")
