"""Keys and headers of LMCache: the real ones are read, all are spelled back, noise is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvpool import lmcache
from kvpool.entry import Header, TensorGroup
from tests.kvpool.pools import FIXTURES, MANIFEST, MODEL


@pytest.mark.parametrize("part", ["lmcache-redis", "lmcache-redis-layerwise", "lmcache-file"])
def test_keys_that_lmcache_wrote_are_read_and_spelled_back(part: str) -> None:
    for written in MANIFEST["parts"][part]:
        key = lmcache.parse_key(written["key"])
        assert key is not None
        assert (key.model, key.world_size, key.dtype) == (MODEL, 2, "bfloat16")
        assert str(key) == written["key"]
        assert lmcache.key_of_file(lmcache.file_name(written["key"])) == written["key"]


def test_layer_and_tags_are_told_apart() -> None:
    key = lmcache.parse_key("org/m@8@3@-7f@half@12@tenant%a/b@team%x%y")
    assert key is not None
    assert (key.chunk_hash, key.dtype, key.layer) == ("-7f", "float16", 12)
    assert key.tags == (("tenant", "a/b"), ("team", "x%y"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        "m@1@0@ff",
        "m@1@0@xyz@half",
        "m@1@0@f@complex64",
        "m@1@0@ff@half@tag",
        "@1@0@f@half",
    ],
)
def test_what_lmcache_could_not_have_written_is_no_key(text: str) -> None:
    assert lmcache.parse_key(text) is None


def test_headers_that_lmcache_wrote_are_read_and_packed_back() -> None:
    stored = {
        item["key"]: bytes.fromhex(item["value"])
        for part in ("lmcache-redis", "lmcache-redis-layerwise")
        for item in json.loads((FIXTURES / f"{part}.json").read_text())
    }
    written = [
        item
        for part in ("lmcache-redis", "lmcache-redis-layerwise")
        for item in MANIFEST["parts"][part]
    ]
    assert len(written) == 18
    for item in written:
        raw = stored[item["key"] + lmcache.HEADER_SUFFIX]
        header = lmcache.parse_header(raw)
        assert header is not None
        assert header.groups == (TensorGroup("bfloat16", tuple(item["shape"])),)
        assert header.value_bytes == item["value_bytes"] == lmcache.shape_bytes(header)
        assert len(stored[item["key"] + lmcache.DATA_SUFFIX]) == header.value_bytes
        assert lmcache.token_count(header) == item["tokens"][1] - item["tokens"][0]
        assert lmcache.pack_header(header) == raw


_DTYPES = st.sampled_from(
    ["float16", "bfloat16", "float32", "float64", "uint8", "float8_e4m3fn", "float8_e5m2"]
)
_SHAPES = st.lists(st.integers(1, 512), min_size=1, max_size=4).map(tuple)
_HEADERS = st.builds(
    Header,
    st.integers(0, 2**31 - 1),
    st.sampled_from(["KV_2LTD", "KV_T2D", "KV_2TD", "KV_MLA_FMT", "EC_TD"]),
    st.lists(st.builds(TensorGroup, _DTYPES, _SHAPES), min_size=1, max_size=5).map(tuple),
)


@given(_HEADERS)
def test_any_header_survives_its_bytes(header: Header) -> None:
    raw = lmcache.pack_header(header)
    assert len(raw) == 8 + 20 * len(header.groups)
    assert lmcache.parse_header(raw) == header
    assert lmcache.token_count(header) is None or lmcache.token_count(header) > 0


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    header = lmcache.parse_header(data)
    if header is not None:
        assert lmcache.shape_bytes(header) >= 0
        assert lmcache.token_count(header) is None or lmcache.token_count(header) >= 0


def test_a_compressed_value_is_as_long_as_its_shape_says() -> None:
    header = Header(777, "BINARY", (TensorGroup("uint8", (777,)),))
    again = lmcache.parse_header(lmcache.pack_header(header))
    assert again == header
    assert lmcache.shape_bytes(header) == 777
    assert lmcache.token_count(header) is None


def test_layers_of_several_groups_are_counted_together() -> None:
    groups = (TensorGroup("bfloat16", (2, 24, 16, 64)), TensorGroup("float32", (2, 8, 16, 32)))
    header = Header(0, "KV_2LTD", groups)
    key = lmcache.parse_key("m@1@0@ff@half")
    assert key is not None
    assert lmcache.layer_range(key, header) == (0, 31)
    assert lmcache.layer_range(key, None) is None
