"""`kv evict` on a directory and on a Redis."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.kvpool.pools import MANIFEST, load_redis
from tests.redis_server import redis_server, requires_redis

POOL = "lmcache+file:pool"


@pytest.fixture(autouse=True)
def _pool(tmp_path: Path, cli: Callable[..., Any]) -> None:
    assert cli("kv", "demo-pool", "pool", "--hazards").code == 0


def test_a_dry_run_names_what_a_run_then_removes(
    cli: Callable[..., Any], cli_json: Callable[..., Any]
) -> None:
    words = ("kv", "evict", POOL, "--older-than", "12h", "--model", "demo/c*")
    planned = cli_json(*words, "--dry-run")["data"]
    assert 0 < planned["planned"] < planned["scanned"] == 241
    assert planned["removed"] == 0
    assert len(list(Path("pool").iterdir())) == 245
    assert f"would remove {planned['planned']} of 241 entries" in cli(*words, "-n").out
    done = cli_json(*words)["data"]
    assert (done["removed"], done["removed_bytes"]) == (
        planned["planned"],
        planned["planned_bytes"],
    )
    assert len(list(Path("pool").iterdir())) == 245 - done["removed"]
    assert cli_json(*words)["data"]["planned"] == 0


def test_to_size_keeps_the_newest(cli_json: Callable[..., Any]) -> None:
    data = cli_json("kv", "evict", POOL, "--to-size", "400KiB")["data"]
    rest = data["scanned_bytes"] - data["removed_bytes"]
    assert 395 << 10 < rest <= 400 << 10
    everything = cli_json("kv", "stats", POOL)["data"]["states"]
    assert everything["whole"]["bytes"] == rest
    assert (everything["orphan"]["entries"], everything["foreign"]["entries"]) == (1, 1)


def test_everything_is_not_removed_by_default(cli: Callable[..., Any]) -> None:
    outcome = cli("kv", "evict", POOL)
    assert outcome.code == 2
    assert "nothing says what to remove" in outcome.err


@requires_redis
def test_both_halves_go_and_what_is_used_last_stays(
    tmp_path: Path, cli_json: Callable[..., Any]
) -> None:
    with redis_server(tmp_path) as server, load_redis(server.port) as client:
        client.set("session:1", "x")
        old = MANIFEST["parts"]["lmcache-redis"][:2]
        for item in old:
            for half in ("kv_bytes", "metadata"):
                dump = client.dump(item["key"] + half)
                assert isinstance(dump, bytes)
                client.restore(item["key"] + half, 0, dump, replace=True, idletime=7200)
        url = f"lmcache+redis://127.0.0.1:{server.port}"
        data = cli_json("kv", "evict", url, "--older-than", "1h")["data"]
        assert (data["planned"], data["removed"]) == (2, 2)
        left = set(client.scan_iter())
        assert len(left) == 1 + 2 * 4
        assert not any(name.decode().startswith(old[0]["key"]) for name in left)


@requires_redis
def test_a_replica_refuses(tmp_path: Path, cli: Callable[..., Any]) -> None:
    with redis_server(tmp_path) as server:
        load_redis(server.port).close()
        with redis.Redis(port=server.port) as client:
            client.replicaof("127.0.0.1", 1)
        outcome = cli("kv", "evict", f"lmcache+redis://127.0.0.1:{server.port}", "--to-size", "0")
    assert outcome.code == 1
    assert "READONLY" in outcome.err
    assert "name the primary" in outcome.err


def test_what_cannot_be_listed_is_refused(cli: Callable[..., Any]) -> None:
    outcome = cli("kv", "evict", "lm://127.0.0.1:1", "--to-size", "1GiB")
    assert outcome.code == 13
