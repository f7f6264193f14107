"""Diagnoses of simulated engines that have real faults, and of servers with a script."""

import contextlib
import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from diagnose.engine import EngineConfig, diagnose_engine
from diagnose.engine.checks import CHECK_OF
from diagnose.engine.exchange import parse_address
from diagnose.errors import DiagnoseUsageError
from diagnose.explain import catalogue
from diagnose.findings import Finding, Report
from profiler.sim.faults import parse_fault
from tests.diagnose.scripted import events, scripted
from tests.profiler.sim.served import Server, body, running

ACTIVE = "aibrixctl_simulator_fault_active"


def look(url: str, **more: Any) -> Report:
    options = {"interval_s": 0.2, "timeout_s": 1.0} | more
    return diagnose_engine(EngineConfig(parse_address(url), **options))


def only(report: Report) -> Finding:
    assert [finding.code for finding in report.findings] == [report.findings[0].code]
    found = report.findings[0]
    assert found.check == CHECK_OF[found.code]
    return found


@contextmanager
def engine(*faults: str, **options: Any) -> Iterator[Server]:
    with running(faults=tuple(parse_fault(text) for text in faults), **options) as server:
        yield server


def send(server: Server, asked: dict[str, Any]) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        server.ask("POST", "/v1/completions", body(**asked))


@contextmanager
def load(server: Server, *, every_s: float, **asked: Any) -> Iterator[None]:
    """Send requests at a rate, whatever becomes of them, until the block ends."""
    over = threading.Event()

    def keep_sending() -> None:
        while not over.wait(every_s):
            threading.Thread(target=send, args=(server, asked), daemon=True).start()

    thread = threading.Thread(target=keep_sending)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_sound_engine_under_load_has_no_finding() -> None:
    with engine() as server, load(server, every_s=0.02, max_tokens=40):
        report = look(server.url, timeout_s=20.0)
    assert (report.findings, report.unchecked) == ((), ())
    assert report.passed == len(set(CHECK_OF.values()))
    assert report.simulated


def test_an_idle_engine_is_sound() -> None:
    with engine() as server:
        report = look(server.url, timeout_s=20.0)
    assert (report.findings, report.unchecked) == ((), ())
    assert report.facts["engine"]["canary"]["tokens"] == 4


def test_a_wedged_engine_is_found_though_it_says_it_is_well() -> None:
    with engine("wedge") as server, load(server, every_s=0.05):
        server.wait_for(f'{ACTIVE}{{fault="wedge"', 1)
        found = only(look(server.url))
    assert (found.code, found.severity, found.move_workload) == ("ENGINE-WEDGED", "fatal", True)
    assert found.evidence["health"] == "status 200"
    assert found.evidence["waiting"] >= 1
    assert found.evidence["tokens_between_scrapes"] == 0


def test_a_wedged_engine_without_any_work_is_found_by_the_canary() -> None:
    with engine("wedge") as server:
        assert only(look(server.url)).code == "ENGINE-WEDGED"


def test_without_the_canary_standing_still_is_only_a_warning() -> None:
    with engine("wedge@1s", speed=1) as server, load(server, every_s=0.1, max_tokens=2000):
        server.wait_for(f'{ACTIVE}{{fault="wedge"', 1)
        wait_until(lambda: stands_still(server))  # the step under way still ends
        found = only(look(server.url, canary=False))
    assert (found.code, found.severity) == ("ENGINE-STALLED", "warning")


def stands_still(server: Server) -> bool:
    """Whether no token comes for several times as long as a step takes."""
    before = server.metric("vllm:generation_tokens_total")
    time.sleep(0.3)
    return server.metric("vllm:generation_tokens_total") == before


def test_a_slow_engine_is_not_called_wedged() -> None:
    with engine("slow=12", speed=1) as server:
        found = only(look(server.url))
    assert found.code == "ENGINE-CANARY-OVERDUE"
    assert 0 < found.evidence["canary_tokens"] < 4


def test_errors_are_found() -> None:
    with engine("errors=50%") as server, load(server, every_s=0.01):
        found = only(look(server.url))
    assert found.code == "ENGINE-ERRORS"
    assert found.evidence["errors"] > 0


def test_an_unhealthy_engine_is_found() -> None:
    with engine("unhealthy") as server:
        found = only(look(server.url))
    assert (found.code, found.evidence["health"]) == ("ENGINE-UNHEALTHY", "status 503")


def test_a_growing_queue_is_found_and_explains_the_waiting_canary() -> None:
    with engine("queue", speed=1) as server, load(server, every_s=0.01, max_tokens=100):
        server.wait_for("vllm:num_requests_running", 1)
        found = only(look(server.url))
    assert found.code == "ENGINE-QUEUE-GROWTH"
    assert found.evidence["waiting"][-1] > found.evidence["waiting"][0]


def test_preemptions_are_found() -> None:
    with engine("preempt=50%", speed=20) as server, load(server, every_s=0.05, max_tokens=200):
        wait_until(lambda: server.metric("vllm:num_requests_running") > 1)
        found = only(look(server.url, timeout_s=20.0))
    assert found.code == "ENGINE-PREEMPTIONS"
    assert found.evidence["preemptions"] >= 3


def test_a_full_cache_with_requests_waiting_is_found() -> None:
    with engine("kv-full=90%", speed=1) as server:
        for _ in range(2):
            asked = {"prompt": [1] * 1150, "max_tokens": 200}
            threading.Thread(target=send, args=(server, asked), daemon=True).start()
        server.wait_for("vllm:num_requests_running", 1)
        server.wait_for("vllm:num_requests_waiting", 1)
        found = only(look(server.url))
    assert found.code == "ENGINE-KV-PRESSURE"
    assert found.evidence["kv_cache_usage"] >= 0.95


def test_a_collapsed_prefix_cache_is_found() -> None:
    prompt = {"prompt": [1] * 1000, "max_tokens": 1}
    with engine("cache-collapse@2s", prefix_cache_hit_rate=0.8) as server:
        for _ in range(5):
            server.ask("POST", "/v1/completions", body(**prompt))
        server.wait_for(f'{ACTIVE}{{fault="cache-collapse"', 1)
        with load(server, every_s=0.05, **prompt):
            found = only(look(server.url, timeout_s=20.0))
    assert found.code == "ENGINE-CACHE-COLLAPSE"
    assert found.evidence["hit_rate_before"] > 0.5
    assert found.evidence["hit_rate_now"] == 0


def test_an_engine_that_asks_for_a_key_is_unknown_without_it_and_sound_with_it() -> None:
    with engine(api_key="sesame-right") as server:
        refused = look(server.url)
        assert refused.findings == ()
        assert refused.facts["engine"]["access_refused"] == ["/v1/models"]
        assert [one.check for one in refused.unchecked] == ["engine-progress"]
        assert look(server.url, token="sesame-right", timeout_s=20.0).unchecked == ()


def series(tokens: float, running: float = 1, waiting: float = 0, **ranks: float) -> str:
    by_rank = ranks or {"0": tokens}
    return "".join(
        f'vllm:num_requests_running{{engine="{name.strip("r")}"}} {running}\n'
        f'vllm:num_requests_waiting{{engine="{name.strip("r")}"}} {waiting}\n'
        f'vllm:generation_tokens_total{{engine="{name.strip("r")}"}} {value}\n'
        for name, value in by_rank.items()
    )


class Script:
    """A server whose metrics are the given texts one after the other, the last for ever."""

    def __init__(self, *metrics: str, canary: tuple[int, str] | None = None, health: int = 200):
        self.metrics = list(metrics)
        self.canary = canary or (200, events("a", "b", "c", "d"))
        self.health = health

    def __call__(self, method: str, path: str) -> tuple[int, str] | None:
        if path == "/health":
            return self.health, ""
        if path == "/v1/models":
            return 200, '{"data": [{"id": "m"}]}'
        if path == "/metrics":
            if not self.metrics:
                return 404, "Not Found"
            return 200, self.metrics.pop(0) if len(self.metrics) > 1 else self.metrics[0]
        return self.canary


def test_one_rank_that_stands_still_among_others_is_found() -> None:
    script = Script(series(0, r0=5, r1=9), series(0, r0=6, r1=9), series(0, r0=7, r1=9))
    with scripted(script) as url:
        found = only(look(url))
    assert (found.code, found.evidence["rank"]) == ("ENGINE-STALLED", "1")


def test_a_restart_between_scrapes_is_told_and_no_rate_is_made_of_it() -> None:
    script = Script(series(100, waiting=0), series(1, waiting=50), series(2, waiting=50))
    with scripted(script) as url:
        report = look(url)
    assert only(report).code == "ENGINE-RESTARTED"
    assert report.unchecked == ()


def test_without_metrics_nothing_more_is_known_and_that_is_said() -> None:
    with scripted(Script()) as url:
        report = look(url)
    assert report.findings == ()
    assert {one.check for one in report.unchecked} == {
        "engine-kv-cache",
        "engine-queue",
        "engine-prefix-cache",
    }
    assert "--enable-metrics" in report.unchecked[0].reason


def test_a_sleeping_engine_gets_no_canary() -> None:
    asleep = series(5, running=0) + 'vllm:engine_sleep_state{sleep_state="awake"} 0\n'
    with scripted(Script(asleep)) as url:
        report = look(url)
    assert (only(report).code, only(report).severity) == ("ENGINE-ASLEEP", "info")
    assert [one.skipped for one in report.unchecked] == [True]


@pytest.mark.parametrize(
    ("canary", "code"),
    [
        ((500, "boom"), "ENGINE-ERRORS"),
        ((200, events("a", done=False)), "ENGINE-ERRORS"),
        ((200, 'data: {"error": {"message": "CUDA error"}}\n\ndata: [DONE]\n\n'), "ENGINE-ERRORS"),
        ((400, "this is an embedding model"), None),
        ((429, "slow down"), None),
    ],
)
def test_what_the_canary_is_answered_counts(canary: tuple[int, str], code: str | None) -> None:
    with scripted(Script(series(1), series(2), series(3), canary=canary)) as url:
        report = look(url)
    if code is None:
        assert report.findings == ()
        assert [(one.check, one.skipped) for one in report.unchecked] == [
            ("engine-progress", False)
        ]
    else:
        assert only(report).code == code


def test_a_server_without_completions_is_asked_for_a_chat() -> None:
    asked = []

    def answers(method: str, path: str) -> tuple[int, str] | None:
        asked.append(path)
        return (
            (404, "") if path == "/v1/completions" else Script(series(1), series(2))(method, path)
        )

    with scripted(answers) as url:
        report = look(url)
    assert "/v1/chat/completions" in asked
    assert report.facts["engine"]["canary"]["finished"]


def test_an_engine_that_accepts_and_never_answers_is_unhealthy() -> None:
    with scripted(lambda method, path: None) as url:
        before = time.monotonic()
        found = only(look(url, timeout_s=0.3))
        assert time.monotonic() - before < 5
    assert (found.code, found.evidence["health"]) == ("ENGINE-UNHEALTHY", "no answer within 0.3 s")


def test_nobody_there_is_unreachable_and_nothing_passed() -> None:
    report = look("http://127.0.0.1:1")
    assert only(report).code == "ENGINE-UNREACHABLE"
    assert report.passed == 0


def test_a_stop_ends_the_waiting() -> None:
    stop = threading.Event()
    stop.set()
    with engine() as server:
        before = time.monotonic()
        config = EngineConfig(parse_address(server.url), interval_s=60.0, timeout_s=2.0)
        diagnose_engine(config, stop)
        assert time.monotonic() - before < 10


@pytest.mark.parametrize("options", [{"samples": 1}, {"interval_s": 0.0}, {"token": "é"}])
def test_a_look_that_can_not_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(DiagnoseUsageError):
        EngineConfig(parse_address("http://host"), **options)


def test_every_code_is_explained() -> None:
    known = {code for code in catalogue() if code.startswith("ENGINE-")}
    assert known == set(CHECK_OF)
