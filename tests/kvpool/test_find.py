"""Prompts are found as the real packages stored them, and hashes are theirs."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from kvpool import lmcache
from kvpool.errors import KvPoolUsageError, UnsupportedError
from kvpool.find.hashes import ALGORITHMS, block_keys, chunk_hashes, schemes
from kvpool.find.lookup import Found, Query, find
from kvpool.find.tokens import read_tokens, tokenize
from kvpool.pool import open_pool
from tests.kvpool.pools import FIXTURES, MANIFEST, MODEL, copy, keys, lm_server, load_redis
from tests.kvpool.test_placement import TWO
from tests.redis_server import Server, redis_server, requires_redis

PROMPT: list[int] = MANIFEST["prompt"]
STORED = PROMPT[:40]
MADE = json.loads((FIXTURES / "lmcache-hashes.json").read_text())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        load_redis(server.port).close()
        load_redis(server.port, "lmcache-redis-layerwise", 1).close()
        with redis.Redis(port=server.port, db=2) as client:
            client.set("kvcache_nodes", json.dumps(TWO))
        yield server


def look(url: str, query: Query) -> Found:
    with open_pool(url) as pool:
        return find(pool, query)


@pytest.mark.parametrize("made", MADE, ids=lambda m: f"{m['algorithm']}-{m['seed']}")
def test_hashes_are_those_of_lmcache_beside_vllm(made: dict[str, list[str]]) -> None:
    seed = made["seed"] or "7"
    ours = {
        tuple(chunk_hashes(STORED, 16, scheme))
        for scheme in schemes(str(seed), ALGORITHMS)
        if scheme.algorithm == made["algorithm"]
    }
    assert tuple(made["hashes"]) in ours


def test_hashes_are_those_of_lmcache_alone() -> None:
    written = {key.split("@")[3] for key in keys("lmcache-redis")}
    assert set(chunk_hashes(STORED, 16, schemes("0", ("builtin",))[0])) == written


@pytest.mark.parametrize(
    ("part", "builder"),
    [
        ("aibrix-shfs", "ro"),
        ("aibrix-rocksdb", "ro"),
        ("aibrix-shfs-tokens", "sim"),
        ("aibrix-rocksdb-raw", "raw"),
    ],
)
def test_block_keys_are_those_of_aibrix(part: str, builder: str) -> None:
    assert list(block_keys(PROMPT, 16, builder)) == keys(part)
    assert list(block_keys(PROMPT[:63], 16, builder)) == keys(part)[:3]


@given(st.lists(st.integers(0, 2**31 - 1), min_size=8, max_size=64), st.integers(0, 7))
def test_a_key_depends_on_every_token_before_its_end(tokens: list[int], at: int) -> None:
    other = tokens.copy()
    other[at] ^= 1
    for builder in ("ro", "sim", "raw", "hex"):
        ours, theirs = list(block_keys(tokens, 4, builder)), list(block_keys(other, 4, builder))
        assert ours[: at // 4] == theirs[: at // 4]
        assert all(a != b for a, b in zip(ours[at // 4 :], theirs[at // 4 :], strict=True))
    for scheme in schemes("0"):
        ours, theirs = (list(chunk_hashes(t, 4, scheme)) for t in (tokens, other))
        assert ours[: at // 4] == theirs[: at // 4]
        assert all(a != b for a, b in zip(ours[at // 4 :], theirs[at // 4 :], strict=True))


def test_a_prompt_in_a_directory(tmp_path: Path) -> None:
    url = f"lmcache+file://{copy('lmcache-file', tmp_path)}"
    found = look(url, Query(STORED))
    (group,) = found.groups
    assert (group.name, group.dtype, group.world_size) == (MODEL, "bfloat16", 2)
    assert (group.chunk_tokens, group.prefix_tokens, group.prefix_blocks) == (16, 40, 3)
    assert group.scheme == "builtin, without vLLM's root, 16 tokens"
    (group,) = look(url, Query(PROMPT, model="acme/*")).groups
    # The short chunk at the end of the stored prompt is none of a longer one's.
    assert (group.prefix_tokens, [block.state for block in group.blocks]) == (
        32,
        ["cached", "cached", "missing", "missing"],
    )


def test_gaps_parts_and_damage(tmp_path: Path) -> None:
    folder = copy("lmcache-file", tmp_path)
    url = f"lmcache+file://{folder}"
    names = [folder / lmcache.file_name(key) for key in keys("lmcache-file")]
    names[0].unlink()
    (group,) = look(url, Query(STORED)).groups
    assert [block.state for block in group.blocks] == ["partial", "cached", "cached"]
    assert (group.prefix_tokens, group.beyond_gap) == (0, 2)
    names[3].write_bytes(b"damaged")
    (group,) = look(url, Query(STORED)).groups
    assert group.blocks[0].state == "broken"


def test_sha256_and_other_roots_are_found_by_themselves(tmp_path: Path) -> None:
    source = copy("lmcache-file", tmp_path)
    for made in MADE:
        folder = tmp_path / f"{made['algorithm']}-{made['seed']}"
        folder.mkdir()
        for key, chunk_hash in zip(keys("lmcache-file")[:3], made["hashes"], strict=True):
            name = lmcache.file_name(key.replace(key.split("@")[3], chunk_hash))
            for rank in "01":
                shutil.copy(
                    source / lmcache.file_name(key), folder / name.replace("@0@", f"@{rank}@")
                )
        (group,) = look(f"lmcache+file://{folder}", Query(STORED, seed=made["seed"] or "0")).groups
        assert group.prefix_tokens == 40
        assert group.scheme.startswith(made["algorithm"])
        if made["seed"] == "42":
            assert look(f"lmcache+file://{folder}", Query(STORED, seed="41")).groups == []


@requires_redis
def test_a_prompt_in_redis_by_scan_and_by_key(server: Server) -> None:
    url = f"lmcache+redis://127.0.0.1:{server.port}"
    scanned = look(url, Query(STORED)).groups
    asked = look(
        url, Query(STORED, model=MODEL, world_size=2, dtype="bfloat16", chunk_tokens=16)
    ).groups
    assert [g.prefix_tokens for g in scanned] == [g.prefix_tokens for g in asked] == [40]
    assert scanned[0].blocks[0].node == f"127.0.0.1:{server.port}"
    assert [b.chunk_hash for b in scanned[0].blocks] == [b.chunk_hash for b in asked[0].blocks]
    assert look(url, Query(STORED, model=MODEL, world_size=4, dtype="bfloat16")).groups == []


@requires_redis
def test_layers_of_a_block_are_all_needed(server: Server) -> None:
    url = f"lmcache+redis://127.0.0.1:{server.port}/1"
    (group,) = look(url, Query(STORED)).groups
    assert group.prefix_tokens == 40
    assert group.tags == (("tenant", "a/b"), ("team", "search"))
    assert [block.needed for block in group.blocks] == [4, 4, 4]
    with redis.Redis(port=server.port, db=1) as client:
        client.delete(f"{keys('lmcache-redis-layerwise')[-1]}metadata")
    (group,) = look(url, Query(STORED)).groups
    assert (group.prefix_tokens, group.blocks[2].state) == (32, "partial")


@pytest.mark.parametrize(
    ("part", "scheme"),
    [
        ("aibrix-shfs", "aibrix+shfs"),
        ("aibrix-shfs-tokens", "aibrix+shfs"),
        ("aibrix-rocksdb", "aibrix+rocksdb"),
        ("aibrix-rocksdb-raw", "aibrix+rocksdb"),
    ],
)
def test_a_prompt_in_blocks_of_aibrix(part: str, scheme: str, tmp_path: Path) -> None:
    url = f"{scheme}://{copy(part, tmp_path)}"
    (group,) = look(url, Query([*PROMPT, 5, 6, 7])).groups
    assert (group.prefix_tokens, group.prompt_tokens, len(group.blocks)) == (64, 67, 4)
    assert look(url, Query([1] * 64)).groups == []
    assert look(url, Query(PROMPT, model="other*")).models == []


@requires_redis
def test_the_node_that_a_block_belongs_to(server: Server) -> None:
    url = f"aibrix+redis://127.0.0.1:{server.port}/2"
    (group,) = look(url, Query(PROMPT)).groups
    assert {block.state for block in group.blocks} == {"unknown"}
    assert {block.node for block in group.blocks} <= {
        "kv-0 10.0.0.1:12345",
        "kv-1 10.0.0.2:12345",
    }
    assert group.prefix_tokens == 0
    with pytest.raises(KvPoolUsageError, match="no key builder"):
        look(url, Query(PROMPT, builder="md5"))


def test_a_server_that_cannot_be_listed_is_asked_by_key() -> None:
    with lm_server() as port:
        url = f"lm://127.0.0.1:{port}"
        with pytest.raises(UnsupportedError, match="LIST"):
            look(url, Query(STORED))


def test_a_search_can_be_stopped(tmp_path: Path) -> None:
    stop = Event()
    stop.set()
    with open_pool(f"lmcache+file://{copy('lmcache-file', tmp_path)}") as pool:
        assert not find(pool, Query(STORED), stop=stop).complete


def test_a_seed_that_cannot_be_shared() -> None:
    for seed in ("random", "-1", "4294967296", ""):
        with pytest.raises(KvPoolUsageError, match="expected 0 to 4294967295"):
            schemes(seed)


def test_without_cbor_the_builtin_hash_is_still_tried(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['cbor2'] = None\n"
        "from kvpool.find.hashes import schemes\n"
        "print({scheme.algorithm for scheme in schemes('0')})\n"
        "schemes('0', ('sha256_cbor',))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "{'builtin'}\n"
    assert "which is not installed" in done.stderr


def test_files_of_tokens(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    for text in ("[1, 2, 3]", "1 2 3\n", "1,2,\n3"):
        path.write_text(text)
        assert read_tokens(path) == [1, 2, 3]
    for text in ("", "[]", "a b", "[1, null]", "[[1]]", "[1.5]", "[true]", "-1", "2147483648"):
        path.write_text(text)
        with pytest.raises(KvPoolUsageError, match="holds no token ids"):
            read_tokens(path)
    with pytest.raises(KvPoolUsageError, match="cannot read"):
        read_tokens(tmp_path / "absent")


def test_text_is_tokenized_by_a_local_file(tmp_path: Path) -> None:
    place = write_tokenizer(tmp_path)
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("the cache the pool")
    assert tokenize(prompt, str(place)) == tokenize(prompt, str(place.parent)) == [0, 1, 2, 1, 3]
    assert tokenize(prompt, str(place), special=False) == [1, 2, 1, 3]


def write_tokenizer(folder: Path) -> Path:
    """A tokenizer of four words, which puts <s> before a text."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    made = Tokenizer(WordLevel({"<s>": 0, "the": 1, "cache": 2, "pool": 3}, unk_token="<s>"))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    path = folder / "tokenizer.json"
    made.save(str(path))
    return path
