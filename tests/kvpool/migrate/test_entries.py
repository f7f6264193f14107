"""What a migration does with each kind of entry."""

import random
import struct
import threading
from pathlib import Path

import pytest

from accelerators.errors import ToolError
from kvpool.migrate.lane import same_bytes
from kvpool.migrate.report import Options
from kvpool.migrate.run import Migration
from tests.kvpool.migrations import (
    FULL,
    PAIRS,
    FilePool,
    RedisPool,
    Stored,
    ends_of,
    fill,
    header_of,
    key_of,
    migrate,
    soon_ms,
    stored,
)
from tests.redis_server import requires_redis

pytestmark = requires_redis


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("verify", ["full", "none"])
def test_values_of_every_size_arrive(
    pair: tuple[str, str], verify: str, server: RedisPool, tmp_path: Path, journal: Path
) -> None:
    ends = ends_of(pair, server, tmp_path)
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


def test_dry_run_changes_nothing(server: RedisPool, tmp_path: Path) -> None:
    expected = fill(server)
    server.put(key_of(1), stored(random.Random(1), 3000, soon_ms()))
    target = tmp_path / "not" / "there"
    options = Options(drop_expiry=True)
    with Migration(server.url, f"lmcache+file://{target}", options) as migration:
        plan = migration.plan(threading.Event()).plan
    assert (plan.entries, plan.expiring) == (6, 1)
    assert plan.bytes == sum(len(value.data) + len(value.header) for value in expected.values())
    assert not target.parent.exists()
    assert len(server.client.keys()) == 12


def test_same_bytes_compares_all_of_them() -> None:
    data = bytearray(random.Random(1).randbytes(1000))
    twin = bytearray(data)
    assert same_bytes(memoryview(data), memoryview(twin))
    assert same_bytes(memoryview(data)[:0], memoryview(twin)[:0])
    assert not same_bytes(memoryview(data), memoryview(twin)[1:])
    twin[999] ^= 1
    assert not same_bytes(memoryview(data), memoryview(twin))
    assert same_bytes(memoryview(data)[:999], memoryview(twin)[:999])
