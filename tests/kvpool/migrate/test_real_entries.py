"""Migrations of what the real packages wrote: read again as those packages would, byte by byte."""

from pathlib import Path

import pytest

from kvpool.migrate.report import Options
from kvpool.pool import open_pool
from tests.kvpool import pools
from tests.kvpool.migrations import migrate
from tests.redis_server import redis_server, requires_redis


@requires_redis
@pytest.mark.parametrize("part", ["lmcache-redis", "lmcache-redis-layerwise"])
def test_lmcache_from_redis_to_files_and_back(part: str, tmp_path: Path) -> None:
    files = f"lmcache+file://{tmp_path / 'files'}"
    with redis_server(tmp_path) as server:
        first = pools.load_redis(server.port, part)
        second = pools.load_redis(server.port, part, database=1)
        second.flushdb()
        urls = [f"lmcache+redis://127.0.0.1:{server.port}/{number}" for number in (0, 1)]
        there = migrate(urls[0], files, tmp_path / "there", Options(verify="full"))
        assert there.complete
        assert there.fates["copied"] == len(pools.keys(part))
        with open_pool(urls[0]) as before, open_pool(files) as after:
            for key in pools.keys(part):
                assert after.read(key) == before.read(key)
        assert migrate(files, urls[1], tmp_path / "back", Options(verify="full")).complete
        names = set(second.keys())
        assert names == set(first.scan_iter("*@*"))
        assert all(first.get(name) == second.get(name) for name in names)


def test_file_is_as_the_real_connector_names_it(tmp_path: Path) -> None:
    source = pools.copy("lmcache-file", tmp_path)
    target = tmp_path / "target"
    report = migrate(f"lmcache+file://{source}", f"lmcache+file://{target}", tmp_path / "journal")
    assert report.complete
    copied = {path.name: path.read_bytes() for path in target.iterdir()}
    assert copied == {path.name: path.read_bytes() for path in source.glob("*.data")}


@pytest.mark.parametrize("part", ["aibrix-shfs", "aibrix-shfs-tokens"])
def test_aibrix_blocks(part: str, tmp_path: Path) -> None:
    source = pools.copy(part, tmp_path)
    target = tmp_path / "target"
    before = {p.relative_to(source): p.read_bytes() for p in source.rglob("*") if p.is_file()}
    report = migrate(
        f"aibrix+shfs://{source}",
        f"aibrix+shfs://{target}",
        tmp_path / "journal",
        Options(verify="full", delete_source=True),
    )
    assert report.complete
    assert report.fates == {"moved": len(pools.keys(part))}
    assert before == {
        path.relative_to(target): path.read_bytes() for path in target.rglob("*") if path.is_file()
    }
    assert not [path for path in source.rglob("*") if path.is_file()]
