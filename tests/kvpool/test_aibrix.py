"""AIBrix's blocks, on a shared file system and in RocksDB, as its package wrote them."""

import multiprocessing
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvpool import aibrix
from kvpool.entry import Value
from kvpool.errors import KvPoolError, KvPoolUsageError, UnsupportedError
from kvpool.pool import open_pool, require
from tests.kvpool.pools import MANIFEST, copy, entries

PROMPT = tuple(MANIFEST["prompt"])
PARTS = {
    "aibrix-shfs": "tiny_h0_1_l0_1_lcnd16roc",
    "aibrix-shfs-tokens": "tiny_h0_1_l0_1_lcnd16simex",
    "aibrix-rocksdb": "tiny_h0_1_l0_1_lcnd16roex",
}
BLOCK = "ab" * 16


def url(part: str, folder: Path) -> str:
    return f"{'aibrix+rocksdb' if 'rocksdb' in part else 'aibrix+shfs'}://{folder}"


@pytest.mark.parametrize("part", PARTS)
def test_every_block_that_aibrix_wrote_is_found(part: str, tmp_path: Path) -> None:
    conn_id = PARTS[part]
    with open_pool(url(part, copy(part, tmp_path))) as pool:
        found = entries(pool)
        written = MANIFEST["parts"][part]
        assert sorted(found) == sorted(f"{conn_id}/{item['key']}" for item in written)
        for key, entry in found.items():
            assert entry == pool.stat(key)
            assert (entry.state, entry.namespace) == ("whole", conn_id)
            assert (entry.layers, entry.tokens, entry.model) == ((0, 1), 16, None)
            value = pool.read(key)
            assert value is not None
            assert (value.header, len(value.data)) == (b"", entry.bytes)


@pytest.mark.parametrize("part", ["aibrix-shfs-tokens", "aibrix-rocksdb"])
def test_the_tokens_behind_a_block_are_the_prompts(part: str, tmp_path: Path) -> None:
    space = aibrix.parse_conn_id(PARTS[part])
    assert space is not None
    assert space.has_tokens
    with open_pool(url(part, copy(part, tmp_path))) as pool:
        for item in MANIFEST["parts"][part]:
            value = pool.read(f"{space.conn_id}/{item['key']}")
            assert value is not None
            tail = aibrix.parse_tail(space, value.data)
            assert tail is not None
            start, end = item["tokens"]
            assert (tail.prefix_tokens, tail.tokens) == (PROMPT[:start], PROMPT[start:end])
            assert tail.block_bytes == 2048


def test_a_conn_id_is_taken_apart() -> None:
    space = aibrix.parse_conn_id("my_ns_h0_7_l16_31_ncld32simex")
    assert space is not None
    assert (space.namespace, space.heads, space.layers) == ("my_ns", (0, 7), (16, 31))
    assert (space.layout, space.block_tokens, space.key_builder) == ("ncld", 32, "sim")
    assert space.has_tokens
    assert space.elements_per_head_dim == 2 * 32 * 16 * 8
    for text in ("", "ns", "ns_h0_7_l0_31", "ns_h0_7_l0_31_lcnd16xyc", "_h0_7_l0_31_lcnd16roc"):
        assert aibrix.parse_conn_id(text) is None


@given(st.binary(max_size=300), st.integers(0, 40), st.integers(1, 16))
def test_a_tail_is_found_behind_any_block(block: bytes, prefix: int, own: int) -> None:
    space = aibrix.parse_conn_id("ns_h0_0_l0_0_lcnd16roex")
    assert space is not None
    numbers = (aibrix.MAGIC, prefix, own, *range(prefix + own))
    data = block + b"".join(number.to_bytes(4, "little") for number in numbers)
    data += bytes(-len(data) % 16)
    tail = aibrix.parse_tail(space, data)
    assert tail == aibrix.Tail(len(block), tuple(range(prefix)), tuple(range(prefix, prefix + own)))


@given(st.binary(max_size=200))
def test_noise_has_no_tail(data: bytes) -> None:
    space = aibrix.parse_conn_id("ns_h0_0_l0_0_lcnd16roex")
    assert space is not None
    if aibrix.MAGIC.to_bytes(4, "little") not in data:
        assert aibrix.parse_tail(space, data) is None


def test_what_else_lies_on_a_shared_file_system(tmp_path: Path) -> None:
    conn_id = PARTS["aibrix-shfs"]
    for name in (
        f"{conn_id}/ab/ab/{BLOCK}",
        f"{conn_id}/ab/ab/{BLOCK}.tmp",
        f"{conn_id}/ab/{BLOCK}",
        f"{conn_id}/xy/zz/xyzz",
        "notes/README",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"1234")
    with open_pool(f"aibrix+shfs://{tmp_path}") as pool:
        states = {key: entry.state for key, entry in entries(pool).items()}
        assert states == {
            f"{conn_id}/{BLOCK}": "whole",
            f"{conn_id}/ab/ab/{BLOCK}.tmp": "orphan",
            f"{conn_id}/ab/{BLOCK}": "undecodable",
            f"{conn_id}/xyzz": "undecodable",
            "notes/README": "foreign",
        }
        assert pool.delete([f"{conn_id}/{BLOCK}", f"{conn_id}/ab/ab/{BLOCK}.tmp"]) == 2
        assert len(entries(pool)) == 3
        for verb in ("expiry", "headers"):
            with pytest.raises(UnsupportedError):
                require(pool, verb)


def test_the_folder_of_one_conn_id_is_not_the_root(tmp_path: Path) -> None:
    folder = tmp_path / PARTS["aibrix-shfs"]
    folder.mkdir()
    with pytest.raises(KvPoolUsageError) as error:
        open_pool(f"aibrix+shfs://{folder}")
    assert str(tmp_path) in error.value.hint


@pytest.mark.parametrize("part", PARTS)
def test_a_block_survives_writing_and_removing(part: str, tmp_path: Path) -> None:
    with open_pool(url(part, copy(part, tmp_path))) as pool:
        for conn_id in (PARTS[part], "other_h0_3_l0_3_lcnd16roc"):
            key = f"{conn_id}/{BLOCK}"
            value = Value(b"", os.urandom(4096))
            pool.write(key, value)
            assert pool.read(key) == value
            entry = pool.stat(key)
            assert entry is not None
            assert entry.bytes == 4096
            assert pool.delete([key, key]) == 1
            assert pool.read(key) is None
            assert pool.stat(key) is None


def test_a_database_may_be_named_itself_and_is_left_as_it_was(tmp_path: Path) -> None:
    folder = copy("aibrix-rocksdb", tmp_path) / PARTS["aibrix-rocksdb"]
    before = sorted(path.name for path in folder.rglob("*"))
    with open_pool(f"aibrix+rocksdb://{folder}") as pool:
        assert len(entries(pool)) == 4
        facts = pool.describe()
        assert facts.details["databases"] == 1
        assert facts.details["estimated_keys"] == 4
    assert sorted(path.name for path in folder.rglob("*")) == before


def _hold(path: str, ready: "multiprocessing.connection.Connection") -> None:
    import rocksdict

    options = rocksdict.Options(raw_mode=True)
    options.set_wal_dir(f"{path}/wal")
    database = rocksdict.Rdict(
        path, options, access_type=rocksdict.AccessType.read_write().with_ttl(600)
    )
    database.put(bytes.fromhex(BLOCK), b"fresh")
    ready.send("open")
    ready.recv()
    database.close()


def test_a_database_is_read_beside_the_engine_that_writes_it(tmp_path: Path) -> None:
    folder = copy("aibrix-rocksdb", tmp_path)
    conn_id = PARTS["aibrix-rocksdb"]
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    engine = spawn.Process(target=_hold, args=(str(folder / conn_id), theirs))
    engine.start()
    theirs.close()  # so that an engine that dies is noticed
    try:
        assert ours.recv() == "open"
        with open_pool(f"aibrix+rocksdb://{folder}") as pool:
            assert len(entries(pool)) == 5
            assert pool.read(f"{conn_id}/{BLOCK}") == Value(b"", b"fresh")
            with pytest.raises(KvPoolError) as error:
                pool.delete([f"{conn_id}/{BLOCK}"])
            assert error.value.code == "kv.rocksdb.locked"
    finally:
        ours.send("end")
        engine.join()


def test_a_folder_without_databases(tmp_path: Path) -> None:
    with pytest.raises(KvPoolUsageError, match="no RocksDB database"):
        open_pool(f"aibrix+rocksdb://{tmp_path}")


def test_a_damaged_database_is_an_error(tmp_path: Path) -> None:
    folder = copy("aibrix-rocksdb", tmp_path) / PARTS["aibrix-rocksdb"]
    for manifest in folder.glob("MANIFEST-*"):
        manifest.write_bytes(b"junk")
    with open_pool(f"aibrix+rocksdb://{folder}") as pool, pytest.raises(KvPoolError) as error:
        entries(pool)
    assert error.value.code == "kv.rocksdb.failed"
    shutil.rmtree(folder)
