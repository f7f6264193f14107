"""`kv doctor` as operators and scripts run it."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.kvpool.pools import keys, load_redis
from tests.kvpool.test_placement import TWO
from tests.redis_server import redis_server, requires_redis

POOL = "lmcache+file:pool"
FAULTS = {"KV-UNDECODABLE", "KV-TRUNCATED", "KV-TEMPORARY"}


def make(cli: Callable[..., Any], *words: str) -> None:
    assert cli("kv", "demo-pool", "pool", "--entries", "30", *words).code == 0


def test_a_sound_pool(cli: Callable[..., Any], cli_json: Callable[..., Any]) -> None:
    make(cli)
    body = cli_json("kv", "doctor", POOL)
    assert (body["exit_code"], body["status"]) == (0, "success")
    assert body["data"]["findings"] == []
    assert body["data"]["scanned"] == 30
    assert "30 entries seen, no fault, 10 checks passed" in cli("kv", "doctor", POOL).out


def test_what_is_found_and_the_code(cli: Callable[..., Any], cli_json: Callable[..., Any]) -> None:
    make(cli, "--hazards")
    body = cli_json("kv", "doctor", POOL)
    assert (body["exit_code"], body["status"]) == (10, "success")
    found = {finding["code"]: finding for finding in body["data"]["findings"]}
    assert set(found) == {*FAULTS, "KV-FOREIGN"}
    assert found["KV-FOREIGN"]["severity"] == "info"
    assert all(f["meaning"] and f["remedy"] and f["evidence"] for f in found.values())
    assert cli("kv", "doctor", POOL, "--exit-zero").code == 0


@pytest.mark.parametrize("form", ["table", "wide", "csv", "jsonl", "yaml"])
def test_every_format(form: str, cli: Callable[..., Any]) -> None:
    make(cli, "--hazards")
    outcome = cli("kv", "doctor", POOL, "-o", form)
    assert outcome.code == 10
    assert all(code in outcome.out for code in FAULTS)
    if form == "wide":
        assert "passed   KV-LENGTH" in outcome.out
        assert "left out, this kind of pool has no such thing: KV-HALF-DATA" in outcome.out


def test_repair_removes_orphans_only(cli: Callable[..., Any], cli_json: Callable[..., Any]) -> None:
    make(cli, "--hazards")
    before = {path.name for path in Path("pool").iterdir()}
    shown = cli_json("kv", "doctor", POOL, "--repair", "--dry-run")["data"]["repaired"]
    assert (shown["dry_run"], shown["removed"]) == (True, 1)
    assert {path.name for path in Path("pool").iterdir()} == before
    body = cli_json("kv", "doctor", POOL, "--repair")
    assert {f["code"] for f in body["data"]["findings"]} == {*FAULTS, "KV-FOREIGN"} - {
        "KV-TEMPORARY"
    }
    assert before - {path.name for path in Path("pool").iterdir()} == set(shown["keys"])
    out = cli("kv", "doctor", POOL, "--repair", "--min-age", "9h").out
    assert "removed 0 orphans, 0 B" in out


def test_bad_use(cli: Callable[..., Any]) -> None:
    make(cli)
    outcome = cli("kv", "doctor", POOL, "--dry-run")
    assert outcome.code == 2
    assert "add --repair" in outcome.err
    assert cli("kv", "doctor", POOL, "--min-age", "5").code == 2
    assert cli("kv", "doctor", "lmcache+file:absent").code == 2
    outcome = cli("kv", "doctor", "aibrix+redis://127.0.0.1:1")
    assert outcome.code == 13


@requires_redis
def test_a_redis_with_halves_is_repaired(
    tmp_path: Path, cli: Callable[..., Any], cli_json: Callable[..., Any]
) -> None:
    first, second, *_ = keys("lmcache-redis")
    with redis_server(tmp_path) as server, load_redis(server.port) as client:
        url = f"lmcache+redis://127.0.0.1:{server.port}"
        client.delete(f"{first}metadata", f"{second}kv_bytes")
        words = ("kv", "doctor", url, "--min-age", "0s", "--headers")
        body = cli_json(*words)
        codes = {f["code"] for f in body["data"]["findings"]}
        assert codes == {"KV-HALF-DATA", "KV-HALF-HEADER", "KV-UNBOUNDED"}
        assert body["exit_code"] == 10
        assert not cli_json(*words, "--repair", "--dry-run")["errors"]
        body = cli_json(*words, "--repair")
        assert (body["data"]["repaired"]["removed"], body["errors"]) == (2, [])
        body = cli_json(*words)
        assert (body["exit_code"], body["status"]) == (0, "success")
        assert client.dbsize() == 8


@requires_redis
def test_names_do_not_control_the_terminal(tmp_path: Path, cli: Callable[..., Any]) -> None:
    with redis_server(tmp_path) as server, redis.Redis(port=server.port) as client:
        client.set("x\x1b]0;title\x07[/bold]\ndegraded KV-FAKE", "x")
        out = cli("kv", "doctor", f"lmcache+redis://127.0.0.1:{server.port}").out
    assert "    x␛]0;title[/bold]␊degraded KV-FAKE: not a key of LMCache\n" in out


@requires_redis
def test_a_check_that_cannot_run_is_a_partial_result(
    tmp_path: Path, cli: Callable[..., Any], cli_json: Callable[..., Any]
) -> None:
    with redis_server(tmp_path) as server, load_redis(server.port) as client:
        url = f"lmcache+redis://127.0.0.1:{server.port}"
        body = cli_json("kv", "doctor", url)
        if tuple(map(int, client.info()["redis_version"].split(".")[:2])) >= (7, 2):
            assert body["exit_code"] == 0
        else:
            assert (body["exit_code"], body["status"]) == (3, "partial")
            assert "--headers" in body["errors"][0]["message"]
            assert "4 could not run" in cli("kv", "doctor", url).out


@requires_redis
def test_slots_and_nodes(
    tmp_path: Path, cli: Callable[..., Any], cli_json: Callable[..., Any]
) -> None:
    with redis_server(tmp_path) as server, redis.Redis(port=server.port) as client:
        url = f"aibrix+redis://127.0.0.1:{server.port}"
        client.set("kvcache_nodes", json.dumps(TWO))
        body = cli_json("kv", "doctor", url, "--no-probe")
        assert body["exit_code"] == 10
        assert [f["code"] for f in body["data"]["findings"]] == [
            "KV-SLOTS-WRAPPED",
            "KV-SLOTS-MISSING",
        ]
        assert "kv-1 has 4095-0" in cli("kv", "doctor", url, "--no-probe").out
        with socket.create_server(("127.0.0.1", 0)) as place:
            port = place.getsockname()[1]
            slots = [{"start": 0, "end": 4095}]
            node = {"name": "kv-0", "addr": "127.0.0.1", "port": port, "slots": slots}
            client.set("kvcache_nodes", json.dumps({"nodes": [node], "version": 1}))
            assert cli("kv", "doctor", url).code == 0
        assert cli("kv", "doctor", url, "--probe-timeout", "1s").code == 10


@requires_redis
def test_a_signal_ends_a_watch_with_what_was_seen(tmp_path: Path) -> None:
    # By default the client gives up before a process on busy cores has started.
    with (
        redis_server(tmp_path) as server,
        redis.Redis(port=server.port, socket_timeout=60) as client,
    ):
        client.set("kvcache_nodes", json.dumps(TWO))
        words = ["kv", "doctor", f"aibrix+redis://127.0.0.1:{server.port}", "--no-probe"]
        process = subprocess.Popen(
            [sys.executable, "-m", "aibrixctl", *words, "--watch", "10m", "-o", "json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with client.monitor() as monitor:
            for event in monitor.listen():
                if event["command"] == "GET kvcache_nodes":
                    break
            for event in monitor.listen():
                if event["command"] == "GET kvcache_nodes":
                    break  # the second look: it watches
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(out)["data"]["findings"]
