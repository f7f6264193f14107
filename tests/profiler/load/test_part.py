"""The parts of a load hold it whole, each request once."""

from itertools import islice

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from profiler.load import LoadConfig
from profiler.load.address import parse_url
from profiler.load.part import parts
from profiler.load.prompts import PromptMaker
from profiler.load.schedule import due_times


def load(**changes: object) -> LoadConfig:
    settings: dict[str, object] = {
        "base_url": "http://127.0.0.1:8000",
        "model": "m",
        "input_tokens": 32,
        "output_tokens": 4,
        "salt": "fixed",
        **changes,
    }
    return LoadConfig(**settings)  # type: ignore[arg-type]


@given(
    st.integers(1, 9),
    st.integers(1, 60),
    st.sampled_from(["poisson", "constant", "gamma"]),
    st.floats(0, 2),
)
def test_the_schedules_of_the_parts_are_the_schedule(
    clients: int, requests: int, arrival: str, warmup_s: float
) -> None:
    config = load(request_rate=20.0, num_prompts=requests, arrival=arrival, warmup_s=warmup_s)
    whole = due_times(config)
    shares = parts(config, clients)
    assert len(shares) == min(clients, len(whole))
    found = {}
    for share in shares:
        due = share.due(config)
        assert due is not None and len(due)
        found |= dict(zip(islice(share.indices(), len(due)), due, strict=True))
    assert [found[index] for index in range(len(whole))] == whole.tolist()
    assert len(found) == len(whole)


@given(st.integers(1, 9), st.integers(1, 40), st.one_of(st.none(), st.integers(1, 40)))
def test_a_closed_loop_is_divided(clients: int, concurrency: int, requests: int | None) -> None:
    config = load(max_concurrency=concurrency, num_prompts=requests)
    own = [share.of(config) for share in parts(config, clients)]
    assert sum(one.max_concurrency or 0 for one in own) == concurrency
    assert all(one.max_concurrency for one in own)
    if requests is not None:
        assert sum(one.num_prompts or 0 for one in own) == requests
        assert all(one.num_prompts for one in own)


def test_no_two_parts_send_the_same_prompt_and_together_they_send_those_of_one_client() -> None:
    config = load(request_rate=20.0, num_prompts=30, warmup_s=0.0)
    maker = PromptMaker(config, parse_url(config.base_url))
    sent = [
        maker.request(index) for share in parts(config, 4) for index in islice(share.indices(), 8)
    ]
    assert len(set(sent)) == 32
    assert set(sent) == {maker.request(index) for index in range(32)}


def test_the_parts_of_a_poisson_load_are_alike() -> None:
    """Each has its share of the rate, in the warm-up as in the window."""
    config = load(request_rate=100.0, duration_s=60.0, warmup_s=20.0)
    for share in parts(config, 4):
        due = share.due(config)
        assert due is not None
        assert abs(int((due < 20.0).sum()) - 500) <= 1
        assert abs(np.median(due) - 40.0) < 3.0
