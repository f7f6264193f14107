"""One migration of a pool at a time."""

from pathlib import Path

import pytest

from accelerators.errors import ToolError
from tests.kvpool.migrations import (
    FilePool,
    Once,
    RedisPool,
    fill,
    migrate,
)
from tests.redis_server import requires_redis

pytestmark = requires_redis


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
