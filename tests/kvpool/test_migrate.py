"""What a migration does with each kind of entry, and with everything that can get in its way."""

import random
import socket
import sqlite3
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from accelerators.errors import ToolError
from kvpool.errors import UnsupportedError
from kvpool.migrate.ends import Access
from kvpool.migrate.journal import Journal
from kvpool.migrate.lane import ConflictError, same_bytes
from kvpool.migrate.report import Options
from kvpool.migrate.run import Migration
from tests.kvpool.migrations import (
    AnyPool,
    FilePool,
    RedisPool,
    Stored,
    header_of,
    key_of,
    migrate,
    soon_ms,
    stored,
)
from tests.redis_server import redis_server, requires_redis

pytestmark = requires_redis
FULL = Options(verify="full")
PAIRS = [("redis", "redis"), ("redis", "file"), ("file", "redis"), ("file", "file")]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisPool]:
    folder = tmp_path / "first"
    folder.mkdir()
    with redis_server(folder) as found:
        yield RedisPool(found.port)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[RedisPool]:
    folder = tmp_path / "second"
    folder.mkdir()
    with redis_server(folder) as found:
        yield RedisPool(found.port)


@pytest.fixture
def directory(tmp_path: Path) -> FilePool:
    return FilePool(tmp_path / "pool")


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal"


def fill(pool: AnyPool, count: int = 6, size: int = 3000) -> dict[str, Stored]:
    source = random.Random(7)
    expected = {key_of(number): stored(source, size) for number in range(count)}
    for key, value in expected.items():
        pool.put(key, value)
    return expected


class Once:
    """Does something at the first occurrence of a step."""

    def __init__(self, step: str, action: Callable[[], object]):
        self._step, self._action = step, action
        self._lock = threading.Lock()
        self.done = False

    def __call__(self, step: str) -> None:
        with self._lock:
            if step != self._step or self.done:
                return
            self.done = True
        self._action()


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("verify", ["full", "none"])
def test_values_of_every_size_arrive(
    pair: tuple[str, str], verify: str, server: RedisPool, tmp_path: Path, journal: Path
) -> None:
    ends: list[AnyPool] = [
        RedisPool(server.client.get_connection_kwargs()["port"], number)
        if kind == "redis"
        else FilePool(tmp_path / f"pool{number}")
        for number, kind in enumerate(pair)
    ]
    source = random.Random(1)
    piece = 4 << 20
    sizes = (0, 2, 70_000, piece, piece + 2, 2 * piece + 4)
    expected = {key_of(size): stored(source, size) for size in sizes}
    for key, value in expected.items():
        ends[0].put(key, value)
    report = migrate(ends[0].url, ends[1].url, journal, Options(verify=verify))  # type: ignore[arg-type]
    assert report.complete
    assert ends[1].entries() == expected
    assert report.fates == {"copied": len(sizes)}
    assert report.verified_entries == (len(sizes) if verify == "full" else 0)


def test_halves_keep_their_own_expiry(server: RedisPool, other: RedisPool, journal: Path) -> None:
    value = stored(random.Random(1), 100)
    ends = (soon_ms(60), soon_ms(90))
    server.put(key_of(1), Stored(value.data, value.header, ends))
    server.put(key_of(2), value)
    assert migrate(server.url, other.url, journal, FULL).complete
    assert other.entries()[key_of(1)].expires_ms == ends
    assert other.entries()[key_of(2)].expires_ms == (-1, -1)


def test_expiry_is_not_lost_silently(server: RedisPool, directory: FilePool, journal: Path) -> None:
    server.put(key_of(1), stored(random.Random(1), 100, soon_ms()))
    with pytest.raises(ToolError, match="1 of 1 entries will vanish at a set time"):
        migrate(server.url, directory.url, journal)
    assert directory.entries() == {}
    assert migrate(server.url, directory.url, journal, Options(drop_expiry=True)).complete
    assert set(directory.entries()) == {key_of(1)}


def test_what_is_no_entry_stays_and_is_counted(
    server: RedisPool, other: RedisPool, journal: Path
) -> None:
    expected = fill(server)
    server.put_foreign()
    report = migrate(server.url, other.url, journal)
    assert (report.plan.foreign, report.plan.orphans) == (1, 1)
    assert server.foreign_is_there()
    assert set(other.client.keys()) == {
        (key + half).encode() for key in expected for half in ("kv_bytes", "metadata")
    }


def test_only_the_chosen_models(server: RedisPool, other: RedisPool, journal: Path) -> None:
    fill(server)
    value = stored(random.Random(2), 50)
    server.put(key_of(1, "acme/code-3b"), value)
    report = migrate(server.url, other.url, journal, Options(models=("acme/code*",)))
    assert other.entries() == {key_of(1, "acme/code-3b"): value}
    assert report.plan.left_out == 6


@pytest.mark.parametrize("delete", [False, True])
def test_source_is_removed_only_when_asked(
    server: RedisPool, directory: FilePool, journal: Path, delete: bool
) -> None:
    expected = fill(server)
    report = migrate(
        server.url, directory.url, journal, Options(verify="full", delete_source=delete)
    )
    assert report.fates == {"moved" if delete else "copied": 6}
    assert server.entries() == ({} if delete else expected)
    assert directory.entries() == expected


def test_removal_needs_full_verification(server: RedisPool, directory: FilePool) -> None:
    with pytest.raises(ToolError, match="only after its copy was compared"):
        Migration(server.url, directory.url, Options(delete_source=True, verify="sample"))


SAME_LENGTH, OTHER_LENGTH = 3000, 2000


@pytest.mark.parametrize("size", [SAME_LENGTH, OTHER_LENGTH])
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_another_entry_under_the_same_key(
    pair: tuple[str, str], size: int, server: RedisPool, tmp_path: Path
) -> None:
    port = server.client.get_connection_kwargs()["port"]
    ends: list[AnyPool] = [
        RedisPool(port, number) if kind == "redis" else FilePool(tmp_path / f"pool{number}")
        for number, kind in enumerate(pair)
    ]
    expected = fill(ends[0], size=SAME_LENGTH)
    theirs = stored(random.Random(99), size)
    ends[1].put(key_of(3), theirs)
    ends[1].put(key_of(4), expected[key_of(4)])

    def run(policy: str) -> dict[str, int]:
        options = Options(on_conflict=policy, lanes=1)  # type: ignore[arg-type]
        report = migrate(ends[0].url, ends[1].url, tmp_path / policy, options)
        if report.error is not None:
            raise report.error
        return dict(report.fates)

    before = ends[1].entries()
    with pytest.raises(ConflictError, match=r"the target has (an)?other entr"):
        run("fail")
    assert ends[1].entries() == before
    assert run("skip") == {"copied": 4, "kept": 1, "same": 1}
    assert ends[1].entries() == expected | {key_of(3): theirs}
    assert run("overwrite") == {"copied": 1, "same": 5}
    assert ends[1].entries() == expected


@pytest.mark.parametrize("step", ["looked", "begun", "read", "committed", "verified", "left"])
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_entry_written_while_it_is_copied(
    pair: tuple[str, str], step: str, server: RedisPool, tmp_path: Path, journal: Path
) -> None:
    port = server.client.get_connection_kwargs()["port"]
    ends: list[AnyPool] = [
        RedisPool(port, number) if kind == "redis" else FilePool(tmp_path / f"pool{number}")
        for number, kind in enumerate(pair)
    ]
    expected = fill(ends[0])
    newer = stored(random.Random(5), 3000)
    fresh = stored(random.Random(6), 10)

    def write() -> None:
        ends[0].put(key_of(2), newer)
        ends[0].put(key_of(77), fresh)

    report = migrate(ends[0].url, ends[1].url, journal, FULL, at=Once(step, write))
    assert report.complete
    assert ends[1].entries() == expected | {key_of(2): newer, key_of(77): fresh}


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_entry_written_before_its_removal_is_kept(
    pair: tuple[str, str], server: RedisPool, tmp_path: Path, journal: Path
) -> None:
    port = server.client.get_connection_kwargs()["port"]
    ends: list[AnyPool] = [
        RedisPool(port, number) if kind == "redis" else FilePool(tmp_path / f"pool{number}")
        for number, kind in enumerate(pair)
    ]
    expected = fill(ends[0])
    newer = stored(random.Random(5), 3000)
    options = Options(verify="full", delete_source=True)
    at = Once("verified", lambda: ends[0].put(key_of(2), newer))
    report = migrate(ends[0].url, ends[1].url, journal, options, at=at)
    assert report.complete
    assert ends[1].entries() == expected | {key_of(2): newer}
    assert ends[0].entries() == {}


@pytest.mark.parametrize("kind", ["redis", "file"])
def test_entry_that_a_writer_puts_into_the_target_meanwhile(
    kind: str, server: RedisPool, other: RedisPool, directory: FilePool, journal: Path
) -> None:
    target: AnyPool = other if kind == "redis" else directory
    expected = fill(server)
    theirs = stored(random.Random(5), 3000)
    at = Once("put", lambda: target.put(key_of(2), theirs))
    report = migrate(server.url, target.url, journal, Options(on_conflict="skip"), at=at)
    assert at.done
    assert report.fates == {"copied": 5, "kept": 1}
    assert target.entries() == expected | {key_of(2): theirs}


def test_entry_that_vanishes_first(server: RedisPool, other: RedisPool, journal: Path) -> None:
    expected = fill(server)
    at = Once("planned", lambda: server.remove(key_of(2)))
    report = migrate(server.url, other.url, journal, at=at)
    assert report.fates == {"copied": 5, "gone": 1}
    del expected[key_of(2)]
    assert other.entries() == expected


def test_two_migrations_at_once(
    server: RedisPool, other: RedisPool, directory: FilePool, journal: Path, tmp_path: Path
) -> None:
    fill(server)
    refused = []

    def second() -> None:
        for source, target, path in (
            (server, other, tmp_path / "another"),
            (server, directory, tmp_path / "another"),
            (other, server, tmp_path / "another"),
            (server, other, journal),
        ):
            with pytest.raises(ToolError, match="another migration is") as caught:
                migrate(source.url, target.url, path, resume=path == journal)
            refused.append(caught.value.code)

    assert migrate(server.url, other.url, journal, at=Once("planned", second)).complete
    assert refused == ["kv.migrate.busy"] * 3 + ["kv.journal.busy"]


def test_directory_in_use(directory: FilePool, tmp_path: Path, journal: Path) -> None:
    fill(directory)
    target = FilePool(tmp_path / "target")

    def second() -> None:
        with pytest.raises(ToolError, match="another migration is using"):
            migrate(directory.url, target.url, tmp_path / "another")

    at = Once("planned", second)
    assert migrate(directory.url, target.url, journal, at=at).complete
    assert at.done


def test_lock_of_a_process_that_is_gone(server: RedisPool, other: RedisPool, journal: Path) -> None:
    """Of this machine: taken over. Of another machine: it ends by itself, and says when."""
    fill(server)
    taken: list[bytes] = []
    at = Once("planned", lambda: taken.append(other.client.get("aibrixctl:migration-lock") or b""))
    migrate(server.url, other.url, journal, at=at)
    owner = taken[0].replace(b'"token": "', b'"token": "0')
    other.client.set("aibrixctl:migration-lock", owner, px=20_000)
    assert migrate(server.url, other.url, journal.with_name("second")).complete
    elsewhere = owner.replace(b'"host": "', b'"host": "elsewhere-')
    other.client.set("aibrixctl:migration-lock", elsewhere, px=20_000)
    with pytest.raises(ToolError) as caught:
        migrate(server.url, other.url, journal.with_name("third"))
    assert "elsewhere-" in caught.value.message
    assert "would end within" in caught.value.hint
    other.client.set("aibrixctl:migration-lock", "not of ours", px=20_000)
    with pytest.raises(ToolError, match="somebody unknown"):
        migrate(server.url, other.url, journal.with_name("third"))


def test_target_that_is_too_small(server: RedisPool, other: RedisPool, journal: Path) -> None:
    fill(server, size=300_000)
    used = int(other.client.info("memory")["used_memory"])
    other.client.config_set("maxmemory", used + 1_000_000)
    with pytest.raises(ToolError, match=r"has room for [\d.]+ \w*B more") as caught:
        migrate(server.url, other.url, journal)
    assert caught.value.code == "kv.target.too_small"
    assert other.entries() == {}


def test_target_that_fills_up_meanwhile(server: RedisPool, other: RedisPool, journal: Path) -> None:
    expected = fill(server, count=12, size=300_000)

    def shrink() -> None:
        used = int(other.client.info("memory")["used_memory"])
        other.client.config_set("maxmemory", used + 600_000)

    options = Options(batch_entries=1, lanes=1)
    report = migrate(server.url, other.url, journal, options, at=Once("settled", shrink))
    assert report.error is not None
    assert "maxmemory" in report.error.message + report.error.hint
    assert 0 < report.fates["copied"] < 12
    other.entries()
    other.client.config_set("maxmemory", 0)
    assert migrate(server.url, other.url, journal, options, resume=True).complete
    assert other.entries() == expected


def test_target_that_evicts(
    server: RedisPool, other: RedisPool, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a slow machine the look at the room that is left would end it before anything is evicted.
    monkeypatch.setattr("kvpool.migrate.work._ROOM_EVERY_S", 3600.0)
    fill(server, count=40, size=300_000)

    def shrink() -> None:
        used = int(other.client.info("memory")["used_memory"])
        # Room for what is under way too: with less, the server refuses rather than evicts.
        other.client.config_set("maxmemory", used + 6_000_000)
        other.client.config_set("maxmemory-policy", "allkeys-lru")

    options = Options(batch_entries=1)
    report = migrate(server.url, other.url, journal, options, at=Once("planned", shrink))
    assert report.error is not None
    assert report.error.code == "kv.target.evicts"
    assert not report.complete


def shut_down(pool: RedisPool) -> None:
    """End a server; the client would try for seconds to reach it again."""
    address = ("127.0.0.1", pool.client.get_connection_kwargs()["port"])
    with socket.create_connection(address) as connection:
        connection.sendall(b"SHUTDOWN NOSAVE\r\n")
        assert connection.recv(1) == b""


@pytest.mark.parametrize("which", ["source", "target"])
def test_server_that_goes_away(
    which: str, server: RedisPool, other: RedisPool, directory: FilePool, journal: Path
) -> None:
    expected = fill(server, count=12)
    doomed = server if which == "source" else other
    at = Once("settled", lambda: shut_down(doomed))
    options = Options(batch_entries=2, lanes=1)
    report = migrate(server.url, other.url, journal, options, at=at)
    assert report.error is not None
    assert report.error.kind == "unreachable"
    assert report.fates == {"copied": 2, "pending": 10} or report.open_entries > 0
    with Journal(journal, _config(server, other), resume=True) as kept:
        assert kept.resumed
    assert len(expected) == 12


def test_connection_that_drops(server: RedisPool, other: RedisPool, journal: Path) -> None:
    expected = fill(server, count=12)

    def drop() -> None:
        other.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    options = Options(batch_entries=2, lanes=1, verify="full")
    report = migrate(server.url, other.url, journal, options, at=Once("put", drop))
    assert report.error is not None
    other.entries()
    assert migrate(server.url, other.url, journal, options, resume=True).complete
    assert other.entries() == expected


def test_read_only_replica(server: RedisPool, other: RedisPool, journal: Path) -> None:
    expected = fill(server)
    port = server.client.get_connection_kwargs()["port"]
    server.client.config_set("repl-diskless-sync-delay", 0)
    other.client.execute_command("REPLICAOF", "127.0.0.1", str(port))
    deadline = time.monotonic() + 20
    while other.client.info("replication")["master_link_status"] != "up":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with pytest.raises(ToolError, match="read-only replica; name the primary"):
        migrate(server.url.replace("/0", "/1"), other.url, journal)
    with pytest.raises(ToolError, match="read-only replica; name the primary"):
        Migration(other.url, server.url, Options(verify="full", delete_source=True))
    target = FilePool(journal.parent.parent / "from-replica")
    assert migrate(other.url, target.url, journal).complete
    assert target.entries() == expected


def test_server_that_tells_no_changes(server: RedisPool, other: RedisPool, journal: Path) -> None:
    expected = fill(server)
    server.client.acl_setuser(
        "ops", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-client"]
    )
    url = server.url.replace("//", "//ops@")
    with Migration(url, other.url, FULL, source_access=Access("any")) as migration:
        report = migration.run(journal, resume=False, stop=threading.Event())
    assert report.complete
    assert "does not tell which keys change" in report.warnings[0]
    assert other.entries() == expected


def test_same_pool(server: RedisPool, directory: FilePool) -> None:
    for url in (server.url, directory.url):
        with pytest.raises(ToolError, match="are the same pool"):
            Migration(url, url, Options())
    with pytest.raises(ToolError, match="are the same pool"):
        Migration(server.url, server.url.replace("127.0.0.1", "localhost"), Options())


def test_formats_that_do_not_map(server: RedisPool, tmp_path: Path) -> None:
    (tmp_path / "blocks").mkdir()
    with pytest.raises(ToolError) as caught:
        Migration(server.url, f"aibrix+shfs://{tmp_path}/blocks", Options())
    for reason in ("hash scheme", "shape", "dtype", "world size"):
        assert reason in caught.value.message
    with pytest.raises(ToolError, match="can't be moved in or out"):
        Migration(server.url, "mooncake://127.0.0.1:9003", Options())


def test_keys_that_no_file_can_have(server: RedisPool, directory: FilePool, journal: Path) -> None:
    expected = fill(server, count=2)
    long = key_of(1, "m" * 250)
    ambiguous = key_of(1, "a-SEP-b")
    value = stored(random.Random(3), 40)
    for key in (long, ambiguous):
        server.put(key, value)
    server.put(key_of(50), Stored(value.data, header_of(44)))
    report = migrate(server.url, directory.url, journal)
    assert not report.complete
    assert report.fates == {"copied": 2, "unfit": 3}
    assert directory.entries() == expected
    reasons = {key: why for fate, key, why in report.examples if fate == "unfit"}
    assert "at most 255 bytes" in reasons[long]
    assert "can't be told again" in reasons[ambiguous]
    assert "says 44 bytes, the value has 40" in reasons[key_of(50)]


def _config(source: AnyPool, target: AnyPool) -> dict[str, object]:
    return {"source": source.url, "target": target.url, "models": [], "drop_expiry": False}


def test_stop_finishes_the_batch_and_resume_goes_on(
    server: RedisPool, other: RedisPool, journal: Path
) -> None:
    expected = fill(server, count=12)
    stop = threading.Event()
    options = Options(batch_entries=2, lanes=1)
    report = migrate(server.url, other.url, journal, options, at=Once("read", stop.set), stop=stop)
    assert report.stopped
    assert report.fates == {"copied": 2, "pending": 10}
    assert len(other.entries()) == 2
    with pytest.raises(ToolError, match="cut short") as caught:
        migrate(server.url, other.url, journal)
    assert "--resume" in caught.value.hint
    again = migrate(server.url, other.url, journal, resume=True)
    assert again.complete
    assert again.written_entries == 10
    assert other.entries() == expected


def test_resume_under_another_configuration(
    server: RedisPool, other: RedisPool, directory: FilePool, journal: Path
) -> None:
    fill(server)
    stop = threading.Event()
    migrate(server.url, other.url, journal, at=Once("read", stop.set), stop=stop)
    with pytest.raises(ToolError, match="is of another migration: target"):
        migrate(server.url, directory.url, journal, resume=True)
    with pytest.raises(ToolError, match="nothing to resume"):
        migrate(server.url, other.url, journal.with_name("none"), resume=True)


@pytest.mark.parametrize("damage", ["text", "cut", "page", "version"])
def test_corrupt_journal(damage: str, server: RedisPool, other: RedisPool, journal: Path) -> None:
    expected = fill(server, count=300, size=4)
    stop = threading.Event()
    options = Options(batch_entries=8)
    migrate(server.url, other.url, journal, options, at=Once("settled", stop.set), stop=stop)
    match damage:
        case "text":
            journal.write_text("not a journal\n" * 100)
        case "cut":
            journal.write_bytes(journal.read_bytes()[:-5000])
        case "page":
            data = bytearray(journal.read_bytes())
            data[4096 * 2 : 4096 * 3] = random.Random(1).randbytes(4096)
            journal.write_bytes(data)
        case "version":
            with sqlite3.connect(journal) as database:
                database.execute("UPDATE about SET value = '99' WHERE name = 'version'")
            database.close()
    with pytest.raises(ToolError) as caught:
        migrate(server.url, other.url, journal, resume=True)
    assert caught.value.code == "kv.journal.damaged"
    assert "another --journal" in caught.value.hint
    report = migrate(server.url, other.url, journal.with_name("fresh"))
    assert report.complete
    assert report.fates["same"] >= 8
    assert other.entries() == expected


def test_finished_journal_is_begun_anew(server: RedisPool, other: RedisPool, journal: Path) -> None:
    fill(server)
    migrate(server.url, other.url, journal)
    server.put(key_of(70), stored(random.Random(3), 40))
    report = migrate(server.url, other.url, journal)
    assert report.fates == {"copied": 1, "same": 6}


def test_dry_run_changes_nothing(server: RedisPool, tmp_path: Path) -> None:
    expected = fill(server)
    server.put(key_of(1), stored(random.Random(1), 3000, soon_ms()))
    target = tmp_path / "not" / "there"
    options = Options(drop_expiry=True)
    with Migration(server.url, f"lmcache+file://{target}", options, create=False) as migration:
        plan = migration.plan(threading.Event()).plan
    assert (plan.entries, plan.expiring) == (6, 1)
    assert plan.bytes == sum(len(value.data) + len(value.header) for value in expected.values())
    assert not target.parent.exists()
    assert len(server.client.keys()) == 12


def test_rate_is_kept(server: RedisPool, other: RedisPool, journal: Path) -> None:
    fill(server, count=40, size=50_000)
    rate = 1_500_000
    start_s = time.monotonic()
    report = migrate(server.url, other.url, journal, Options(bytes_per_s=rate))
    assert report.complete
    took_s = time.monotonic() - start_s
    assert report.written_bytes / report.elapsed_s < 1.05 * rate
    assert report.written_bytes / took_s > 0.6 * rate


def test_a_dead_copy_is_tidied_up(directory: FilePool, server: RedisPool, journal: Path) -> None:
    """A file that was about to be removed when its process died gets its name back."""
    expected = fill(directory)
    victim = next(directory.root.glob("*.data"))
    victim.rename(victim.with_name(victim.name + ".aibrixctl-leaving"))
    (directory.root / ".aibrixctl-0123").write_text("half")
    assert migrate(directory.url, server.url, journal).complete
    assert server.entries() == expected
    assert directory.entries() == expected
    assert not list(directory.root.glob(".aibrixctl-*"))


def test_same_bytes_compares_all_of_them() -> None:
    data = bytearray(random.Random(1).randbytes(1000))
    twin = bytearray(data)
    assert same_bytes(memoryview(data), memoryview(twin))
    assert same_bytes(memoryview(data)[:0], memoryview(twin)[:0])
    assert not same_bytes(memoryview(data), memoryview(twin)[1:])
    twin[999] ^= 1
    assert not same_bytes(memoryview(data), memoryview(twin))
    assert same_bytes(memoryview(data)[:999], memoryview(twin)[:999])


@pytest.mark.parametrize("delete", [False, True])
def test_writers_at_work_all_along(
    delete: bool, server: RedisPool, other: RedisPool, journal: Path
) -> None:
    """Whatever they wrote before the last look is in the target, and what they wrote last."""
    expected = fill(server, count=300, size=5000)
    numbers = random.Random(11)
    wrote = threading.Event()

    def write() -> None:
        for _ in range(150):
            key, value = key_of(numbers.randrange(400)), stored(numbers, 2000)
            server.put(key, value)
            expected[key] = value
        wrote.set()

    writer = threading.Thread(target=write)

    def at(step: str) -> None:
        if step == "planned":
            writer.start()
        if step == "settled":
            # Not a wait for a state: it only keeps the migration from ending first.
            wrote.wait(20)

    options = Options(verify="full", delete_source=delete, batch_entries=8)
    assert migrate(server.url, other.url, journal, options, at=at).complete
    writer.join()
    assert other.entries() == expected
    assert server.entries() == ({} if delete else expected)


def test_a_dtype_that_is_written_in_another_way_is_no_conflict(
    server: RedisPool, tmp_path: Path
) -> None:
    # LMCache has two numbers for float16, and a header of either is copied as it is.
    header = struct.pack("=7i", 16, 1, 1, 2, 1, 4, 1)
    there = FilePool(tmp_path / "there")
    server.put(key_of(1), Stored(bytes(range(16)), header))
    assert migrate(server.url, there.url, tmp_path / "once").fates == {"copied": 1}
    assert migrate(server.url, there.url, tmp_path / "again").fates == {"same": 1}
    assert there.entries()[key_of(1)].header == header


def test_rocksdb_is_refused_with_what_helps_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="every block would be young again") as caught:
        Migration(f"aibrix+rocksdb:{tmp_path}", f"aibrix+shfs:{tmp_path}/new", Options())
    assert "copy the directory as it is" in caught.value.hint
    assert not (tmp_path / "new").exists()
