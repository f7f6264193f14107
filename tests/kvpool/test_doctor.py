"""Hazards in entries: what the real packages wrote is sound, and each damage is found."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
import redis

from accelerators.hazards import Hazard
from kvpool import lmcache
from kvpool.demo import demo_files, write_demo
from kvpool.doctor import hazards
from kvpool.doctor.census import MOST_GROUPS, Census
from kvpool.doctor.checks import CHECKS
from kvpool.doctor.examine import examine
from kvpool.doctor.finding import Finding, Report
from kvpool.doctor.survey import Options
from kvpool.entry import Entry, Header, TensorGroup
from kvpool.errors import UnsupportedError
from kvpool.pool import open_pool
from tests.kvpool.pools import MODEL, copy, keys, lm_server, load_redis
from tests.redis_server import Server, redis_server, requires_redis

AT_ONCE = Options(min_age_s=0)
KEY = keys("lmcache-redis")[0]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator["redis.Redis"]:
    with redis.Redis(port=server.port) as client:
        client.flushall()
        client.config_set("maxmemory", "0")
        client.config_set("maxmemory-policy", "noeviction")
        load_redis(server.port).close()
        yield client


def report(url: str, options: Options = AT_ONCE) -> Report:
    with open_pool(url) as pool:
        return examine(pool, options)


def of_redis(client: "redis.Redis", options: Options | None = None) -> Report:
    port = client.connection_pool.connection_kwargs["port"]
    return report(f"lmcache+redis://127.0.0.1:{port}", options or Options("headers", 0))


def found(report: Report) -> dict[str, Finding]:
    return {finding.hazard.code: finding for finding in report.findings}


@pytest.mark.parametrize(
    ("part", "scheme"),
    [
        ("lmcache-file", "lmcache+file"),
        ("aibrix-shfs", "aibrix+shfs"),
        ("aibrix-shfs-tokens", "aibrix+shfs"),
        ("aibrix-rocksdb", "aibrix+rocksdb"),
    ],
)
def test_what_the_real_packages_wrote_is_sound(part: str, scheme: str, tmp_path: Path) -> None:
    seen = report(f"{scheme}://{copy(part, tmp_path)}")
    assert seen.findings == ()
    assert seen.undecided == ()
    assert seen.scanned


@requires_redis
@pytest.mark.parametrize("part", ["lmcache-redis", "lmcache-redis-layerwise"])
def test_a_redis_that_the_real_package_filled_is_sound(part: str, client: "redis.Redis") -> None:
    client.flushall()
    load_redis(client.connection_pool.connection_kwargs["port"], part).close()
    seen = of_redis(client)
    assert set(found(seen)) == {"KV-UNBOUNDED"}
    assert seen.faults == seen.undecided == ()


@requires_redis
def test_both_kinds_of_half_entries(client: "redis.Redis") -> None:
    other = keys("lmcache-redis")[1]
    client.delete(f"{KEY}metadata", f"{other}kv_bytes")
    seen = found(of_redis(client))
    assert seen["KV-HALF-DATA"].evidence == (KEY,)
    # Of a lone half an old server is only asked for the memory that it takes.
    assert 2048 <= (seen["KV-HALF-DATA"].bytes or 0) < 4096
    assert seen["KV-HALF-HEADER"].evidence == (other,)
    assert seen["KV-HALF-HEADER"].hazard.severity == "degraded"


@requires_redis
def test_data_that_was_just_written_may_be_half_of_an_entry_to_be(client: "redis.Redis") -> None:
    client.delete(f"{KEY}metadata", f"{keys('lmcache-redis')[1]}kv_bytes")
    seen = of_redis(client, Options("headers", min_age_s=300))
    assert seen.in_flight == 1
    assert set(found(seen)) == {"KV-HALF-HEADER", "KV-UNBOUNDED"}


@requires_redis
def test_lengths_dtypes_and_keys_that_contradict_themselves(client: "redis.Redis") -> None:
    short, long, other, strange = keys("lmcache-redis")[:4]
    client.setrange(f"{long}kv_bytes", 2048, b"more")
    client.set(f"{short}kv_bytes", b"less")
    shape = lmcache.parse_header(client.get(f"{other}metadata"))
    assert shape is not None
    wrong = Header(
        shape.value_bytes, shape.layout, (TensorGroup("float16", shape.groups[0].shape),)
    )
    client.set(f"{other}metadata", lmcache.pack_header(wrong))
    client.set(f"{strange}metadata", b"nonsense")
    client.set("session:1", "x")
    seen = found(of_redis(client))
    assert "but 4 are stored" in seen["KV-TRUNCATED"].evidence[0]
    assert "but 2,052 are stored" in seen["KV-LENGTH"].evidence[0]
    assert seen["KV-DTYPE"].evidence == (f"{other}: its header says float16",)
    assert seen["KV-UNDECODABLE"].evidence[0].startswith(strange)
    assert seen["KV-FOREIGN"].evidence == ("session:1: not a key of LMCache",)
    assert [f.hazard.severity for f in seen.values()] == sorted(
        (f.hazard.severity for f in seen.values()),
        key=["fatal", "degraded", "warning", "info"].index,
    )


@requires_redis
def test_headers_are_left_unread_where_reading_counts_as_use(client: "redis.Redis") -> None:
    with open_pool(f"lmcache+redis://{_address(client)}") as pool:
        quiet = pool.reads_are_quiet  # type: ignore[attr-defined]
    seen = of_redis(client, Options("quiet", 0))
    codes = {check.code for check in seen.undecided}
    assert codes == (set() if quiet else {"KV-TRUNCATED", "KV-LENGTH", "KV-DTYPE", "KV-SHAPES"})
    assert all("--headers" in check.reason for check in seen.undecided)


def _address(client: "redis.Redis") -> str:
    return f"127.0.0.1:{client.connection_pool.connection_kwargs['port']}"


@requires_redis
def test_entries_that_stay_where_others_expire(client: "redis.Redis") -> None:
    first, *rest = keys("lmcache-redis")
    for key in rest:
        client.expire(f"{key}kv_bytes", 1000)
        client.expire(f"{key}metadata", 1000)
    finding = found(of_redis(client))["KV-NO-EXPIRY"]
    assert finding.count == 1
    assert finding.evidence == (f"{len(rest)} entries expire, these do not:", first)
    client.expire(f"{first}kv_bytes", 1000)
    client.expire(f"{first}metadata", 1000)
    assert of_redis(client).findings == ()


@requires_redis
@pytest.mark.parametrize(
    ("policy", "code"),
    [
        ("noeviction", "KV-NEVER-EVICTS"),
        ("volatile-lru", "KV-NEVER-EVICTS"),
        ("allkeys-lru", None),
    ],
)
def test_a_limit_of_memory_that_the_server_cannot_keep(
    policy: str, code: str | None, client: "redis.Redis"
) -> None:
    client.config_set("maxmemory", "1gb")
    client.config_set("maxmemory-policy", policy)
    assert set(found(of_redis(client))) == ({code} if code else set())


@requires_redis
def test_a_replica_is_a_note(client: "redis.Redis", tmp_path: Path) -> None:
    port = client.connection_pool.connection_kwargs["port"]
    with redis_server(tmp_path) as server, redis.Redis(port=server.port) as replica:
        replica.replicaof("127.0.0.1", port)
        seen = of_redis(replica)
    finding = found(seen)["KV-READ-ONLY"]
    assert finding.hazard.severity == "info"
    assert finding.evidence[0].startswith(("redis", "valkey"))


@requires_redis
def test_a_full_server_that_evicts_nothing(client: "redis.Redis") -> None:
    used = client.info("memory")["used_memory"]
    client.config_set("maxmemory", str(used))
    assert "of" in found(of_redis(client))["KV-FULL"].evidence[0]


def test_one_name_for_two_shapes(tmp_path: Path) -> None:
    folder = copy("lmcache-file", tmp_path)
    header = Header(2 * 2 * 3 * 16 * 2, "KV_2LTD", (TensorGroup("bfloat16", (2, 2, 3, 16)),))
    _write(folder, "ab", header)
    assert report(f"lmcache+file://{folder}").findings == ()
    header = Header(2 * 4 * 16 * 16 * 2, "KV_2LTD", (TensorGroup("bfloat16", (2, 4, 16, 16)),))
    _write(folder, "cd", header)
    finding = found(report(f"lmcache+file://{folder}"))["KV-SHAPES"]
    assert finding.count == 5
    text = "\n".join(finding.evidence)
    assert f"{MODEL} rank 0/2 bfloat16: 4 of KV_2LTD [2, 2, tokens, 16]" in text
    assert "1 of KV_2LTD [2, 4, tokens, 16]" in text


def _write(folder: Path, chunk_hash: str, header: Header) -> None:
    key = f"{MODEL}@2@0@{chunk_hash}@bfloat16"
    path = folder / lmcache.file_name(key)
    path.write_bytes(lmcache.pack_header(header) + bytes(header.value_bytes))


def test_hashes_of_two_algorithms(tmp_path: Path) -> None:
    folder = copy("lmcache-file", tmp_path)
    name = next(path.name for path in folder.iterdir() if "@-70a5" in path.name)
    shutil.copy(folder / name, folder / name.replace("-70a5bb067d00a37f", "90a5bb067d00a37f"))
    finding = found(report(f"lmcache+file://{folder}"))["KV-HASH"]
    assert "4 keys only the builtin hash makes" in finding.evidence[0]
    assert "1 only sha256_cbor" in finding.evidence[0]


def test_what_the_demo_pool_plants(tmp_path: Path) -> None:
    write_demo(tmp_path / "pool", demo_files(30, 0, hazards=True))
    seen = found(report(f"lmcache+file://{tmp_path}/pool", Options()))
    assert {code: f.count for code, f in seen.items()} == {
        "KV-UNDECODABLE": 2,
        "KV-TRUNCATED": 1,
        "KV-TEMPORARY": 1,
        "KV-FOREIGN": 1,
    }
    young = report(f"lmcache+file://{tmp_path}/pool", Options(min_age_s=86400))
    assert young.in_flight == 1
    assert "KV-TEMPORARY" in young.passed


def test_blocks_of_two_dtypes_under_one_conn_id(tmp_path: Path) -> None:
    folder = copy("aibrix-shfs", tmp_path)
    block = next(path for path in sorted(folder.rglob("*")) if path.is_file())
    block.write_bytes(block.read_bytes() * 2)
    finding = found(report(f"aibrix+shfs://{folder}"))["KV-SHARED-SPACE"]
    assert finding.evidence == ("tiny_h0_1_l0_1_lcnd16roc: 3 of 2,048 bytes, 1 of 4,096 bytes",)
    block.write_bytes(block.read_bytes()[:1000])
    seen = found(report(f"aibrix+shfs://{folder}"))
    assert "its 1,000 bytes are no multiple of 128" in seen["KV-TRUNCATED"].evidence[0]


def test_blocks_with_tokens_are_compared_without_them(tmp_path: Path) -> None:
    folder = copy("aibrix-shfs-tokens", tmp_path)
    blocks = sorted((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    largest = blocks[-1]
    largest.write_bytes(bytes(2048) + largest.read_bytes())
    assert found(report(f"aibrix+shfs://{folder}"))["KV-SHARED-SPACE"].evidence == (
        "tiny_h0_1_l0_1_lcnd16simex: 2,048 bytes and 4,096 bytes",
    )
    largest.write_bytes(largest.read_bytes()[:-40])
    assert found(report(f"aibrix+shfs://{folder}"))["KV-TOKENS"].count == 1


def test_the_default_namespace_is_a_note(tmp_path: Path) -> None:
    folder = copy("aibrix-shfs", tmp_path)
    space = next(folder.iterdir())
    space.rename(space.with_name(space.name.replace("tiny", "aibrix")))
    seen = report(f"aibrix+shfs://{folder}")
    assert set(found(seen)) == {"KV-NAMESPACE"}
    assert seen.faults == ()


def test_a_stopped_examination_says_what_is_open(tmp_path: Path) -> None:
    stop = Event()
    stop.set()
    with open_pool(f"lmcache+file://{copy('lmcache-file', tmp_path)}") as pool:
        seen = examine(pool, AT_ONCE, stop=stop)
    assert not seen.complete
    assert {"KV-TEMPORARY", "KV-LENGTH", "KV-HASH"} <= {check.code for check in seen.undecided}
    assert "KV-TEMPORARY" not in seen.passed


def test_a_pool_that_cannot_be_listed_is_refused() -> None:
    with lm_server() as port, pytest.raises(UnsupportedError, match="LIST"):
        report(f"lm://127.0.0.1:{port}")


def test_memory_does_not_grow_with_models_or_faults() -> None:
    census = Census(is_local=False, min_age_s=0)
    for number in range(3 * MOST_GROUPS):
        key = f"m{number}@1@0@{number:x}@half"
        entry = Entry(key, "whole", 1, model=f"m{number}", chunk_hash=f"-{number:x}")
        census.add([entry, Entry(key, "orphan", 1, has_header=False)], now_s=os.times().elapsed)
    assert census.scanned == 6 * MOST_GROUPS
    assert len(census.hashes) == MOST_GROUPS
    assert census.groups_left_out == 2 * MOST_GROUPS
    assert len(census.half_data.examples) <= 5
    assert census.half_data.count == 3 * MOST_GROUPS


def test_every_hazard_has_a_check_and_a_line_in_the_docs() -> None:
    known = [item for item in vars(hazards).values() if isinstance(item, Hazard)]
    checked = [hazard for check in CHECKS for hazard in check.hazards]
    assert sorted(h.code for h in checked) == sorted(h.code for h in known)
    text = (Path(__file__).parents[2] / "docs" / "kv.md").read_text()
    for hazard in known:
        assert f"| {hazard.code} | {hazard.severity} | {hazard.title} |" in text
