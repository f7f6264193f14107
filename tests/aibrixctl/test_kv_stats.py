"""`kv stats`: counts of every kind of pool, and what it says where it can't count."""

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.kvpool.pools import MODEL, copy, lm_server, load_redis
from tests.kvpool.test_placement import TWO
from tests.redis_server import Server, redis_server, requires_redis


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        load_redis(server.port).close()
        load_redis(server.port, "lmcache-redis-layerwise", 1).close()
        with redis.Redis(port=server.port, db=2) as client:
            client.set("kvcache_nodes", json.dumps(TWO))
        with redis.Redis(port=server.port, db=3) as client:
            client.set("m@1@0@ab@half" + "kv_bytes", b"x")
            client.set("session:1", b"x")
        yield server


@pytest.fixture
def pool(tmp_path: Path, cli: Callable[..., Any]) -> str:
    assert cli("kv", "demo-pool", "pool", "--hazards").code == 0
    return "lmcache+file:pool"


def test_a_directory_is_counted_by_model_tag_age_and_state(
    pool: str, cli_json: Callable[..., Any]
) -> None:
    data = cli_json("kv", "stats", pool)["data"]
    assert data["complete"]
    assert data["exact_bytes"]
    counts = {state: tally["entries"] for state, tally in data["states"].items()}
    assert counts == {"whole": 241, "orphan": 1, "foreign": 1, "undecodable": 2}
    sizes = [path.stat().st_size for path in Path("pool").iterdir()]
    assert sum(tally["bytes"] for tally in data["states"].values()) == sum(sizes)
    groups = {group["model"]: group for group in data["groups"]}
    assert groups["demo/chat-8b"]["entries"] == 144
    assert groups["demo/chat-8b"]["entries_per_worker"] == {"0": 72, "1": 72}
    assert groups["demo/code-3b"]["dtype"] == "float16"
    assert {tag["value"] for tag in data["tags"]} == {"acme", "globex"}
    for name in ("since_stored", "since_used", "until_expiry"):
        binned = sum(part["entries"] for part in data[name]["bins"])
        assert binned + data[name]["unknown_or_none"] == 241
    assert data["since_stored"]["unknown_or_none"] == 0


@requires_redis
def test_a_redis_is_counted_without_reading_headers_and_with(
    server: Server, cli_json: Callable[..., Any]
) -> None:
    url = f"lmcache+redis://127.0.0.1:{server.port}/0"
    exact = cli_json("kv", "stats", url, "--headers")["data"]
    assert exact["exact_bytes"]
    (group,) = exact["groups"]
    assert (group["model"], group["entries"], group["bytes"]) == (MODEL, 6, 2 * (2076 * 2 + 1052))
    assert (group["tokens"], group["layers"], group["chunk_tokens"]) == (40, 2, 16)
    quiet = cli_json("kv", "stats", url)["data"]
    assert quiet["states"]["whole"]["entries"] == 6
    if not quiet["exact_bytes"]:
        assert quiet["states"]["whole"]["bytes"] > group["bytes"]
    assert quiet["pool"]["medium"] == "memory"


@requires_redis
def test_a_server_is_only_asked_what_disturbs_nothing(
    server: Server, cli: Callable[..., Any]
) -> None:
    url = f"lmcache+redis://127.0.0.1:{server.port}/0"
    allowed = {"scan", "object|idletime", "memory|usage", "pexpiretime", "pttl", "dbsize"}
    allowed |= {"ping", "info", "select", "client|no-touch", "client", "config|resetstat"}
    with redis.Redis(port=server.port) as client:
        reads = {"strlen", "getrange"}
        for words, more in ((), reads if _is_quiet(client) else set()), (("--headers",), reads):
            client.config_resetstat()
            assert cli("kv", "stats", url, *words).code == 0
            asked = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}
            assert "scan" in asked
            assert asked <= allowed | more


def _is_quiet(client: "redis.Redis") -> bool:
    """Whether the server can be told that reads are no use: Redis 7.2 and later."""
    major, minor = str(client.info("server")["redis_version"]).split(".")[:2]
    return (int(major), int(minor)) >= (7, 2)


@requires_redis
def test_tokens_of_single_layers_are_counted_once(
    server: Server, cli_json: Callable[..., Any]
) -> None:
    url = f"lmcache+redis://127.0.0.1:{server.port}/1"
    data = cli_json("kv", "stats", url, "--headers")["data"]
    assert (data["states"]["whole"]["entries"], data["tokens"]) == (12, 40)
    assert data["groups"][0]["layers"] == 2


@requires_redis
def test_orphans_and_foreign_keys_are_said_but_no_fault(
    server: Server, cli: Callable[..., Any]
) -> None:
    outcome = cli("kv", "stats", f"lmcache+redis://127.0.0.1:{server.port}/3")
    assert outcome.code == 0
    assert "0 entries, 0 B; also 1 orphaned" in outcome.out
    assert "1 foreign" in outcome.out


@requires_redis
def test_slots_and_nodes_of_aibrix(
    server: Server, cli: Callable[..., Any], cli_json: Callable[..., Any]
) -> None:
    url = f"aibrix+redis://127.0.0.1:{server.port}/2"
    nodes = cli_json("kv", "stats", url)["data"]["pool"]["nodes"]
    assert [(node["name"], node["slots"]) for node in nodes] == [("kv-0", 2048), ("kv-1", 2047)]
    out = cli("kv", "stats", url).out
    assert "2048-4094, 4095-0" in out
    assert "4,095 of 4,096 slots have an owner" in out


@pytest.mark.parametrize("part", ["aibrix-shfs", "aibrix-shfs-tokens", "aibrix-rocksdb"])
def test_blocks_of_aibrix_are_counted_by_namespace(
    part: str, tmp_path: Path, cli_json: Callable[..., Any]
) -> None:
    scheme = "aibrix+rocksdb" if "rocksdb" in part else "aibrix+shfs"
    (group,) = cli_json("kv", "stats", f"{scheme}://{copy(part, tmp_path)}")["data"]["groups"]
    assert (group["entries"], group["tokens"], group["layers"]) == (4, 64, 2)
    assert group["namespace"].startswith("tiny_h0_1_l0_1_lcnd16")


def test_what_cannot_be_listed_says_so(cli: Callable[..., Any]) -> None:
    with lm_server() as port:
        outcome = cli("kv", "stats", f"lm://127.0.0.1:{port}")
    assert outcome.code == 2
    assert "does not answer its LIST command" in outcome.err


def test_one_rank_that_lacks_entries_is_named(pool: str, cli: Callable[..., Any]) -> None:
    next(Path("pool").glob("demo-SEP-chat-8b@2@1@*")).unlink()
    out = cli("kv", "stats", pool).out
    assert "demo/chat-8b: rank 1 has 71 entries, rank 0 72" in out


def test_the_table_fits_80_columns(pool: str, cli: Callable[..., Any]) -> None:
    lines = cli("kv", "stats", pool).out.splitlines()
    tables = [line for line in lines if not line.startswith(("241 entries", "lmcache+"))]
    assert all(len(line) <= 80 for line in tables)


@pytest.mark.parametrize("form", ["csv", "jsonl", "yaml", "wide"])
def test_every_format(form: str, pool: str, cli: Callable[..., Any]) -> None:
    outcome = cli("kv", "stats", pool, "-o", form)
    assert outcome.code == 0
    assert "demo/embed-1b" in outcome.out


@pytest.mark.parametrize(
    ("url", "code", "says"),
    [
        ("pool", 2, "lmcache+file:pool"),
        ("lmcache+file:absent", 2, "no such directory"),
        ("redis://h", 2, "did you mean lmcache+redis"),
        ("mooncak://h", 2, "did you mean mooncake?"),
        ("infinistore://h", 2, "RDMA"),
        ("lmcache+redis://127.0.0.1:1", 13, "no Redis answers"),
    ],
)
def test_bad_pools(url: str, code: int, says: str, cli: Callable[..., Any]) -> None:
    outcome = cli("kv", "stats", url)
    assert (outcome.code, outcome.out) == (code, "")
    assert says in outcome.err


@requires_redis
def test_a_wrong_password_is_refused_and_never_printed(
    tmp_path: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis_server(tmp_path, "correct-horse") as server:
        url = f"lmcache+redis://127.0.0.1:{server.port}"
        outcome = cli("kv", "stats", url)
        assert outcome.code == 13
        assert "--password-file" in outcome.err
        monkeypatch.setenv("AIBRIXCTL_REDIS_PASSWORD", "wrong-battery")
        outcome = cli("kv", "stats", url)
        assert outcome.code == 13
        assert "battery" not in outcome.err + outcome.out
        Path("secret").write_text("correct-horse\n")
        assert cli("kv", "stats", url, "--password-file", "secret").code == 0


def _relay(source: socket.socket, target: socket.socket) -> None:
    while data := source.recv(65536):
        target.sendall(data)


@requires_redis
def test_an_interrupt_prints_what_was_counted(server: Server) -> None:
    """The signal comes before the answer to the first SCAN, so it finds the scan at work."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"lmcache+redis://127.0.0.1:{listener.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-m", "aibrixctl", "kv", "stats", url, "-o", "json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        client, _ = listener.accept()
        with client, socket.create_connection(("127.0.0.1", server.port)) as redis_end:
            answers = threading.Thread(target=_relay, args=(redis_end, client))
            answers.start()
            while data := client.recv(65536):
                if b"SCAN" in data:
                    process.send_signal(signal.SIGINT)
                redis_end.sendall(data)
            redis_end.shutdown(socket.SHUT_RDWR)
            answers.join()
        out, _ = process.communicate(timeout=60)
    body = json.loads(out)
    assert (process.returncode, body["exit_code"], body["status"]) == (130, 130, "partial")
    assert not body["data"]["complete"]
