"""Pools between which nothing can be moved."""

import random
from pathlib import Path

import pytest

from accelerators.errors import ToolError
from kvpool.errors import UnsupportedError
from kvpool.migrate.report import Options
from kvpool.migrate.run import Migration
from tests.kvpool.migrations import (
    FilePool,
    RedisPool,
    key_of,
    migrate,
    stored,
)
from tests.redis_server import requires_redis

pytestmark = requires_redis


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


def test_rocksdb_is_refused_with_what_helps_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="every block would be young again") as caught:
        Migration(f"aibrix+rocksdb:{tmp_path}", f"aibrix+shfs:{tmp_path}/new", Options())
    assert "copy the directory as it is" in caught.value.hint
    assert not (tmp_path / "new").exists()


def test_a_refusal_leaves_no_directory(
    server: RedisPool, directory: FilePool, tmp_path: Path
) -> None:
    directory.put(key_of(1), stored(random.Random(1), 100))
    (tmp_path / "journal").write_text("no journal")
    new = tmp_path / "not" / "there"
    with pytest.raises(ToolError, match="can't become entries"):
        Migration(server.url, f"aibrix+shfs://{new}", Options())
    assert not new.parent.exists()
    with pytest.raises(ToolError, match="journal"):
        migrate(directory.url, f"lmcache+file://{new}", tmp_path / "journal")
    assert not new.parent.exists()
    assert migrate(directory.url, f"lmcache+file://{new}", tmp_path / "other").complete
    assert len(list(new.iterdir())) == 1


def test_a_pool_without_entries_makes_the_directory_all_the_same(
    directory: FilePool, tmp_path: Path
) -> None:
    new = tmp_path / "new"
    assert migrate(directory.url, f"lmcache+file://{new}", tmp_path / "journal").complete
    assert new.is_dir()
