"""A loop and its HTTP face: what is read fails and comes back, autoscalers ask all the while."""

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from accelerators.errors import ToolError
from optimizer.from_tables import load_tables
from optimizer.limits import Limits
from optimizer.live import state as memory_file
from optimizer.live.control import Policy
from optimizer.live.face import Face, listening
from optimizer.live.replan import Replanner
from optimizer.live.service import ModelLoop, Settings, Tables, run
from optimizer.live.state import Memory
from optimizer.live.traffic import Traffic, gather
from optimizer.solver import Solver
from tests.gateway import GatewayTrace
from tests.optimizer.problems import make_table

L20, V100 = "deepseek-coder-7b-l20", "deepseek-coder-7b-v100"
NOW_S = 1_700_000_000


class World:
    """What a loop reads; a test breaks it and mends it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.names = [L20, V100]
        self.traffic: Traffic | ToolError = traffic(20)

    def tables(self) -> Tables:
        sources = [s for s in load_tables([self.folder]) if s.table.target in self.names]
        return Tables(sources, {f"default/{s.table.target}": s.table.target for s in sources})

    def read(self) -> Traffic:
        if isinstance(self.traffic, ToolError):
            raise self.traffic
        return self.traffic


def traffic(requests: int, *, slots: int = 6, gaps: int = 0, size: int = 100) -> Traffic:
    trace = GatewayTrace("m", NOW_S)
    for _ in range(slots - 1):
        trace.slot([(size, 30)] * requests)
    trace.skip(gaps).slot([(size, 30)] * requests, pending=3, queueing=1)
    return gather("m", "here", trace.values.items(), now_s=NOW_S + 60)


@pytest.fixture
def world(tables_in: Callable[..., Path]) -> World:
    return World(
        tables_in(
            make_table(L20, [[2.0, 1.0], [0.8, 0.4]], cost=1.0),
            make_table(V100, [[1.0, 0.5], [0.4, 0]], cost=0.9),
        )
    )


@pytest.fixture
def make_loop(world: World, solver: Solver) -> Callable[..., ModelLoop]:
    def make(**options: Any) -> ModelLoop:
        memory = options.pop("memory", None)
        settings = Settings(Policy(cooldown_s=600), Limits(**options.pop("limits", {})), **options)
        return ModelLoop("m", world.tables, world.read, Replanner(solver), settings, memory)

    return make


Ask = Callable[..., tuple[int, str]]


@pytest.fixture
def ask(make_loop: Callable[..., ModelLoop]) -> Iterator[tuple[ModelLoop, Ask]]:
    loop = make_loop()
    saved: list[Memory] = []
    with listening(Face([loop], changed=lambda: saved.append(loop.memory)), "127.0.0.1", 0) as url:
        yield loop, lambda *words, **options: request(url, *words, **options)


def request(url: str, method: str, path: str, body: Any = None) -> tuple[int, str]:
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    asked = urllib.request.Request(f"{url}{path}", data=data, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_aibrix_own_sample_reads_it(ask: tuple[ModelLoop, Ask], shared_data: Path) -> None:
    """The PodAutoscaler's path, metric and target value, as AIBrix's samples have them."""
    loop, get = ask
    loop.tick(NOW_S)
    wanted = loop.standing.state.replicas
    assert wanted is not None
    for name in (L20, V100):
        sample = shared_data / "aibrix-samples" / f"{name}-podautoscaler.yaml"
        source = yaml.safe_load(sample.read_text())["spec"]["metricsSources"][0]
        status, text = get("GET", source["path"])
        assert status == 200
        help_, type_, line = text.splitlines()
        metric = source["targetMetric"]
        assert (help_, type_) == (
            f"# HELP {metric} Number of suggested replicas.", f"# TYPE {metric} gauge",
        )  # fmt: skip
        assert line == f'{metric}{{model_name="m"}} {wanted[name] * 100}'
        # What AIBrix's KPA makes of it: the value over the target, rounded up.
        assert -(-int(line.split()[-1]) // int(source["targetValue"])) == wanted[name]
    assert wanted[L20] == 1


def test_an_unknown_deployment_is_404_and_no_plan_is_503(ask: tuple[ModelLoop, Ask]) -> None:
    loop, get = ask
    assert get("GET", f"/metrics/default/{L20}")[0] == 404  # no table was read yet
    loop.check()
    status, text = get("GET", f"/metrics/default/{L20}")
    assert (status, "no plan of m yet" in json.loads(text)["error"]) == (503, True)
    assert get("GET", "/readyz")[0] == 503
    loop.tick(NOW_S)
    assert get("GET", "/readyz") == (200, '{"status": "ok", "without_plan": [], "stale": {}}\n')
    assert json.loads(get("GET", "/healthz")[1])["status"] == "ok"
    for path in (f"/metrics/other/{L20}", "/metrics/default/nobody", "/metrics/a/b/c", "/", "/x"):
        status, text = get("GET", path)
        assert status == 404
        assert json.loads(text)["error"]
    assert get("POST", f"/metrics/default/{L20}")[0] == 405


def test_scale_by_hand_until_it_is_lifted(ask: tuple[ModelLoop, Ask]) -> None:
    loop, get = ask
    loop.tick(NOW_S)
    path = f"/scale/default/{L20}"
    assert get("PUT", path, {"replicas": 700}) == (200, '{"message": "Scaled to 700"}\n')
    loop.tick(NOW_S + 60)
    assert get("GET", f"/metrics/default/{L20}")[1].splitlines()[-1].endswith(" 700")
    for body in (b"", b"{", {}, [], {"replicas": "7"}, {"replicas": 1.5}, {"replicas": -2},
                 {"replicas": True}, {"replicas": 10**10}):  # fmt: skip
        status, text = get("PUT", path, body)
        assert (status, bool(json.loads(text)["error"])) == (400, True)
    assert get("PUT", path, b" " * 70_000)[0] == 413
    assert get("PUT", "/scale/default/nobody", {"replicas": 1})[0] == 404
    assert get("PUT", path, {"replicas": -1})[0] == 200
    assert get("GET", f"/metrics/default/{L20}")[1].splitlines()[-1].endswith(" 100")


def test_monitoring_is_stopped_and_started(ask: tuple[ModelLoop, Ask]) -> None:
    loop, get = ask
    loop.tick(NOW_S)
    path = f"/monitor/default/{L20}"
    assert "already started" in get("POST", path)[1]
    assert get("DELETE", path)[0] == 200
    assert get("GET", f"/metrics/default/{L20}")[0] == 404
    assert loop.wake.is_set()
    loop.tick(NOW_S + 60)
    assert loop.standing.state.replicas == {L20: 0, V100: 2}
    assert get("GET", f"/metrics/default/{V100}")[1].endswith(" 200\n")
    assert get("POST", path) == (200, '{"message": "Deployment optimization started"}\n')
    assert get("GET", f"/metrics/default/{L20}")[0] == 200
    assert get("DELETE", "/monitor/default/nobody")[0] == 404


def test_profiles_are_read_again_when_asked(ask: tuple[ModelLoop, Ask], world: World) -> None:
    loop, get = ask
    world.names = [V100]
    loop.tick(NOW_S)
    assert get("GET", f"/metrics/default/{L20}")[0] == 404
    world.names = [L20, V100]
    assert get("GET", "/update_profile/m") == (
        200,
        '{"message": "workload profile of m updated"}\n',
    )
    assert loop.wake.is_set()
    assert get("GET", f"/metrics/default/{L20}")[0] == 503  # known, but not yet planned for
    loop.tick(NOW_S + 60)
    assert get("GET", f"/metrics/default/{L20}")[0] == 200
    assert get("GET", "/update_profile/other")[0] == 404
    (world.folder / f"{L20}.table.json").write_text("{")
    status, text = get("GET", "/update_profile/m")
    assert (status, "failed to update" in text) == (500, True)


def test_what_goes_away_leaves_the_last_plan(ask: tuple[ModelLoop, Ask], world: World) -> None:
    loop, get = ask
    world.traffic = traffic(200)
    loop.tick(NOW_S)
    before = loop.standing.state.replicas
    assert before is not None
    assert sum(before.values()) > 5
    gone: list[tuple[Any, str]] = [
        (ToolError("redis.unreachable", "no Redis answers"), "no Redis answers"),
        (gather("m", "here", []), "no slot of live traffic"),
        (gather("m", "here", [(NOW_S, b'{"90:70": 1}')], now_s=NOW_S + 999),
         "the newest slot is 999 s old"),
    ]  # fmt: skip
    for step, (what, why) in enumerate(gone):
        world.traffic = what
        loop.tick(NOW_S + 9000 + step * 60)
        assert loop.standing.state.replicas == before
        assert why in (loop.standing.state.problem or "")
    assert 'aibrixctl_optimizer_stale{model="m"} 1' in get("GET", "/metrics")[1]
    status, text = get("GET", "/readyz")
    assert (status, json.loads(text)["status"]) == (200, "stale")
    assert get("GET", f"/metrics/default/{L20}")[1].endswith(f" {before[L20] * 100}\n")
    world.traffic, world.names = traffic(1), [V100]
    loop.tick(NOW_S + 12_000)
    assert f"the profile of {L20} is gone" in (loop.standing.state.problem or "")
    assert loop.standing.state.replicas == before
    world.names = [L20, V100]
    for step in range(24):  # the other type first, the rest after another cool-down
        loop.tick(NOW_S + 13_000 + step * 60)
    assert loop.standing.state.problem is None
    assert loop.standing.state.replicas == {L20: 0, V100: 1}


def test_a_gap_in_the_window_is_not_less_traffic(
    make_loop: Callable[..., ModelLoop], world: World
) -> None:
    loop = make_loop()
    world.traffic = traffic(200)
    loop.tick(NOW_S)
    before = loop.standing.state.replicas
    world.traffic = traffic(200, slots=3, gaps=15)
    for step in range(30):
        loop.tick(NOW_S + 60 * step)
    assert loop.standing.state.replicas == before


def test_no_request_at_all_takes_the_minimum(
    make_loop: Callable[..., ModelLoop], world: World
) -> None:
    loop = make_loop(limits={"minimum": {V100: 1}})
    world.traffic = traffic(200)
    loop.tick(NOW_S)
    world.traffic = traffic(0)
    for step in range(14):
        loop.tick(NOW_S + 60 * step)
    assert loop.standing.state.replicas == {L20: 0, V100: 1}


def test_what_no_type_serves_is_left_out_and_told(
    make_loop: Callable[..., ModelLoop], world: World
) -> None:
    trace = GatewayTrace("m", NOW_S)
    trace.slot([(100, 30)] * 19 + [(500, 120)])
    world.names, world.traffic = [V100], gather("m", "here", trace.values.items())
    loop = make_loop()
    loop.tick(NOW_S)
    assert loop.standing.seen.unserved_share == pytest.approx(0.05)
    assert loop.standing.state.replicas == {V100: 2}
    limited = make_loop(limits={"maximum": {V100: 1}})
    decision = limited.tick(NOW_S)
    assert decision.replicas == {V100: 1}
    assert decision.served == pytest.approx(1 / 1.9)


def test_metrics_for_prometheus(ask: tuple[ModelLoop, Ask]) -> None:
    loop, get = ask
    loop.tick(time.time())
    status, text = get("GET", "/metrics")
    assert status == 200
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    prefix = "aibrixctl_optimizer_"
    assert values[f'{prefix}replicas{{model="m",namespace="default",deployment="{L20}"}}'] == "1"
    assert values[prefix + 'request_rate{model="m"}'] == "2"
    assert values[prefix + 'queueing_requests{model="m"}'] == "1"
    assert values[prefix + 'stale{model="m"}'] == "0"
    assert values[prefix + 'changes_total{model="m",direction="first"}'] == "1"
    assert 0 <= float(values[prefix + 'plan_age_seconds{model="m"}']) < 60
    for line in text.splitlines():
        assert line.startswith(("# HELP aibrixctl_", "# TYPE aibrixctl_", "aibrixctl_"))


def test_a_restart_goes_on_from_the_file(
    make_loop: Callable[..., ModelLoop], world: World, tmp_path: Path
) -> None:
    first = make_loop()
    first.tick(NOW_S)
    first.override(f"default/{V100}", 300)
    memory_file.save({"m": first.memory}, tmp_path / "state.json")
    world.traffic = ToolError("redis.unreachable", "no Redis answers")
    again = make_loop(memory=memory_file.load(tmp_path / "state.json")["m"])
    assert again.metric(f"default/{L20}") == 100
    assert again.metric(f"default/{V100}") == 300
    again.tick(NOW_S + 60)
    assert again.standing.state.replicas == first.standing.state.replicas
    assert make_loop(initial={L20: 4}).standing.state.replicas == {L20: 4}
    for text in ("{", "{}", '{"schema": "aibrixctl/serve-state/v1", "models": {"m": {}}}'):
        (tmp_path / "state.json").write_text(text)
        with pytest.raises(ToolError):
            memory_file.load(tmp_path / "state.json")


def test_many_ask_while_it_plans(ask: tuple[ModelLoop, Ask]) -> None:
    loop, get = ask
    loop.tick(NOW_S)

    def client(_: int) -> list[int]:
        return [get("GET", f"/metrics/default/{L20}")[0] for _ in range(30)]

    loop.wake.set()
    with ThreadPoolExecutor(8) as clients:
        answers = clients.map(client, range(8))
        run([loop], threading.Event(), on_step=lambda *_: None, until_s=0.5)
        assert list(answers) == [[200] * 30] * 8
