"""Pool URLs: every kind, one spelling each, and what is wrong said plainly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvpool.errors import KvPoolUsageError
from kvpool.url import PoolUrl, parse_pool_url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "lmcache+redis://10.0.0.1:6380/2",
            PoolUrl("lmcache+redis", host="10.0.0.1", port=6380, database=2),
        ),
        (
            "lmcache+rediss://ops@cache",
            PoolUrl("lmcache+redis", host="cache", port=6379, username="ops", tls=True),
        ),
        ("LMCACHE+Redis://[::1]:7000/", PoolUrl("lmcache+redis", host="::1", port=7000)),
        ("lmcache+file:///var/kv", PoolUrl("lmcache+file", path="/var/kv")),
        ("lmcache+file:pool/a", PoolUrl("lmcache+file", path="pool/a")),
        ("lmcache+file:./pool/", PoolUrl("lmcache+file", path="pool")),
        ("aibrix+shfs://localhost/mnt/kv%20cache", PoolUrl("aibrix+shfs", path="/mnt/kv cache")),
        ("aibrix+rocksdb:///db", PoolUrl("aibrix+rocksdb", path="/db")),
        (
            "aibrix+redis://meta:6379/0",
            PoolUrl("aibrix+redis", host="meta", port=6379, options={"key": "kvcache_nodes"}),
        ),
        (
            "aibrix+redis://meta/3?key=hpkv_cluster_metadata",
            PoolUrl(
                "aibrix+redis",
                host="meta",
                port=6379,
                database=3,
                options={"key": "hpkv_cluster_metadata"},
            ),
        ),
        (
            "mooncake://master:9004?rpc=50052",
            PoolUrl(
                "mooncake",
                host="master",
                port=9004,
                options={"rpc": "50052", "metadata": "P2PHANDSHAKE", "protocol": "tcp"},
            ),
        ),
        ("lm://127.0.0.1:65432", PoolUrl("lm", host="127.0.0.1", port=65432)),
        ("vineyard:///var/run/vineyard.sock", PoolUrl("vineyard", path="/var/run/vineyard.sock")),
    ],
)
def test_each_kind_is_parsed_and_spelled_back(text: str, expected: PoolUrl) -> None:
    assert parse_pool_url(text) == expected
    assert parse_pool_url(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("lmcahe+redis://h", "kv.url.scheme", "did you mean lmcache+redis?"),
        ("redis://h:6379/0", "kv.url.scheme", "did you mean lmcache+redis (entries of LMCache)"),
        ("fs:///d", "kv.url.scheme", "did you mean lmcache+file?"),
        ("s3://bucket", "kv.url.scheme", "'s3' is no kind of pool"),
        ("pool", "kv.url.scheme", "it has no scheme"),
        ("/var/kv", "kv.url.scheme", "it has no scheme"),
        ("", "kv.url.scheme", "it has no scheme"),
        ("infinistore://h", "kv.url.rdma", "only be reached over RDMA"),
        ("aibrix+hpkv://h", "kv.url.rdma", "hpkv can only be reached over RDMA"),
        ("lmcache+redis://u:secret@h", "kv.url.secret", "holds a password"),
        ("lmcache+redis://h:port", "kv.url.malformed", "malformed host or port"),
        ("lmcache+redis://h:99999", "kv.url.malformed", "malformed host or port"),
        ("lmcache+redis://h:0", "kv.url.malformed", "names port 0"),
        ("lmcache+redis://[::1", "kv.url.malformed", "malformed host or port"),
        ("lmcache+redis:///0", "kv.url.malformed", "names no host"),
        ("lmcache+redis://h/abc", "kv.url.malformed", "number of a database"),
        ("lmcache+redis://h/0?key=x", "kv.url.malformed", "unknown option 'key'"),
        ("aibrix+redis://h/0?keys=x", "kv.url.malformed", "'keys'; known: key"),
        ("aibrix+redis://h/0?key=", "kv.url.malformed", "leaves the option 'key' empty"),
        ("lmcache+file://pool/a", "kv.url.malformed", "names a host, 'pool'"),
        ("lmcache+file:", "kv.url.malformed", "names no path"),
        ("lmcache+file:///a#b", "kv.url.malformed", "fragment"),
        ("mooncake://user@h", "kv.url.malformed", "names a user"),
        ("lm://h/path", "kv.url.malformed", "has a path"),
    ],
)
def test_what_is_wrong_is_said(text: str, code: str, says: str) -> None:
    with pytest.raises(KvPoolUsageError) as error:
        parse_pool_url(text)
    assert error.value.code == code
    assert says in error.value.message
    assert error.value.hint
    assert "secret" not in error.value.message + error.value.hint


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused_as_usage(text: str) -> None:
    try:
        url = parse_pool_url(text)
    except KvPoolUsageError:
        return
    assert parse_pool_url(str(url)) == url


@given(st.sampled_from(["lmcache+file", "aibrix+shfs"]), st.text(min_size=1, max_size=40))
def test_any_path_survives_its_spelling(scheme: str, name: str) -> None:
    try:
        url = parse_pool_url(f"{scheme}:{name}")
    except KvPoolUsageError:
        return
    assert parse_pool_url(str(url)) == url
