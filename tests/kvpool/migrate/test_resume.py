"""Migrations that were cut short, and the journals that they leave."""

import random
import sqlite3
import threading
from pathlib import Path

import pytest

from accelerators.errors import ToolError
from kvpool.migrate.report import Options
from tests.kvpool.migrations import (
    AnyPool,
    FilePool,
    Once,
    RedisPool,
    fill,
    key_of,
    migrate,
    stored,
)
from tests.redis_server import requires_redis

pytestmark = requires_redis


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


@pytest.mark.parametrize("kind", ["redis", "file"])
def test_what_the_target_lost_meanwhile_is_copied_again(
    kind: str, server: RedisPool, other: RedisPool, directory: FilePool, journal: Path
) -> None:
    """A server that was started anew has nothing of what the journal says it has."""
    target: AnyPool = other if kind == "redis" else directory
    expected = fill(server, count=12)
    stop = threading.Event()
    options = Options(batch_entries=4, lanes=1)
    first = migrate(
        server.url, target.url, journal, options, at=Once("settled", stop.set), stop=stop
    )
    assert first.fates == {"copied": 4, "pending": 8}
    lost, kept = sorted(target.entries())[:2], sorted(target.entries())[2:]
    for key in lost:
        target.remove(key)
    again = migrate(server.url, target.url, journal, resume=True)
    assert again.complete
    assert again.written_entries == len(expected) - len(kept)
    assert target.entries() == expected


def test_what_was_moved_and_lost_is_told(
    server: RedisPool, other: RedisPool, journal: Path
) -> None:
    fill(server, count=12)
    stop = threading.Event()
    options = Options(verify="full", delete_source=True, batch_entries=4, lanes=1)
    migrate(server.url, other.url, journal, options, at=Once("settled", stop.set), stop=stop)
    other.clear()
    again = migrate(server.url, other.url, journal, options, resume=True)
    assert again.complete
    assert again.warnings[0].startswith("4 entries that were removed from the source")
    assert len(other.entries()) == 8
