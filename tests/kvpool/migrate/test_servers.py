"""Servers that are full, evict, go away or can't be written."""

import socket
import time
from pathlib import Path

import pytest

from accelerators.errors import ToolError
from kvpool.migrate.journal import Journal
from kvpool.migrate.report import Options
from kvpool.migrate.run import Migration
from kvpool.migrate.side import BATCH_BYTES
from tests.kvpool.migrations import (
    FULL,
    FilePool,
    Once,
    RedisPool,
    config_of,
    fill,
    migrate,
)
from tests.real.environments import valkey_server, why_not
from tests.redis_server import redis_server, requires_redis

pytestmark = requires_redis


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
    address = ("127.0.0.1", pool.port)
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
    with Journal(journal, config_of(server, other), resume=True) as kept:
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
    port = server.port
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


@pytest.mark.real
@pytest.mark.skipif(not valkey_server(), reason=why_not("real-valkey"))
def test_copying_does_not_count_as_use(directory: FilePool, tmp_path: Path, journal: Path) -> None:
    """Where the server can be told so, as Debian's Redis 7.0 can't."""
    with redis_server(tmp_path, program=valkey_server()) as found:
        server = RedisPool(found.port)
        fill(server, size=BATCH_BYTES + 1000)  # copied in pieces
        names = list(server.client.scan_iter())
        for name in names:
            dump = server.client.dump(name)
            assert isinstance(dump, bytes)
            server.client.restore(name, 0, dump, replace=True, idletime=5000)
        assert migrate(server.url, directory.url, journal, FULL).complete
        assert all(server.client.object("idletime", name) >= 5000 for name in names)
