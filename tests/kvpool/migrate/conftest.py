"""Pools of a test of its own, and where its journal stands."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kvpool.migrations import FilePool, RedisPool
from tests.redis_server import redis_server


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
