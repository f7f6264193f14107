"""Plans from what AIBrix's gateway and profiles say in a real Redis."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import redis
from syrupy.assertion import SnapshotAssertion

from profiler.interop.aibrix import to_profile
from profiler.interop.aibrix_redis import profile_key
from profiler.table import save
from tests.gateway import recent
from tests.optimizer.problems import make_table
from tests.redis_server import redis_server, requires_redis

pytestmark = requires_redis
Cli = Callable[..., Any]


@dataclass(frozen=True)
class Live:
    url: str
    client: redis.Redis


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with (
        redis_server(tmp_path_factory.mktemp("redis")) as running,
        redis.Redis(port=running.port) as client,
    ):
        yield Live(running.url, client)


@pytest.fixture
def live(server: Live) -> Live:
    """A Redis with profiles of two deployments of ``m``, and 10 minutes of traffic with a gap."""
    server.client.flushall()
    publish(server.client, "m")
    trace = recent("m", server.client, 60)
    for slot in range(60):
        if slot in (17, 18):
            trace.skip()
            continue
        trace.slot([(100, 30)] * 60 + [(400, 120)] * 20, total=85, pending=9, queueing=2)
    trace.write(server.client)
    return server


def publish(client: redis.Redis, model: str) -> None:
    for name, cost, factor in (("coder-l20", 1.0, 1.0), ("coder-v100", 0.6, 0.4)):
        table = make_table(name, [[9.0 * factor, 5.0 * factor], [4.0 * factor, 2.0 * factor]],
                           cost=cost)  # fmt: skip
        document = to_profile(table, created="2026-01-01T00:00:00Z").document
        client.set(profile_key(model, name), json.dumps(document))


def plan(cli: Cli, live: Live, *words: str) -> Any:
    return cli("optimize", "plan", "--profiles", live.url, "--workload", live.url, *words)


def test_one_redis_is_enough(cli: Cli, live: Live, snapshot: SnapshotAssertion) -> None:
    outcome = plan(cli, live, "--model", "m", "--headroom", "20%")
    assert outcome.code == 0, outcome.err
    assert outcome.out == snapshot
    assert outcome.err == snapshot(name="stderr")


def test_the_plan_says_what_it_was_made_from(cli_json: Cli, live: Live) -> None:
    body = plan(cli_json, live, "--out", "plan.json")
    data = body["data"]
    assert data["model"] == "m"
    assert data["inputs"]["workload"]["format"] == "aibrix-live"
    assert data["inputs"]["workload"]["digest"].startswith("sha256:")
    assert data["inputs"]["workload"]["request_rate"] == 8.5
    paths = [table["path"] for table in data["inputs"]["tables"]]
    assert paths == [f"{live.url} aibrix:profile_m_coder-{name}" for name in ("l20", "v100")]
    assert cli_json("optimize", "show", "plan.json")["data"] == data


def test_the_model_is_asked_for_and_exact(cli_json: Cli, live: Live) -> None:
    recent("m_x", live.client, 3).slot([(100, 30)] * 500).write(live.client)
    assert plan(cli_json, live)["data"]["model"] == "m"  # profiles are of this one only
    publish(live.client, "m_x")
    assert plan(cli_json, live)["errors"][0]["code"] == "profiles.model"
    assert plan(cli_json, live, "--model", "m")["data"]["request_rate"] == 8.5
    assert plan(cli_json, live, "--model", "m_x")["data"]["request_rate"] == 50
    shown = cli_json("optimize", "workload", "show", live.url)
    assert (shown["exit_code"], shown["errors"][0]["code"]) == (2, "traffic.model")


def test_a_window_and_files_mix_with_redis(cli_json: Cli, live: Live) -> None:
    Path("profiles").mkdir()
    save(make_table("large", [[20.0, 14.0], [9.0, 5.0]], cost=0.1), "profiles/large.table.json")
    words = ("--workload", live.url, "--window", "2m")
    mixed = cli_json("optimize", "plan", "profiles", "--profiles", live.url, *words)["data"]
    assert mixed["replicas"].keys() == {"coder-l20", "coder-v100", "large"}
    alone = cli_json("optimize", "plan", "profiles", *words)["data"]
    assert alone["replicas"]["large"] > 0
    assert not any("have no data" in warning for warning in alone["warnings"])


def test_traffic_of_another_model_is_planned_for_only_when_it_is_named(
    cli_json: Cli, live: Live
) -> None:
    Path("profiles").mkdir()
    table = make_table("large", [[20.0, 14.0], [9.0, 5.0]], cost=0.1)
    save(replace(table, model="org/m"), "profiles/large.table.json")
    words = ("optimize", "plan", "profiles", "--workload", live.url)
    refused = cli_json(*words)
    assert (refused["errors"][0]["code"], refused["exit_code"]) == ("traffic.model", 2)
    assert "no request traces of 'org/m'; it holds those of m" in refused["errors"][0]["message"]
    assert "--model" in refused["errors"][0]["hint"]
    assert cli_json(*words, "--model", "m")["data"]["request_rate"] == 8.5


def test_live_traffic_as_a_person_reads_it(
    cli: Cli, cli_json: Cli, live: Live, snapshot: SnapshotAssertion
) -> None:
    outcome = cli("optimize", "workload", "show", live.url)
    assert outcome.code == 0
    assert outcome.out.replace(live.url, "redis://HOST") == snapshot
    data = cli_json("optimize", "workload", "show", live.url)["data"]
    rates = data["rate_over_time"]["requests_per_s"]
    assert [n for n, rate in enumerate(rates) if rate is None] == [17, 18]
    assert (data["requests"], data["request_rate"]) == (58 * 85, 8.5)


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        (("--window", "0s"), "option.window", 2),
        (("--window", "soon"), "units.unreadable", 2),
        (("--workload-format", "azure"), "option.format", 2),
        (("--rate", "-1"), "workload.rate", 2),
        (("--model", "n"), "profiles.model", 2),
    ],
)
def test_refusals(
    cli_json: Cli, live: Live, words: tuple[str, ...], code: str, exit_code: int
) -> None:
    body = plan(cli_json, live, *words)
    assert (body["errors"][0]["code"], body["exit_code"]) == (code, exit_code)


def test_options_of_redis_are_refused_for_files(cli_json: Cli) -> None:
    Path("profiles").mkdir()
    save(make_table("large", [[20.0, 14.0], [9.0, 5.0]]), "profiles/large.table.json")
    rows = [f"2024-01-01 00:00:{second:02d},100,30" for second in range(9)]
    Path("trace.csv").write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
    words = ("optimize", "plan", "profiles", "--workload", "trace.csv")
    for option, code in (("--model=m", "option.model"), ("--window=1m", "option.window")):
        body = cli_json(*words, option)
        assert (body["errors"][0]["code"], body["exit_code"]) == (code, 2)


def test_an_idle_or_silent_gateway(cli_json: Cli, live: Live) -> None:
    live.client.flushall()
    publish(live.client, "m")
    silent = plan(cli_json, live)
    assert (silent["errors"][0]["code"], silent["exit_code"]) == ("traffic.no_traces", 1)
    recent("m", live.client, 2).slot([]).slot([]).write(live.client)
    idle = plan(cli_json, live)
    assert (idle["errors"][0]["code"], idle["exit_code"]) == ("traffic.none", 1)


def test_access(cli_json: Cli, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        redis_server(tmp_path, "very-secret") as server,
        redis.Redis(port=server.port, password="very-secret") as client,
    ):
        publish(client, "m")
        recent("m", client, 3).slot([(100, 30)] * 9).write(client)
        live = Live(server.url, client)
        assert plan(cli_json, live)["exit_code"] == 13
        Path("password").write_text("very-secret\n")
        assert plan(cli_json, live, "--password-file", "password")["exit_code"] == 0
        monkeypatch.setenv("AIBRIXCTL_REDIS_PASSWORD", "very-secret")
        shown = cli("optimize", "workload", "show", live.url)
        assert shown.code == 0
        assert "very-secret" not in shown.out + shown.err
    gone = plan(cli_json, live)
    assert (gone["errors"][0]["code"], gone["exit_code"]) == ("redis.unreachable", 13)
