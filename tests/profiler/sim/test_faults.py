import contextlib
import http.client
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from accelerators.errors import ToolError
from profiler.sim.engine import Engine, Request
from profiler.sim.faults import KINDS, Fault, Faults, parse_fault
from tests.profiler.sim.served import REPLICA, Server, body, running

RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"
TOKENS, PREEMPTIONS = "vllm:generation_tokens_total", "vllm:num_preemptions_total"


def faults(*texts: str) -> tuple[Fault, ...]:
    return tuple(parse_fault(text) for text in texts)


def ask(server: Server, **more) -> int:
    return server.ask("POST", "/v1/completions", body(**more))[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("wedge", Fault("wedge", 1.0)),
        ("wedge@10s:500ms", Fault("wedge", 1.0, 10.0, 0.5)),
        ("errors=30%:5s", Fault("errors", 0.3, 0.0, 5.0)),
        ("slow=2.5@1m", Fault("slow", 2.5, 60.0, math.inf)),
        ("kv-full", Fault("kv-full", KINDS["kv-full"].default or 0)),
    ],
)
def test_a_fault_is_read_from_text(text: str, expected: Fault) -> None:
    assert parse_fault(text) == expected


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("melt", "one of wedge"),
        ("wedge=2", "takes no value"),
        ("errors=3", "outside"),
        ("slow=0.5", "factor"),
        ("slow=nan", "factor"),
        ("wedge@10", "no unit"),
        ("errors=", "expected NAME"),
    ],
)
def test_what_is_no_fault_is_refused_with_the_reason(text: str, named: str) -> None:
    with pytest.raises(ToolError, match=named) as caught:
        parse_fault(text)
    assert caught.value.kind == "usage"


def test_a_fault_acts_in_its_time_only() -> None:
    fault = parse_fault("wedge@10s:5s")
    assert [fault.active(second) for second in (9.9, 10.0, 14.9, 15.0)] == [0, 1, 1, 0]


def test_the_same_seed_draws_the_same_errors() -> None:
    one, other = (Faults(faults("errors=0.5"), seed=3) for _ in range(2))
    drawn = [one.strikes("errors") for _ in range(50)]
    assert drawn == [other.strikes("errors") for _ in range(50)]
    assert 10 < sum(drawn) < 40


def test_a_wedged_engine_takes_requests_and_gives_no_token_while_it_says_it_is_well() -> None:
    with running(faults=faults("wedge:1500ms")) as server, ThreadPoolExecutor() as pool:
        asked = pool.submit(ask, server)
        server.wait_for(WAITING, 1)
        assert server.metric(TOKENS) == 0
        assert server.ask("GET", "/health")[0] == 200
        # It ends by itself, and the request is answered after all.
        assert asked.result(20) == 200
        assert server.metric(TOKENS) == 9


def test_a_wedge_that_comes_later_stops_what_runs() -> None:
    with running(speed=1, faults=faults("wedge@300ms")) as server:
        threading.Thread(target=_ask_in_vain, args=(server,), daemon=True).start()
        server.wait_for('aibrixctl_simulator_fault_active{fault="wedge"}', 1)
        server.wait_for(RUNNING, 1)
        first = server.metric(TOKENS)
        deadline = time.monotonic() + 20
        while (again := server.metric(TOKENS)) != first:  # the step under way still ends
            assert time.monotonic() < deadline
            first = again
        assert server.metric(RUNNING) == 1


def _ask_in_vain(server: Server) -> None:
    # The server is closed before it answers.
    with contextlib.suppress(OSError, http.client.HTTPException):
        ask(server, max_tokens=1000)


def test_an_unhealthy_engine_says_so() -> None:
    with running(faults=faults("unhealthy")) as server:
        assert server.ask("GET", "/health")[0] == 503


def test_errors_are_answered_with_500_and_counted() -> None:
    with running(faults=faults("errors=100%")) as server:
        assert ask(server) == 500
        assert server.metric('vllm:request_success_total{finished_reason="error"') == 1


def test_a_queue_lets_one_request_run_at_a_time() -> None:
    with running(speed=1, faults=faults("queue")) as server:
        for _ in range(3):
            threading.Thread(target=_ask_in_vain, args=(server,), daemon=True).start()
        server.wait_for(WAITING, 2)
        assert server.metric(RUNNING) == 1


def test_preempted_requests_still_get_every_token() -> None:
    with running(faults=faults("preempt=50%")) as server, ThreadPoolExecutor() as pool:
        asked = [pool.submit(ask, server, max_tokens=60) for _ in range(4)]
        assert [one.result(20) for one in asked] == [200] * 4
        assert server.metric(TOKENS) == 240
        assert server.metric(PREEMPTIONS) > 0


def test_slow_steps_take_longer() -> None:
    def seconds(**options) -> float:
        with running(speed=20, **options) as server:
            before = time.monotonic()
            assert ask(server, max_tokens=20) == 200
            return time.monotonic() - before

    assert seconds(faults=faults("slow=20")) > 5 * seconds()


def test_held_blocks_count_as_used_and_come_back() -> None:
    engine = Engine(REPLICA)
    engine.hold(0.9)
    assert engine.kv_cache_usage == pytest.approx(0.9, abs=0.01)
    engine.hold(0.0)
    assert engine.kv_cache_usage == 0


def test_a_cached_prompt_takes_its_blocks_but_less_time() -> None:
    def first_token(cached: int) -> tuple[float, float]:
        engine = Engine(REPLICA)
        engine.add(Request(0, 2000, 5, cached))
        engine.step()
        return engine.clock_s, engine.kv_cache_usage

    (cold_s, cold_usage), (warm_s, warm_usage) = first_token(0), first_token(1900)
    assert warm_s < 0.5 * cold_s
    assert warm_usage == cold_usage


def test_the_prefix_cache_finds_its_share_until_it_collapses() -> None:
    with running(prefix_cache_hit_rate=0.5) as server:
        ask(server, prompt=[1] * 1000)
        assert server.metric("vllm:prefix_cache_queries_total") == 1000
        assert server.metric("vllm:prefix_cache_hits_total") == 500
    with running(prefix_cache_hit_rate=0.5, faults=faults("cache-collapse")) as server:
        ask(server, prompt=[1] * 1000)
        assert server.metric("vllm:prefix_cache_hits_total") == 0
