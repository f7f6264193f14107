"""AIBrix's placement metadata in a real Redis."""

import json
from collections.abc import Iterator

import pytest
import redis

from kvpool.errors import KvPoolError, UnsupportedError
from kvpool.placement import parse_placement
from kvpool.pool import open_pool, require
from tests.redis_server import Server, redis_server, requires_redis

pytestmark = requires_redis
TWO = {
    "nodes": [
        {"name": "kv-0", "addr": "10.0.0.1", "port": 12345, "slots": [{"start": 0, "end": 2047}]},
        {
            "name": "kv-1",
            "addr": "10.0.0.2",
            "port": 12345,
            "slots": [{"start": 2048, "end": 4094}, {"start": 4095, "end": 0}],
        },
    ],
    "version": 7,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator["redis.Redis"]:
    with redis.Redis(port=server.port) as client:
        client.flushall()
        yield client


def test_nodes_and_slots_are_described_as_they_stand(server: Server, client: "redis.Redis") -> None:
    client.set("kvcache_nodes", json.dumps(TWO))
    with open_pool(f"aibrix+redis://127.0.0.1:{server.port}/0") as pool:
        facts = pool.describe()
        with pytest.raises(UnsupportedError, match="placement metadata only"):
            require(pool, "scan")
        with pytest.raises(UnsupportedError):
            pool.scan()
    assert [node.name for node in facts.nodes] == ["kv-0", "kv-1"]
    assert facts.nodes[1].address == "10.0.0.2:12345"
    assert facts.nodes[1].slots == ((2048, 4094), (4095, 0))
    assert [node.slot_count for node in facts.nodes] == [2048, 2047]
    assert (facts.total_slots, facts.details["version"]) == (4096, 7)


def test_a_missing_key_names_the_one_that_is_there(server: Server, client: "redis.Redis") -> None:
    client.set("hpkv_cluster_metadata", json.dumps(TWO))
    with (
        open_pool(f"aibrix+redis://127.0.0.1:{server.port}/0") as pool,
        pytest.raises(KvPoolError) as error,
    ):
        pool.describe()
    assert error.value.code == "kv.placement.missing"
    assert "?key=hpkv_cluster_metadata" in error.value.hint
    client.lpush("kvcache_nodes", "x")
    with (
        open_pool(f"aibrix+redis://127.0.0.1:{server.port}/0") as pool,
        pytest.raises(KvPoolError, match="a list instead of a string"),
    ):
        pool.describe()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"nodes": 1}',
        b'{"nodes": [{}]}',
        b'{"nodes": ["a"]}',
        b"\xff",
        b'{"nodes": [{"addr": "a", "port": 1, "slots": [{"start": 1e999, "end": 2}]}]}',
        b"[" * 200_000,
    ],
)
def test_what_clients_cannot_read_is_an_error(text: bytes) -> None:
    with pytest.raises(KvPoolError) as error:
        parse_placement(text, "kvcache_nodes")
    assert error.value.code == "kv.placement.malformed"
