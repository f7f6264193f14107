"""LMCache's entries in a directory: what it wrote, what it left behind, and what is not its."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvpool import directory, lmcache
from kvpool.entry import Header, TensorGroup, Value
from kvpool.errors import KvPoolError, KvPoolUsageError, UnsupportedError
from kvpool.lmcache_file import header_bytes
from kvpool.pool import open_pool, require
from tests.kvpool.pools import MANIFEST, copy, entries, keys

KEY = "acme/tiny-3b@1@0@abc@half"
HEADER = lmcache.pack_header(Header(8, "KV_2LTD", (TensorGroup("float16", (2, 1, 2, 1)),)))


def test_every_entry_that_lmcache_wrote_is_found_whole(tmp_path: Path) -> None:
    folder = copy("lmcache-file", tmp_path)
    with open_pool(f"lmcache+file://{folder}") as pool:
        found = entries(pool)
        assert sorted(found) == sorted(keys("lmcache-file"))
        for written in MANIFEST["parts"]["lmcache-file"]:
            entry = found[written["key"]]
            assert (entry.state, entry.value_bytes) == ("whole", written["value_bytes"])
            assert entry.tokens == written["tokens"][1] - written["tokens"][0]
            assert entry.stored_s is not None
            assert entry == pool.stat(entry.key)
            value = pool.read(entry.key)
            assert value is not None
            assert len(value.data) == written["value_bytes"]


def test_what_a_dead_writer_left_and_what_is_not_lmcaches(tmp_path: Path) -> None:
    def put(name: str, data: bytes) -> None:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)

    put("m@1@0@1@half.tmp", HEADER)
    put("m@1@0@2@half.data", b"short")
    put("m@1@0@3@half.data", os.urandom(64).replace(b"\0", b"\1"))
    put("m@1@0@4@what.data", HEADER + b"12345678")
    put("m@1@0@5@half.data", HEADER + b"1234")
    put("m@1@0@6@half.pt", b"x")
    put("m@0x01000100@0@abcd@salt.data", b"x" * 64)
    put("README", b"hello")
    put("sub/m@1@0@7@half.data", HEADER + b"12345678")
    (tmp_path / "link.data").symlink_to("README")
    os.mkfifo(tmp_path / "m@1@0@8@half.data")  # reading it would wait for ever
    with open_pool(f"lmcache+file://{tmp_path}") as pool:
        found = entries(pool)
    assert {key: entry.state for key, entry in found.items()} == {
        "m@1@0@1@half.tmp": "orphan",
        "m@1@0@2@half": "undecodable",
        "m@1@0@3@half": "undecodable",
        "m@1@0@4@what": "undecodable",
        "m@1@0@5@half": "whole",
        "m@1@0@6@half.pt": "foreign",
        "m@0x01000100@0@abcd@salt": "foreign",
        "README": "foreign",
        "sub/m@1@0@7@half.data": "foreign",
        "link.data": "foreign",
        "m@1@0@8@half.data": "foreign",
    }
    assert "less than a header" in found["m@1@0@2@half"].reason
    assert "save_chunk_meta" in found["m@1@0@3@half"].reason
    assert "local disk" in found["m@1@0@6@half.pt"].reason
    assert "multi-process" in found["m@0x01000100@0@abcd@salt"].reason
    cut = found["m@1@0@5@half"]
    assert cut.header is not None
    assert (cut.value_bytes, cut.header.value_bytes) == (4, 8)


def test_a_value_survives_writing_and_nothing_else_is_left(tmp_path: Path) -> None:
    with open_pool(f"lmcache+file://{tmp_path}") as pool:
        pool.write(KEY, Value(HEADER, b"12345678"))
        assert pool.read(KEY) == Value(HEADER, b"12345678")
        assert [path.name for path in tmp_path.iterdir()] == [lmcache.file_name(KEY)]
        (tmp_path / "left.tmp").write_bytes(b"")
        assert pool.delete([KEY, "left.tmp", "absent@1@0@1@half"]) == 2
        assert pool.read(KEY) is None
        assert pool.stat(KEY) is None
    assert list(tmp_path.iterdir()) == []


def test_a_header_of_several_groups_is_found_by_the_files_size(tmp_path: Path) -> None:
    groups = (TensorGroup("bfloat16", (2, 3, 4, 8)), TensorGroup("float32", (2, 1, 4, 8)))
    header = Header(640, "KV_2LTD", groups)
    with open_pool(f"lmcache+file://{tmp_path}") as pool:
        pool.write(KEY, Value(lmcache.pack_header(header), bytes(640)))
        entry = pool.stat(KEY)
        assert entry is not None
        assert (entry.header, entry.value_bytes, entry.layers) == (header, 640, (0, 3))
        assert pool.read(KEY) == Value(lmcache.pack_header(header), bytes(640))


@given(st.integers(1, lmcache.MOST_GROUPS), st.integers(0, 1 << 20))
def test_the_length_of_any_header_is_found(groups: int, value_bytes: int) -> None:
    length = 8 + 20 * groups
    start = value_bytes.to_bytes(4, "little") + bytes(24)
    assert header_bytes(start, value_bytes + length) == length


def test_an_expiry_cannot_be_kept(tmp_path: Path) -> None:
    with open_pool(f"lmcache+file://{tmp_path}") as pool:
        require(pool, "scan", "read", "write", "delete")
        with pytest.raises(UnsupportedError, match="can't keep an expiry: LMCache's files carry"):
            require(pool, "read", "expiry")


@pytest.mark.parametrize("what", ["absent", "file"])
def test_no_such_directory(tmp_path: Path, what: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KvPoolUsageError, match=r"no (such )?directory"):
        open_pool(f"lmcache+file://{tmp_path}/{what}")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device /dev/full")
def test_a_full_disk_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.data"
    path.write_bytes(b"old")
    real = os.fdopen

    def full(handle: int, mode: str) -> object:
        os.close(handle)
        return real(os.open("/dev/full", os.O_WRONLY), mode)

    monkeypatch.setattr(directory.os, "fdopen", full)
    with pytest.raises(KvPoolError) as error:
        directory.write_whole(path, [b"new"])
    assert error.value.code == "kv.file.disk_full"
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_walking_sees_every_file_and_survives_what_vanishes(tmp_path: Path) -> None:
    for name in ("a/1", "a/b/2", "3", "c/4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    walk = directory.walk(tmp_path)
    seen = [next(walk)[0]]
    for name in {"a/1", "a/b/2", "3", "c/4"} - {seen[0]}:
        (tmp_path / name).unlink()
    seen += [name for name, _ in walk]
    assert seen[0] in {"a/1", "a/b/2", "3", "c/4"}
    assert sorted(name for name, _ in directory.walk(tmp_path)) == seen[:1]
