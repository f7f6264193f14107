"""Orphans are removed, and nothing that a writer may still be at work on."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
import redis

from kvpool import directory
from kvpool.doctor.repair import remove_orphans
from kvpool.errors import UnsupportedError
from kvpool.lmcache_redis import LmcacheRedisPool
from kvpool.pool import open_pool
from kvpool.redis_wire import Connection, command
from kvpool.url import parse_pool_url
from tests.kvpool.pools import copy, keys, load_redis
from tests.redis_server import Server, redis_server, requires_redis

HOUR_S = 3600
MODEL = "org/model"
FIRST, SECOND, THIRD, *_ = keys("lmcache-redis")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator["redis.Redis"]:
    with redis.Redis(port=server.port) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.flushall()
        load_redis(server.port).close()
        yield client


def url_of(server: Server) -> str:
    return f"lmcache+redis://127.0.0.1:{server.port}"


def leave_alone(client: "redis.Redis", name: str, idle_s: int = HOUR_S) -> None:
    """Make a key as old as if nobody had touched it for a while."""
    dumped = client.dump(name)
    assert dumped is not None
    client.restore(name, 0, dumped, replace=True, idletime=idle_s)


@requires_redis
def test_what_only_bears_the_name_of_a_half_stays(server: Server, client: "redis.Redis") -> None:
    client.hset(f"{MODEL}@1@0@b1@halfkv_bytes", "field", "x")
    client.rpush(f"{MODEL}@1@0@b2@halfmetadata", "x")
    client.set("alice@example.com:metadata", "x")
    before = set(client.keys())
    with open_pool(url_of(server)) as pool:
        planned = remove_orphans(pool, 0, dry_run=True)
        done = remove_orphans(pool, 0)
    assert (planned.removed, planned.foreign) == (done.removed, done.foreign) == (0, 2)
    assert set(client.keys()) == before


@requires_redis
def test_reading_headers_leaves_the_age_of_a_lone_half(
    server: Server, client: "redis.Redis"
) -> None:
    client.delete(f"{FIRST}metadata")
    leave_alone(client, f"{FIRST}kv_bytes")
    with open_pool(url_of(server)) as pool:
        assert list(pool.scan(depth="headers"))
        assert remove_orphans(pool, 60).removed == 1


@requires_redis
def test_old_halves_go_and_whole_entries_stay(server: Server, client: "redis.Redis") -> None:
    client.delete(f"{FIRST}metadata", f"{SECOND}kv_bytes", f"{THIRD}metadata")
    leave_alone(client, f"{FIRST}kv_bytes")
    client.set("session:1", "x")
    with open_pool(url_of(server)) as pool:
        planned = remove_orphans(pool, 60, dry_run=True)
        before = set(client.keys())
        done = remove_orphans(pool, 60)
    assert sorted(planned.keys) == sorted(done.keys) == sorted([FIRST, SECOND])
    assert (planned.dry_run, planned.removed, planned.young) == (True, 2, 1)
    assert (done.removed, done.young, done.unknown_age, done.changed) == (2, 1, 0, 0)
    gone = {f"{FIRST}kv_bytes".encode(), f"{SECOND}metadata".encode()}
    assert before - set(client.keys()) == gone


@requires_redis
def test_an_age_that_the_server_does_not_keep_spares_the_data(
    server: Server, client: "redis.Redis"
) -> None:
    client.delete(f"{FIRST}metadata")
    client.config_set("maxmemory-policy", "allkeys-lfu")
    with open_pool(url_of(server)) as pool:
        done = remove_orphans(pool, 0)
    assert (done.removed, done.unknown_age) == (0, 1)
    assert client.exists(f"{FIRST}kv_bytes")


class _Interrupted(Connection):
    """Lets another client act between the look at an orphan and its removal."""

    def pipeline(self, commands, count):  # type: ignore[no-untyped-def]
        words = list(commands)
        if words[0] == command("MULTI"):
            with redis.Redis(port=self._url.port) as other:
                other.set(f"{FIRST}metadata", b"written meanwhile")
        return super().pipeline(words, count)


@requires_redis
def test_an_entry_that_is_completed_in_the_last_moment_stays(
    server: Server, client: "redis.Redis"
) -> None:
    client.delete(f"{FIRST}metadata")
    leave_alone(client, f"{FIRST}kv_bytes")
    url = parse_pool_url(url_of(server))
    with LmcacheRedisPool(url, _Interrupted(url)) as pool:
        assert pool.remove_orphan(FIRST, min_age_s=60) == "changed"
        assert pool.remove_orphan(FIRST, min_age_s=60) == "changed"
        assert pool.remove_orphan("absent@1@0@0@half", min_age_s=60) == "changed"
    assert client.exists(f"{FIRST}metadata", f"{FIRST}kv_bytes") == 2


def make_old(path: Path, age_s: float = HOUR_S) -> Path:
    then_s = time.time() - age_s
    os.utime(path, (then_s, then_s))
    return path


def test_old_temporary_files_go(tmp_path: Path) -> None:
    folder = copy("lmcache-file", tmp_path)
    before = {path.name for path in folder.iterdir()}
    (folder / "young.data.tmp").write_bytes(b"half")
    (folder / "old.data.tmp").write_bytes(b"half")
    (folder / f"{directory.OWN_PREFIX}x").write_bytes(b"half")
    (folder / "NOTES.txt").write_bytes(b"mine")
    for path in folder.iterdir():
        if path.name != "young.data.tmp":
            make_old(path)
    with open_pool(f"lmcache+file://{folder}") as pool:
        planned = remove_orphans(pool, 60, dry_run=True)
        assert planned.keys == ["old.data.tmp"]
        assert (folder / "old.data.tmp").exists()
        done = remove_orphans(pool, 60)
    # Our own are renamed while they are old, so only the last change of the inode counts.
    assert (done.removed, done.removed_bytes, done.young) == (1, 4, 2)
    own = f"{directory.OWN_PREFIX}x"
    assert {p.name for p in folder.iterdir()} == before | {"young.data.tmp", own, "NOTES.txt"}
    with open_pool(f"lmcache+file://{folder}") as pool:
        assert remove_orphans(pool, 0).removed == 2


def test_temporary_files_of_aibrix_go(tmp_path: Path) -> None:
    folder = copy("aibrix-shfs", tmp_path)
    block = next(path for path in sorted(folder.rglob("*")) if path.is_file())
    half = make_old(_copied(block, block.with_name(block.name + ".tmp")))
    with open_pool(f"aibrix+shfs://{folder}") as pool:
        assert remove_orphans(pool, 60).keys == [str(half.relative_to(folder))]
    assert block.exists()
    assert not half.exists()


def _copied(source: Path, target: Path) -> Path:
    target.write_bytes(source.read_bytes())
    return target


def test_a_file_that_a_writer_takes_up_again_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.tmp"
    path.write_bytes(b"half")
    make_old(path)
    rename = Path.rename

    def rename_late(self: Path, target: Path) -> Path:
        self.write_bytes(b"written by a writer who is back")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", rename_late)
    assert directory.remove_stale(path, 60) == "changed"
    assert [p.name for p in tmp_path.iterdir()] == ["x.tmp"]
    assert path.read_bytes() == b"written by a writer who is back"
    assert directory.remove_stale(tmp_path / "absent", 60) == "changed"


def test_repairing_stops_when_told(tmp_path: Path) -> None:
    stop = Event()
    stop.set()
    with open_pool(f"lmcache+file://{copy('lmcache-file', tmp_path)}") as pool:
        assert not remove_orphans(pool, 0, stop=stop).complete


def test_a_store_without_halves_has_nothing_to_repair(tmp_path: Path) -> None:
    with (
        open_pool(f"aibrix+rocksdb://{copy('aibrix-rocksdb', tmp_path)}") as pool,
        pytest.raises(UnsupportedError, match="in one piece"),
    ):
        remove_orphans(pool, 0)
