"""`optimize serve` as a process of its own, before a real Redis that goes away and comes back."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import redis

from aibrixctl import schemas
from profiler.interop.aibrix import to_profile
from profiler.interop.aibrix_redis import profile_key
from tests.gateway import recent
from tests.optimizer.problems import make_table
from tests.redis_server import redis_server, requires_redis

pytestmark = requires_redis
PROGRAM = [sys.executable, "-m", "aibrixctl"]
_LIMIT_S = 60.0


def publish(client: redis.Redis, model: str, deployment: str, cost: float, factor: float) -> None:
    rates = [[9.0 * factor, 5.0 * factor], [4.0 * factor, 2.0 * factor]]
    table = make_table(deployment.rpartition("/")[2], rates, cost=cost)
    document = to_profile(table, created="2026-01-01T00:00:00Z", deployment=deployment).document
    client.set(profile_key(model, deployment), json.dumps(document))


def traffic(client: redis.Redis, model: str, requests: int) -> None:
    trace = recent(model, client, 18)
    for _ in range(18):
        trace.slot([(100, 30)] * requests)
    trace.write(client, expire=True)


@contextmanager
def serving(*words: str) -> "Iterator[tuple[str, subprocess.Popen[str]]]":
    """Run the command for the block; yields its URL and the process."""
    process = subprocess.Popen(
        [*PROGRAM, "optimize", "serve", "--port", "0", *words, "-o", "json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        line = next(line for line in process.stderr if "serving" in line)
        yield line.split()[-1], process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def await_text(url: str, text: str) -> str:
    """Return what a page says as soon as it says a text."""
    deadline = time.monotonic() + _LIMIT_S
    while time.monotonic() < deadline:
        try:
            found = get(url)
            if text in found:
                return found
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"{url} did not say {text!r}")


def steps(url: str) -> int:
    name = 'aibrixctl_optimizer_steps_total{model="m"} '
    return int(get(f"{url}/metrics").partition(name)[2].split()[0])


def ended(process: "subprocess.Popen[str]", signum: int) -> dict[str, Any]:
    process.send_signal(signum)
    out, _ = process.communicate(timeout=30)
    body: dict[str, Any] = json.loads(out)
    jsonschema.Draft202012Validator(schemas.get("optimize-serve")).validate(body)
    assert (process.returncode, body["exit_code"]) == (0, 0)
    return body


def test_traffic_doubles_redis_goes_away_and_the_service_restarts(tmp_path: Path) -> None:
    state = str(tmp_path / "state.json")
    common = ("--interval", "0.2s", "--headroom", "0%", "--state", state)
    with redis_server(tmp_path) as server, redis.Redis(port=server.port) as client:
        publish(client, "m", "prod/coder-l20", 1.0, 1.0)
        publish(client, "m", "coder-v100", 0.9, 0.5)
        publish(client, "m_x", "other-l20", 1.0, 1.0)
        traffic(client, "m", 80)
        traffic(client, "m_x", 10)
        at = ("--profiles", server.url, "--workload", server.url)
        with serving(*at, *common) as (url, process):
            page = f"{url}/metrics/prod/coder-l20"
            await_text(page, 'vllm:deployment_replicas{model_name="m"} 100\n')
            await_text(f"{url}/metrics/default/other-l20", 'model_name="m_x"} 100\n')
            traffic(client, "m", 160)
            await_text(page, 'vllm:deployment_replicas{model_name="m"} 200\n')
            client.config_set("requirepass", "locked")
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await_text(f"{url}/metrics", 'aibrixctl_optimizer_stale{model="m"} 1\n')
            assert "} 200\n" in get(page)
            body = ended(process, signal.SIGTERM)
            assert [m["model"] for m in body["data"]["models"]] == ["m", "m_x"]
            assert body["data"]["models"][0]["replicas"] == {"coder-l20": 2, "coder-v100": 0}
    saved = json.loads(Path(state).read_text())
    jsonschema.Draft202012Validator(schemas.get("serve-state")).validate(saved)
    with serving(*at, *common) as (url, process):  # no Redis at all
        assert "} 200\n" in get(f"{url}/metrics/prod/coder-l20")
        await_text(f"{url}/readyz", '"status": "stale"')
        ended(process, signal.SIGINT)


def test_a_loss_is_told_once_and_so_is_its_end(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server, redis.Redis(port=server.port) as client:
        publish(client, "m", "coder-l20", 1.0, 1.0)
        traffic(client, "m", 80)
        at = ("--profiles", server.url, "--workload", server.url, "--headroom", "0%")
        with serving(*at, "--interval", "0.1s") as (url, process):
            await_text(f"{url}/readyz", '"status": "ok"')
            client.config_set("requirepass", "locked")
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await_text(f"{url}/readyz", '"status": "stale"')
            enough = steps(url) + 3
            while steps(url) < enough:
                time.sleep(0.05)
            client.config_set("requirepass", "")
            await_text(f"{url}/readyz", '"status": "ok"')
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=30)
    told = [line for line in err.splitlines() if "stale" in line]
    assert len(told) == 2, err
    assert told[0].startswith("warning: m is stale, the plan stays: ")
    assert told[1] == "m: no longer stale"


def test_serving_goes_on_where_its_memory_can_no_longer_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    with redis_server(tmp_path) as server, redis.Redis(port=server.port) as client:
        publish(client, "m", "coder-l20", 1.0, 1.0)
        traffic(client, "m", 80)
        at = ("--profiles", server.url, "--workload", server.url, "--headroom", "0%")
        with serving(*at, "--interval", "0.2s", "--state", str(folder / "s.json")) as (
            url,
            process,
        ):
            page = f"{url}/metrics/default/coder-l20"
            await_text(page, "} 100\n")
            folder.rename(tmp_path / "gone")
            traffic(client, "m", 160)
            await_text(page, "} 200\n")
            assert process.stderr is not None
            assert any("serving goes on" in line for line in process.stderr)
            ended(process, signal.SIGTERM)


def test_what_cannot_be_served_is_refused_at_once(
    cli_json: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    def refused(*words: str) -> tuple[str, int]:
        body = cli_json("optimize", "serve", "--port", "0", "--duration", "1s", *words)
        return body["errors"][0]["code"], body["exit_code"]

    with redis_server(tmp_path) as server, redis.Redis(port=server.port) as client:
        at = ("--profiles", server.url, "--workload", server.url)
        assert refused(*at) == ("profiles.none", 2)
        publish(client, "m", "a10", 1.0, 1.0)
        assert refused(*at, "--min", "a11=1") == ("problem.unknown_type", 2)
        assert refused(*at, "--model", "n") == ("profiles.model", 2)
        assert refused("--profiles", server.url, "--workload", "t.csv") == ("option.workload", 2)
        assert refused(*at, "--interval", "0s") == ("option.interval", 2)
        assert refused(*at, "--host", "256.0.0.1")[1] == 1
        Path("state.json").write_text("[]")
        assert refused(*at, "--state", "state.json")[1] == 2
        assert refused(*at, "--state", "no/state.json")[1] == 1
    assert refused(*at) == ("redis.unreachable", 13)
