"""LMCache's entries in a real Redis: all kinds are told apart, and the server is left as it was."""

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from kvpool import lmcache
from kvpool.entry import Value
from kvpool.errors import (
    KvPoolError,
    KvPoolUsageError,
    PoolUnreachableError,
    UnsupportedError,
)
from kvpool.pool import Depth, Pool, open_pool
from tests.kvpool.pools import MANIFEST, entries, keys, load_redis
from tests.redis_server import Server, redis_server, requires_redis

pytestmark = requires_redis
KEY = "acme/tiny-3b@1@0@abc@half"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator["redis.Redis"]:
    client = redis.Redis(port=server.port)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def pool(server: Server, client: "redis.Redis") -> Iterator[Pool]:
    with open_pool(f"lmcache+redis://127.0.0.1:{server.port}/0") as pool:
        yield pool


def test_every_entry_that_lmcache_wrote_is_found_whole(server: Server, pool: Pool) -> None:
    load_redis(server.port).close()
    found = entries(pool)
    assert sorted(found) == sorted(keys("lmcache-redis"))
    for written in MANIFEST["parts"]["lmcache-redis"]:
        entry = found[written["key"]]
        assert (entry.state, entry.model, entry.world_size) == ("whole", "acme/tiny-3b", 2)
        assert entry.value_bytes == written["value_bytes"]
        assert entry.bytes == entry.value_bytes + lmcache.ONE_GROUP_BYTES
        assert entry.tokens == written["tokens"][1] - written["tokens"][0]
        assert entry.layers == (0, 1)
        assert entry.expires_s is None
        alone = pool.stat(entry.key)
        assert alone is not None
        assert replace(alone, accessed_s=None) == replace(entry, accessed_s=None)


def test_layerwise_entries_and_tags(server: Server, pool: Pool) -> None:
    load_redis(server.port, "lmcache-redis-layerwise").close()
    found = entries(pool)
    assert sorted(found) == sorted(keys("lmcache-redis-layerwise"))
    assert {entry.layers for entry in found.values()} == {(0, 0), (1, 1)}
    assert {entry.tags for entry in found.values()} == {(("tenant", "a/b"), ("team", "search"))}


def test_orphans_foreign_and_damaged_keys_are_told_apart(client: "redis.Redis", pool: Pool) -> None:
    header = lmcache.pack_header(
        lmcache.Header(4, "KV_2LTD", (lmcache.TensorGroup("uint8", (2, 1, 2, 1)),))
    )
    client.set("a@1@0@1@half" + "kv_bytes", b"data")
    client.set("b@1@0@2@half" + "metadata", header)
    client.mset({"c@1@0@3@half" + "kv_bytes": b"data", "c@1@0@3@half" + "metadata": b"junk"})
    client.mset({"d@1@0@4@what" + "kv_bytes": b"data", "d@1@0@4@what" + "metadata": header})
    client.set("e@1@0@5@half", b"data")
    client.set("org/m@02010201@0@abcd", b"data")
    client.set("aibrix:profile_m_d", "{}")
    client.hset("kvmetadata", "a", "b")
    client.lpush("f@1@0@6@half" + "kv_bytes", "x")
    client.set("f@1@0@6@half" + "metadata", header)
    client.set(b"\xff\xfe", b"x")
    client.set("alice@example.com:metadata", b"x")
    found = {entry.key: (entry.state, entry.reason) for entry in entries(pool).values()}
    assert found == {
        "a@1@0@1@half": ("orphan", "data without metadata"),
        "b@1@0@2@half": ("orphan", "metadata without data"),
        "c@1@0@3@half": ("undecodable", "its 4 bytes of metadata are no header of LMCache"),
        "d@1@0@4@what": ("undecodable", "its key is none of LMCache 0.5"),
        "e@1@0@5@half": (
            "foreign",
            "a value without header, as LMCache's resp:// connector stores it",
        ),
        "org/m@02010201@0@abcd": (
            "foreign",
            "an object of LMCache's multi-process server, which has keys and values of its own",
        ),
        "aibrix:profile_m_d": ("foreign", "not a key of LMCache"),
        "kvmetadata": ("foreign", "not a key of LMCache"),
        "alice@example.com:metadata": ("foreign", "not a key of LMCache"),
        "f@1@0@6@half": ("undecodable", "a half of it is no string"),
        "\udcff\udcfe": ("foreign", "not a key of LMCache"),
    }
    orphan = pool.stat("a@1@0@1@half")
    assert orphan is not None
    assert (orphan.has_data, orphan.has_header) == (True, False)


def test_a_quiet_scan_leaves_the_idle_times_as_they_are(
    server: Server, client: "redis.Redis", pool: Pool
) -> None:
    load_redis(server.port).close()
    names = list(client.scan_iter())
    for name in names:
        dump = client.dump(name)
        assert isinstance(dump, bytes)
        client.restore(name, 0, dump, replace=True, idletime=5000)
    found = entries(pool, "quiet")
    assert len(found) == 6
    now_s = time.time()
    for entry in found.values():
        assert entry.accessed_s == pytest.approx(now_s - 5000, abs=60)
        assert entry.bytes >= 1024
    assert all(client.object("idletime", name) >= 5000 for name in names)


def test_expiry_is_the_earlier_of_both_halves_and_survives_a_write(
    client: "redis.Redis", pool: Pool
) -> None:
    until_s = round(time.time()) + 1000.25
    header = lmcache.pack_header(
        lmcache.Header(8, "KV_2LTD", (lmcache.TensorGroup("float16", (2, 1, 2, 1)),))
    )
    pool.write(KEY, Value(header, b"12345678"), expires_s=until_s)
    entry = pool.stat(KEY)
    assert entry is not None
    assert entry.expires_s == pytest.approx(until_s, abs=0.002)
    assert pool.read(KEY) == Value(header, b"12345678")
    client.expireat(KEY + "kv_bytes", int(until_s) - 500)
    entry = pool.stat(KEY)
    assert entry is not None
    assert entry.expires_s == pytest.approx(int(until_s) - 500, abs=0.002)
    pool.write(KEY, Value(header, b"abcdefgh"))
    entry = pool.stat(KEY)
    assert entry is not None
    assert entry.expires_s is None


def test_a_long_value_is_read_back(pool: Pool) -> None:
    value = Value(bytes(28), os.urandom(3 << 20) + b"\r\n$5\r\n")
    pool.write(KEY, value)
    assert pool.read(KEY) == value
    assert pool.read("absent@1@0@1@half") is None
    assert pool.stat("absent@1@0@1@half") is None


def test_delete_takes_both_halves_or_the_one_there_is(client: "redis.Redis", pool: Pool) -> None:
    pool.write(KEY, Value(bytes(28), b"x"))
    client.set("a@1@0@1@half" + "kv_bytes", b"data")
    client.set("other", b"1")
    assert pool.delete([KEY, "a@1@0@1@half", "other", "absent@1@0@1@half"]) == 2
    assert list(client.scan_iter()) == [b"other"]


def test_a_scan_sees_each_of_many_entries_once(client: "redis.Redis", pool: Pool) -> None:
    names = [f"m@1@0@{number:x}@half" for number in range(3000)]
    client.mset({name + half: b"x" for name in names for half in ("kv_bytes", "metadata")})
    assert sorted(entries(pool, "quiet", batch=100)) == sorted(names)


def test_the_server_describes_itself(client: "redis.Redis", pool: Pool) -> None:
    client.config_set("maxmemory", 64 << 20)
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        facts = pool.describe()
    finally:
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")
    assert facts.backend.startswith(("redis ", "valkey "))
    assert (facts.capacity_bytes, facts.eviction, facts.writable) == (64 << 20, "allkeys-lru", True)
    assert facts.used_bytes is not None
    assert facts.used_bytes > 0


def test_without_idle_times_an_age_is_unknown(client: "redis.Redis", server: Server) -> None:
    load_redis(server.port).close()
    client.config_set("maxmemory-policy", "allkeys-lfu")
    try:
        with open_pool(f"lmcache+redis://127.0.0.1:{server.port}") as pool:
            found = entries(pool, "quiet")
    finally:
        client.config_set("maxmemory-policy", "noeviction")
    assert {(entry.state, entry.accessed_s) for entry in found.values()} == {("whole", None)}


def test_a_node_of_a_cluster_is_refused(tmp_path: Path) -> None:
    with (
        redis_server(tmp_path, more=["cluster-enabled yes"]) as server,
        pytest.raises(UnsupportedError, match="may be on different nodes"),
    ):
        open_pool(f"lmcache+redis://127.0.0.1:{server.port}")


def test_an_error_that_is_not_about_a_key_ends_a_scan(
    client: "redis.Redis", server: Server
) -> None:
    """A server that refuses to say what a key is must not make it look orphaned."""
    load_redis(server.port).close()
    url = f"lmcache+redis://near@127.0.0.1:{server.port}"
    cases: tuple[tuple[Depth, str], ...] = (("quiet", "memory"), ("headers", "getrange"))
    for depth, refused in cases:
        client.acl_setuser(
            "near", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all", f"-{refused}"]
        )
        with (
            open_pool(url, password="pw") as pool,
            pytest.raises(PoolUnreachableError, match=refused),
        ):
            entries(pool, depth)


def test_wrong_and_missing_passwords_are_refused(tmp_path: Path) -> None:
    with redis_server(tmp_path, "correct-horse") as server:
        url = f"lmcache+redis://127.0.0.1:{server.port}"
        for password in (None, "wrong-battery"):
            with pytest.raises(PoolUnreachableError) as error:
                open_pool(url, password=password)
            assert error.value.code == "kv.redis.refused"
            assert "password" in error.value.hint
            assert "battery" not in error.value.message
        with open_pool(url, password="correct-horse") as pool:
            assert entries(pool) == {}


def test_a_password_that_nobody_asks_for_does_no_harm(server: Server) -> None:
    with open_pool(f"lmcache+redis://127.0.0.1:{server.port}", password="unused") as pool:
        assert pool.describe().writable


def test_a_user_without_rights_to_scan_is_refused(server: Server, client: "redis.Redis") -> None:
    client.acl_setuser(
        "ops", enabled=True, passwords=["+pw"], commands=["-@all", "+ping", "+info", "+select"]
    )
    url = f"lmcache+redis://ops@127.0.0.1:{server.port}"
    with open_pool(url, password="pw") as pool, pytest.raises(PoolUnreachableError, match="NOPERM"):
        entries(pool)


def test_nobody_there(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        url = f"lmcache+redis://127.0.0.1:{server.port}"
    with pytest.raises(PoolUnreachableError, match="no Redis answers"):
        open_pool(url)


def test_a_server_that_goes_away_during_a_scan(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        load_redis(server.port).close()
        pool = open_pool(f"lmcache+redis://127.0.0.1:{server.port}")
        scan = pool.scan(batch=1)
        next(scan)
    with pool, pytest.raises(PoolUnreachableError) as caught:
        list(scan)
    assert "whether the server still runs" in caught.value.hint


def test_a_replica_says_that_it_is_read_only(server: Server, tmp_path: Path) -> None:
    with redis_server(tmp_path) as replica:
        with redis.Redis(port=replica.port) as client:
            client.replicaof("127.0.0.1", server.port)
        with open_pool(f"lmcache+redis://127.0.0.1:{replica.port}") as pool:
            assert not pool.describe().writable
            with pytest.raises(KvPoolError) as error:
                pool.write(KEY, Value(bytes(28), b"x"))
    assert error.value.code == "kv.redis.readonly"
    assert "primary" in error.value.hint


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def test_tls_is_spoken_where_asked_for_and_named_where_missing(
    certificate: Path, tmp_path: Path
) -> None:
    with redis_server(tmp_path, tls=certificate) as server:
        url = f"lmcache+rediss://127.0.0.1:{server.port}"
        with open_pool(url, ca_file=str(certificate / "cert.pem")) as pool:
            pool.write(KEY, Value(bytes(28), b"x" * 100_000))
            assert pool.read(KEY) == Value(bytes(28), b"x" * 100_000)
        with open_pool(url, insecure=True) as pool:
            assert len(entries(pool, "quiet")) == 1
        with pytest.raises(PoolUnreachableError) as error:
            open_pool(url)
        assert error.value.code == "kv.redis.tls"
        with pytest.raises(PoolUnreachableError) as error:
            open_pool(url.replace("rediss", "redis"))
        assert "rediss" in error.value.hint
        with pytest.raises(KvPoolUsageError, match="no certificates"):
            open_pool(url, ca_file=str(certificate / "absent.pem"))
