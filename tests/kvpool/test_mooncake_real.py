"""A real Mooncake master with real clients: values, leases, and a drain that really hangs."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aibrixctl.app import run
from kvpool.drain.job import cancel_drain, follow_drain, start_drain
from kvpool.drain.plan import mooncake as draining
from kvpool.drain.plan import plan_drain
from kvpool.entry import Value
from kvpool.errors import InUseError, PoolUnreachableError
from kvpool.mooncake import MooncakePool
from kvpool.pool import open_pool
from tests.kvpool.mooncake_servers import SEGMENTS, Master, mooncake, requires_mooncake, until
from tests.kvpool.pools import FIXTURES, MANIFEST, entries

pytestmark = [pytest.mark.real, requires_mooncake]
NEVER = threading.Event()
SOURCE, TARGET = SEGMENTS


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Master]:
    with mooncake(tmp_path) as master:
        yield master


@pytest.fixture
def pool(server: Master) -> Iterator[MooncakePool]:
    with open_pool(server.url) as opened:
        yield draining(opened)


@pytest.fixture
def store(server: Master) -> Iterator[Any]:
    from mooncake.store import MooncakeDistributedStore

    client = MooncakeDistributedStore()
    rpc = f"127.0.0.1:{server.rpc}"
    assert client.setup("127.0.0.1", "P2PHANDSHAKE", 0, 16 << 20, "tcp", "", rpc) == 0
    yield client
    client.close()


def _config(**settings: Any) -> Any:
    from mooncake.store import ReplicateConfig

    config = ReplicateConfig()
    for name, value in settings.items():
        setattr(config, name, value)
    return config


def test_values_are_written_replaced_read_and_removed(pool: MooncakePool, store: Any) -> None:
    pool.write("demo/m@1@0@00ff@half", Value(b"", b"one" * 1000))
    assert store.get("demo/m@1@0@00ff@half") == b"one" * 1000
    pool.write("demo/m@1@0@00ff@half", Value(b"", b"other" * 500))
    assert pool.read("demo/m@1@0@00ff@half") == Value(b"", b"other" * 500)
    assert pool.read("nosuch") is None
    assert pool.delete(["demo/m@1@0@00ff@half", "nosuch"]) == 1
    assert entries(pool) == {}


def test_the_header_of_lmcache_is_split_off_and_put_back(pool: MooncakePool) -> None:
    written = MANIFEST["parts"]["lmcache-redis"][0]
    with open_pool(f"lmcache+file:{FIXTURES / 'lmcache-file'}") as files:
        key = next(iter(entries(files)))
        value = files.read(key)
    assert value is not None
    assert len(value.header) == 28
    pool.write(written["key"], value)
    assert pool.read(written["key"]) == value


@pytest.mark.parametrize("key", ["a b", "é", "a%b", "a&b=c", "a+b", "a#b", "a?b", 'a"b', "a\\b"])
def test_keys_of_any_characters_are_found(key: str, pool: MooncakePool, store: Any) -> None:
    assert store.put(key, b"x" * 10) == 0
    found = entries(pool)
    assert (found[key].state, found[key].bytes) == ("whole", 10)


def test_looking_leaves_no_lease(pool: MooncakePool, store: Any) -> None:
    assert store.put("k", b"x") == 0
    assert pool.stat("k") is not None
    assert store.remove("k") == 0


def test_a_lease_is_waited_for(pool: MooncakePool, store: Any) -> None:
    assert store.put("k", b"x") == 0
    assert store.get("k") == b"x"
    assert store.remove("k") == -706
    assert pool.delete(["k"]) == 1


def test_what_readers_go_on_using_stays_and_is_named(
    pool: MooncakePool, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvpool.mooncake.LEASE_S", 1.5)
    for key in ("hot", "cold"):
        assert store.put(key, b"x") == 0
    over = threading.Event()

    def read() -> None:
        while not over.wait(0.1):
            store.get("hot")

    store.get("hot")
    reader = threading.Thread(target=read)
    reader.start()
    try:
        with pytest.raises(InUseError) as caught:
            pool.delete(["hot", "cold"])
    finally:
        over.set()
        reader.join()
    assert (caught.value.keys, caught.value.removed) == (("hot",), 1)
    assert list(entries(pool)) == ["hot"]


def test_a_drain_moves_everything(pool: MooncakePool, store: Any) -> None:
    values = {f"k/{n}": bytes([n]) * (1000 + n) for n in range(40)}
    for key, value in values.items():
        assert store.put(key, value, _config(preferred_segment=SOURCE)) == 0
    plan = plan_drain(pool, [SOURCE])
    assert plan.objects == 40
    job = start_drain(pool.master, plan, 64)
    done = follow_drain(pool, job.id, stop=NEVER)
    assert (done.end, done.job.moved, done.job.moved_bytes) == ("succeeded", 40, plan.bytes)
    assert {entry.node for entry in entries(pool).values()} == {TARGET}
    assert {key: store.get(key) for key in values} == values


def test_a_drain_hangs_on_copies_and_pins_and_can_be_canceled(
    pool: MooncakePool, store: Any
) -> None:
    assert store.put("free", b"f" * 100, _config(preferred_segment=SOURCE)) == 0
    assert store.put("copied", b"c" * 100, _config(replica_num=2)) == 0
    pinned = _config(preferred_segment=SOURCE, with_hard_pin=True)
    assert store.put("pinned", b"p" * 100, pinned) == 0
    plan = plan_drain(pool, [SOURCE])
    assert plan.examples == ("copied",)
    job = start_drain(pool.master, plan, 64)
    done = follow_drain(pool, job.id, stall_after_s=4, stop=NEVER)
    assert (done.end, done.job.moved, done.job.active) == ("stalled", 1, 0)
    assert {one.key: one.why for one in done.blockers.examples} == {
        "copied": "copied",
        "pinned": "held",
    }
    assert cancel_drain(pool.master, job.id, stop=NEVER).status == "CANCELED"
    assert {segment.status for segment in pool.master.segments()} == {"OK"}
    assert store.get("pinned") == b"p" * 100


def test_a_value_larger_than_the_client_s_buffer_is_read_and_written(tmp_path: Path) -> None:
    value = Value(b"", bytes(range(256)) * (300 << 10))
    with mooncake(tmp_path, lease="1m", size=256 << 20) as master, open_pool(master.url) as pool:
        pool.write("small", Value(b"", b"x"))
        pool.write("large", value)
        assert pool.read("large") == value
        assert pool.read("small") == Value(b"", b"x")
    with mooncake(tmp_path, lease="1m", size=256 << 20) as master, open_pool(master.url) as pool:
        pool.write("large", value)
        with open_pool(master.url) as other:
            assert other.read("large") == value


def test_a_master_that_dies_while_values_move_is_unreachable(
    pool: MooncakePool, server: Master, capfd: pytest.CaptureFixture[str]
) -> None:
    pool.write("k", Value(b"", b"x"))
    assert server.process is not None
    server.process.kill()
    server.process.wait()
    for attempt in (
        lambda: pool.read("k"),
        lambda: pool.delete(["k"]),
        lambda: pool.write("k", Value(b"", b"y")),
    ):
        with pytest.raises(PoolUnreachableError, match="no longer answers"):
            attempt()
    assert "RPC" not in capfd.readouterr().err


def test_a_master_that_dies_is_unreachable(tmp_path: Path) -> None:
    with mooncake(tmp_path, SEGMENTS[:1]) as master:
        pool = open_pool(master.url)
        pool.describe()
    with pool, pytest.raises(PoolUnreachableError):
        pool.describe()


def test_commands_work_on_it(server: Master, store: Any, capfd: pytest.CaptureFixture[str]) -> None:
    assert store.put("demo/m@1@0@00ff@half", b"x" * 5000) == 0
    until(lambda: b"demo/m" in server.get("/get_all_keys"))

    def output(*words: str) -> str:
        assert run(["kv", words[0], server.url, *words[1:]]) == 0
        return capfd.readouterr().out

    assert "1 entries, 4.883 KiB" in output("stats")
    assert "sha256" in output("show", "00ff")
    assert "removed 1 of 1" in output("evict", "--model", "demo/*")
