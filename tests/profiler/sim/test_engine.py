from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelerators.errors import UsageError
from accelerators.names import resolve
from profiler.sim.engine import Advance, Engine, Request
from profiler.sim.models import ModelShape
from profiler.sim.replica import BLOCK_TOKENS, Replica, blocks_of, make_replica

SHAPE = ModelShape("small", 2, 2048, 16, 16, 128, 4096, 1000, 4096)


def small_replica(blocks: int, *, seqs: int = 8, budget: int = 64) -> Replica:
    """Return a replica with so few KV blocks."""
    replica = make_replica(resolve("a10"), SHAPE, max_num_seqs=seqs, max_num_batched_tokens=budget)
    memory = replica.memory
    room = (blocks + 0.5) * BLOCK_TOKENS * replica.kv_bytes_per_token
    share = (memory.weights + memory.activations + room) / memory.total
    small = replace(replica, gpu_memory_utilization=share)
    assert small.kv_blocks == blocks
    return small


sizes = st.tuples(st.integers(1, 150), st.integers(1, 80))


@st.composite
def loads(draw: st.DrawFn) -> tuple[Engine, list[tuple[float, Request]]]:
    """An engine that may be short of memory, and requests that it can serve, with arrivals."""
    engine = Engine(
        small_replica(
            draw(st.integers(15, 60)),
            seqs=draw(st.integers(1, 8)),
            budget=draw(st.integers(8, 256)),
        )
    )
    gaps = st.one_of(st.just(0.0), st.floats(0, 0.02))
    due, requests = 0.0, []
    for key, (inputs, outputs) in enumerate(draw(st.lists(sizes, min_size=1, max_size=12))):
        due += draw(gaps)
        requests.append((due, Request(key, inputs, outputs)))
    return engine, requests


def drive(
    engine: Engine, requests: list[tuple[float, Request]], *, bulk: bool
) -> tuple[dict[int, float], dict[int, int], list[float]]:
    """Run all requests; return when each ended, how many tokens each got, and step times."""
    todo = list(requests)
    ended: dict[int, float] = {}
    tokens: Counter[int] = Counter()
    steps: list[float] = []
    while todo or not engine.idle:
        if engine.idle:
            engine.clock_s = max(engine.clock_s, todo[0][0])
        while todo and todo[0][0] <= engine.clock_s:
            engine.add(todo.pop(0)[1])
        until = todo[0][0] if todo else np.inf
        before = {request: request.preemptions for request in engine.decoding()}
        advance = engine.advance(until) if bulk else engine.step()
        kept = [request for request, count in before.items() if request.preemptions == count]
        assert advance.decoded == len(kept)
        for request in kept:
            tokens[request.key] += len(advance.step_s)
        for request in advance.first:
            tokens[request.key] += 1
        for request in advance.finished:
            ended[request.key] = engine.clock_s
        steps += list(advance.step_s)
        check(engine, advance)
    return ended, dict(tokens), steps


def lone_steps(engine: Engine) -> list[float]:
    """Return the step times of one more request: those of a fresh engine, if nothing is left."""
    engine.add(Request(0, 40, 4))
    return [float(engine.step().step_s[0]) for _ in range(4)]


def check(engine: Engine, advance: Advance) -> None:
    """What holds after every step."""
    assert 0 <= engine.kv_cache_usage <= 1
    assert engine.running <= engine.replica.max_num_seqs
    assert np.all(advance.step_s > 0)
    assert advance.end_s[-1] == engine.clock_s


@settings(deadline=None)
@given(loads(), st.booleans())
def test_every_request_gets_exactly_its_tokens_and_all_blocks_come_back(load, bulk: bool) -> None:
    engine, requests = load
    ended, tokens, _ = drive(engine, requests, bulk=bulk)
    assert set(ended) == {request.key for _, request in requests}
    assert tokens == {request.key: request.output_tokens for _, request in requests}
    assert engine.kv_cache_usage == 0
    assert (engine.running, engine.waiting) == (0, 0)
    assert lone_steps(engine) == lone_steps(Engine(engine.replica))


@settings(deadline=None)
@given(loads())
def test_a_run_of_steps_equals_single_steps(load) -> None:
    engine, requests = load
    again = [(due, Request(r.key, r.input_tokens, r.output_tokens)) for due, r in requests]
    bulk_ended, _, bulk_steps = drive(engine, requests, bulk=True)
    other = Engine(engine.replica)
    single_ended, _, single_steps = drive(other, again, bulk=False)
    assert bulk_steps == pytest.approx(single_steps, rel=1e-9)
    assert bulk_ended == pytest.approx(single_ended, rel=1e-9)
    assert engine.preemptions == other.preemptions


@settings(deadline=None)
@given(
    st.lists(sizes, min_size=1, max_size=12), st.integers(15, 60), st.integers(1, 8), st.booleans()
)
def test_blocks_in_use_are_those_of_the_tokens_stored(asked, blocks, seqs, bulk) -> None:
    """With prompts computed in one step, every running request stores all but its last token."""
    engine = Engine(small_replica(blocks, seqs=seqs, budget=4096))
    for key, (inputs, outputs) in enumerate(asked):
        engine.add(Request(key, inputs, outputs))
    tokens: Counter[Request] = Counter()
    while not engine.idle:
        before = {request: request.preemptions for request in engine.decoding()}
        advance = engine.advance(np.inf) if bulk else engine.step()
        for request, count in before.items():
            if request.preemptions == count:
                tokens[request] += len(advance.step_s)
        tokens.update(advance.first)
        stored = [r.input_tokens + tokens[r] - 1 for r in engine.decoding()]
        assert round(engine.kv_cache_usage * blocks, 6) == sum(map(blocks_of, stored))


def test_blocks_held_by_one_request_step_by_step() -> None:
    """One request of 20 tokens in and 30 out stores 49 tokens at its end, in 4 blocks."""
    engine = Engine(small_replica(20))
    engine.add(Request(0, 20, 30))
    used = []
    while not engine.idle:
        used.append(round(engine.kv_cache_usage * 20))
        engine.step()
    stored = [0] + [20 + step for step in range(29)]
    assert used == [blocks_of(tokens) for tokens in stored]


def test_the_last_admitted_gives_way_and_comes_back() -> None:
    engine = Engine(small_replica(12, budget=256))
    early, late = Request(0, 64, 60), Request(1, 64, 60)
    engine.add(early)
    engine.add(late)
    order = []
    while not engine.idle:
        order += [request.key for request in engine.advance(np.inf).finished]
    assert order == [0, 1]
    assert early.preemptions == 0
    assert late.preemptions > 0
    assert engine.preemptions == late.preemptions


def test_a_run_ends_with_the_first_step_that_reaches_the_time() -> None:
    engine = Engine(small_replica(60))
    engine.add(Request(0, 16, 500))
    engine.step()
    until = engine.clock_s + 0.01
    ends = engine.advance(until).end_s
    assert len(ends) > 5
    assert ends[-2] < until <= ends[-1]


def test_prompts_are_cut_to_the_token_budget_while_others_decode() -> None:
    engine = Engine(small_replica(60, budget=32))
    engine.add(Request(0, 16, 50))
    engine.step()
    engine.add(Request(1, 100, 5))
    steps = 0
    first: tuple[Request, ...] = ()
    while not first:
        advance = engine.step()
        assert advance.decoded == 1
        first = advance.first
        steps += 1
    assert steps == -(-100 // 31)


def test_prompts_of_one_step_share_its_token_budget() -> None:
    engine = Engine(small_replica(60, budget=128))
    for key in range(3):
        engine.add(Request(key, 60, 5))
    assert [request.key for request in engine.step().first] == [0, 1]
    assert [request.key for request in engine.step().first] == [2]


def test_requests_start_in_order_even_if_a_later_one_would_fit() -> None:
    engine = Engine(small_replica(16, budget=256))
    engine.add(Request(0, 150, 20))
    engine.step()
    engine.add(Request(1, 200, 5))
    engine.add(Request(2, 10, 5))
    advance = engine.step()
    assert advance.admitted == ()
    assert engine.waiting == 2


@settings(deadline=None)
@given(loads(), st.data())
def test_an_abort_frees_everything_the_request_held(load, data: st.DataObject) -> None:
    engine, requests = load
    for _, request in requests:
        engine.add(request)
    for _ in range(data.draw(st.integers(0, 30))):
        if not engine.idle:
            engine.step()
    for _, request in data.draw(st.permutations(requests)):
        engine.abort(request)
    assert engine.idle
    assert engine.kv_cache_usage == 0


@pytest.mark.parametrize(("inputs", "outputs"), [(4090, 7), (10, 4096)])
def test_a_request_that_can_never_fit_is_refused(inputs: int, outputs: int) -> None:
    engine = Engine(small_replica(400))
    with pytest.raises(UsageError) as caught:
        engine.add(Request(0, inputs, outputs))
    assert caught.value.code == "sim.context_length"


def test_the_longest_sequence_is_served_and_no_longer_one() -> None:
    engine = Engine(small_replica(10))
    assert engine.longest == 10 * BLOCK_TOKENS + 1
    engine.add(Request(0, 100, engine.longest - 100))
    with pytest.raises(UsageError):
        engine.add(Request(1, 100, engine.longest - 99))
    while not engine.idle:
        engine.advance(np.inf)
    assert engine.preemptions == 0
