"""A Mooncake store, through answers that a real master gave."""

import socket

import pytest

from kvpool.errors import KvPoolError, PoolUnreachableError, UnsupportedError
from kvpool.mooncake_client import is_installed
from kvpool.mooncake_http import Master, Replicas
from kvpool.mooncake_keys import identify
from kvpool.pool import open_pool, require
from kvpool.stats import collect
from kvpool.url import parse_pool_url
from tests.kvpool.mooncake_servers import SEGMENTS, replay, scenes
from tests.kvpool.pools import entries


def test_objects_are_found_with_their_writers_and_places() -> None:
    with replay("hanging") as master, open_pool(master.url) as pool:
        found = entries(pool)
        assert len(found) == len(scenes()["hanging"]["before"]["keys"]) == 14
        assert {entry.state for entry in found.values()} == {"whole"}
        first = found["demo/chat@2@0@0000000000000000@bfloat16"]
        assert (first.model, first.world_size, first.worker_id) == ("demo/chat", 2, 0)
        assert (first.dtype, first.bytes, first.value_bytes) == ("bfloat16", 1024, 1024)
        assert first.node == SEGMENTS[0]
        copied = found["copied"]
        assert (copied.bytes, copied.value_bytes) == (6000, 3000)
        assert copied.node is not None
        assert set(copied.node.split(", ")) == set(SEGMENTS)
        assert found["weights/part é&1"].bytes == 1024 + 11
        assert pool.stat("pinned") == found["pinned"]
        assert pool.stat("nosuch") is None


def test_looking_takes_no_lease_and_counts_as_no_lookup() -> None:
    with replay("sound") as master, open_pool(master.url) as pool:
        collect(pool)
        pool.stat("demo/chat@2@0@0000000000000000@bfloat16")
        asked = {path.partition("?")[0] for _, path in master.seen}
        assert {method for method, _ in master.seen} == {"GET"}
        assert asked == {
            "/health",
            "/metrics",
            "/get_segments_detail",
            "/get_all_keys",
            "/batch_query_keys",
        }


def test_segments_and_hits_are_told() -> None:
    with replay("sound") as master, open_pool(master.url) as pool:
        facts = pool.describe()
        assert [node.name for node in facts.nodes] == sorted(SEGMENTS)
        assert {node.status for node in facts.nodes} == {"OK"}
        assert (facts.hits, facts.misses, facts.hit_rate) == (1, 0, 1.0)
        assert facts.used_bytes == sum(node.used_bytes or 0 for node in facts.nodes) > 0
        assert facts.capacity_bytes == 2 * (64 << 20)
        assert facts.details["keys"] == 12


def test_memory_of_a_draining_segment_is_unknown_and_none_is_free() -> None:
    with replay("hanging") as server:
        master = Master(parse_pool_url(server.url), 5)
        for _ in scenes()["hanging"]["states"]:
            master.drain(scenes()["hanging"]["job"])
        draining, other = master.segments()
        assert (draining.status, draining.used_bytes, draining.free_bytes) == ("DRAINING", None, 0)
        assert 0 < other.free_bytes < 64 << 20
        master.close()


def test_a_key_that_cannot_be_asked_for_is_said_to_be_so() -> None:
    with replay("sound", keys=("a,b",)) as master, open_pool(master.url) as pool:
        assert pool.stat("c,d") is None
        entry = pool.stat("a,b")
        assert entry is not None
        assert (entry.state, entry.bytes) == ("undecodable", 0)
        assert "a comma" in entry.reason


def test_what_the_store_cannot_do_is_said() -> None:
    with replay("sound") as master, open_pool(master.url) as pool:
        for verb in ("expiry", "headers", "age"):
            with pytest.raises(UnsupportedError):
                require(pool, verb)
        if not is_installed():
            with pytest.raises(UnsupportedError, match="pip install"):
                require(pool, "read")
            with pytest.raises(KvPoolError, match="pip install"):
                pool.delete(["k"])


def test_values_need_the_rpc_which_is_looked_for_first() -> None:
    pytest.importorskip("mooncake")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with (
        replay("sound") as master,
        open_pool(f"{master.url}?rpc={port}") as pool,
        pytest.raises(PoolUnreachableError, match="RPC"),
    ):
        pool.read("k")


def test_another_server_or_none_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(PoolUnreachableError, match="timed out"):
            open_pool(f"mooncake://127.0.0.1:{port}", timeout_s=0.2)
    with pytest.raises(PoolUnreachableError, match="refused"):
        open_pool(f"mooncake://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("health", "message"),
    [
        ('{"status":"up"}', "no Mooncake master"),
        ("<html>", "no JSON"),
        (
            '{"role":"standby","ha_state":"standby","service_ready":false,'
            '"leader_address":"10.0.0.7:50051"}',
            "does not serve: it is standby",
        ),
    ],
)
def test_what_answers_is_looked_at(health: str, message: str) -> None:
    with (
        replay("sound", health=health) as master,
        pytest.raises(PoolUnreachableError, match=message),
    ):
        open_pool(master.url)


def test_a_master_that_goes_away_is_unreachable() -> None:
    with replay("sound") as master:
        pool = open_pool(master.url)
    with pool, pytest.raises(PoolUnreachableError):
        list(pool.scan())


def test_copies_on_disks_count() -> None:
    from kvpool.mooncake_http import _replicas

    answer = {"ok": True, "values": [], "disk_values": [{"file_path": "/x", "object_size": 9}]}
    assert _replicas(answer) == Replicas(9, (), 1)
    unready = {"ok": False, "error": "REPLICA_IS_NOT_READY", "values": None}
    assert _replicas(unready).error == "REPLICA_IS_NOT_READY"


@pytest.mark.parametrize(
    ("key", "namespace", "more"),
    [
        ("org/m@2@1@00ff@half@tenant%a", "LMCache", {"model": "org/m", "worker_id": 1}),
        ("m@pcp0@dcp0@head_or_tp_rank:3@pp_rank:0@ab", "vLLM", {"model": "m", "worker_id": 3}),
        (
            "m@dcp:3@head_or_tp_rank:1@pp_rank:0@group:0@cache_role:kv@cache_family:default@ab12",
            "vLLM",
            {"model": "m", "worker_id": 1, "chunk_hash": "ab12"},
        ),
        ("m@pcp0@dcp0@head_or_tp_rank:0@group:0@layer_id:7@ab", "vLLM", {"layers": (7, 7)}),
        ("ab" * 32 + "_0_1_v", "SGLang", {"chunk_hash": "ab" * 32}),
        ("weights/part-1", "others", {}),
    ],
)
def test_writers_are_told_by_their_keys(key: str, namespace: str, more: dict[str, object]) -> None:
    about = identify(key)
    assert about["namespace"] == namespace
    assert {name: about.get(name) for name in more} == more
