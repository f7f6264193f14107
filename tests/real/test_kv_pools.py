"""Pools that the real lmcache and aibrix-kvcache write while the test runs, and read back.

Needs an interpreter with both packages: ``.make/real-kv``, or that of AIBRIXCTL_TEST_KV_PYTHON.
"""

import hashlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kvpool import aibrix, lmcache
from kvpool.pool import open_pool
from tests.kvpool.pools import FIXTURES, MANIFEST, entries
from tests.redis_server import redis_server

from .environments import kv_python, why_not

_START_LIMIT_S = 60.0
PYTHON = kv_python()
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not PYTHON, reason=why_not("real-kv")),
]


def packages(*words: str) -> Any:
    """What ``make.py`` prints for some words."""
    done = subprocess.run(
        [PYTHON, str(FIXTURES / "make.py"), *words],
        env=os.environ | {"PYTHONHASHSEED": MANIFEST["python_hash_seed"]},
        stdout=subprocess.PIPE,
        check=True,
        timeout=600,
    )
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def lm_server() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [PYTHON, "-m", "lmcache.v1.server", "127.0.0.1", str(port)]
    server = subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + _START_LIMIT_S
    try:
        while server.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        yield port
    finally:
        server.kill()
        server.wait(timeout=20)


@pytest.mark.parametrize("kind", ["redis", "file"])
def test_lmcache_reads_what_we_copied_from_what_it_wrote(kind: str, tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis:
        urls = {
            "redis": (f"redis://127.0.0.1:{redis.port}", f"lmcache+redis://127.0.0.1:{redis.port}"),
            "file": (f"fs://host:0{tmp_path}/a", f"lmcache+file://{tmp_path}/a"),
        }
        theirs, ours = urls[kind]
        written = packages(
            "--part", f"lmcache-{kind}", theirs if kind == "redis" else f"{tmp_path}/a"
        )
        (tmp_path / "b").mkdir()
        with open_pool(ours) as source, open_pool(f"lmcache+file://{tmp_path}/b") as target:
            found = entries(source)
            assert {entry.state for entry in found.values()} == {"whole"}
            assert sorted(found) == sorted(item["key"] for item in written)
            values = {key: source.read(key) for key in found}
            for key, value in values.items():
                assert value is not None
                target.write(key, value)
            if kind == "file":
                with open_pool(urls["redis"][1]) as pool:
                    for key, value in values.items():
                        assert value is not None
                        pool.write(key, value)
        copied = f"fs://host:0{tmp_path}/b" if kind == "redis" else urls["redis"][0]
        back = packages("--read", copied, *found)
    assert [item["key"] for item in back] == list(found)
    for item in back:
        value = values[item["key"]]
        assert value is not None
        assert item["sha256"] == hashlib.sha256(value.data).hexdigest()
        header = lmcache.parse_header(value.header)
        assert header is not None
        assert tuple(item["shape"]) == header.groups[0].shape


def test_the_server_of_lmcache_is_read() -> None:
    with lm_server() as port:
        written = packages("--part", "lmcache-lm", f"lm://127.0.0.1:{port}")
        with open_pool(f"lm://127.0.0.1:{port}") as pool:
            for item in written:
                entry, value = pool.stat(item["key"]), pool.read(item["key"])
                assert entry is not None
                assert value is not None
                assert entry.value_bytes == len(value.data) == item["value_bytes"]
            assert pool.stat("absent@1@0@0@half") is None


@pytest.mark.parametrize(
    "part", ["aibrix-shfs", "aibrix-shfs-tokens", "aibrix-rocksdb", "aibrix-rocksdb-raw"]
)
def test_every_block_that_aibrix_writes_is_found(part: str, tmp_path: Path) -> None:
    written = packages("--part", part, str(tmp_path / "root"))
    scheme = "aibrix+rocksdb" if "rocksdb" in part else "aibrix+shfs"
    with open_pool(f"{scheme}://{tmp_path}/root") as pool:
        found = entries(pool)
        assert {entry.chunk_hash for entry in found.values()} == {item["key"] for item in written}
        assert {entry.state for entry in found.values()} == {"whole"}
        space = aibrix.parse_conn_id(next(iter(found.values())).namespace or "")
        assert space is not None
        for item in written if space.has_tokens else ():
            value = pool.read(f"{space.conn_id}/{item['key']}")
            assert value is not None
            tail = aibrix.parse_tail(space, value.data)
            assert tail is not None
            start, end = item["tokens"]
            assert list(tail.tokens) == MANIFEST["prompt"][start:end]


def test_the_fixtures_are_what_the_packages_write_today(tmp_path: Path) -> None:
    packages_out = tmp_path / "out"
    packages_out.mkdir()
    subprocess.run(
        [PYTHON, str(FIXTURES / "make.py"), str(packages_out)],
        check=True, capture_output=True, timeout=900,
    )  # fmt: skip
    assert json.loads((packages_out / "manifest.json").read_text()) == MANIFEST
