"""`kv ls`, `kv show` and `kv demo-pool`."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kvpool.pools import MANIFEST, copy, load_redis
from tests.redis_server import redis_server, requires_redis

POOL = "lmcache+file:pool"


@pytest.fixture(autouse=True)
def _pool(tmp_path: Path, cli: Callable[..., Any]) -> None:
    assert cli("kv", "demo-pool", "pool", "--hazards").code == 0


def listed(cli_json: Callable[..., Any], *words: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = cli_json("kv", "ls", POOL, *words)["data"]["entries"]
    return entries


def test_entries_are_sorted_and_cut(cli: Callable[..., Any], cli_json: Callable[..., Any]) -> None:
    everything = listed(cli_json, "--limit", "0")
    assert len(everything) == 241
    assert [entry["key"] for entry in everything] == sorted(entry["key"] for entry in everything)
    for sort, figure in (
        ("size", lambda entry: -entry["bytes"]),
        ("age", lambda entry: entry["stored_s"]),
    ):
        best = sorted(everything, key=lambda entry: (figure(entry), entry["key"]))[:7]
        assert listed(cli_json, "--sort", sort, "--limit", "7") == best
    outcome = cli("kv", "ls", POOL, "--limit", "7")
    assert "7 of 241 entries shown" in outcome.err
    assert len(outcome.out.splitlines()) == 7 + 2


def test_filters_meet(cli_json: Callable[..., Any]) -> None:
    everything = listed(cli_json, "--limit", "0")
    now_s = max(entry["stored_s"] for entry in everything)
    words = ("--model", "demo/c*", "--tag", "tenant=acme", "--min-size", "1KiB")
    found = listed(cli_json, *words, "--older-than", "6h")
    assert found
    assert found == [
        entry
        for entry in everything
        if entry["model"].startswith("demo/c")
        and entry["tags"] == {"tenant": "acme"}
        and entry["bytes"] >= 1024
        and entry["stored_s"] <= now_s - 6 * 3600
    ]
    both = listed(cli_json, "--model", "demo/code-3b", "--model", "demo/embed-1b")
    assert {entry["model"] for entry in both} == {"demo/code-3b", "demo/embed-1b"}
    assert listed(cli_json, "--model", "absent") == []


def test_states_other_than_whole_are_listed_with_their_reason(cli_json: Callable[..., Any]) -> None:
    words = ("--state", "orphan", "--state", "foreign", "--state", "undecodable")
    found = listed(cli_json, *words)
    assert [entry["state"] for entry in found].count("undecodable") == 2
    assert all(entry["reason"] for entry in found)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--sort", "colour"), "'colour' is no order; expected key, size, age, expiry"),
        (("--state", "half"), "'half' is no state"),
        (("--tag", "tenant"), "expected NAME=VALUE"),
        (("--min-size", "large"), "--min-size: 'large' is not a size"),
        (("--older-than", "3"), "write --older-than 3s"),
        (("--limit", "-1"), "--limit"),
    ],
)
def test_bad_options(words: tuple[str, ...], says: str, cli: Callable[..., Any]) -> None:
    outcome = cli("kv", "ls", POOL, *words)
    assert outcome.code == 2
    assert says in outcome.err


def test_an_age_cannot_be_asked_of_a_pool_that_keeps_none(cli: Callable[..., Any]) -> None:
    outcome = cli("kv", "ls", "aibrix+redis://127.0.0.1:1", "--older-than", "1h")
    assert outcome.code == 13


@pytest.mark.parametrize("form", ["table", "wide", "csv", "jsonl", "yaml"])
def test_every_format(form: str, cli: Callable[..., Any]) -> None:
    outcome = cli("kv", "ls", POOL, "--model", "demo/embed-1b", "--limit", "3", "-o", form)
    assert outcome.code == 0
    assert "demo/embed-1b" in outcome.out
    if form == "table":
        assert all(len(line) <= 80 for line in outcome.out.splitlines())


def test_show_decodes_a_header_and_sums_the_data(cli_json: Callable[..., Any]) -> None:
    entry = listed(cli_json, "--model", "demo/chat-8b", "--limit", "1")[0]
    data = cli_json("kv", "show", POOL, entry["key"])["data"]
    assert data["entry"] == entry
    assert data["faults"] == []
    path = Path("pool") / (entry["key"].replace("/", "-SEP-") + ".data")
    assert data["sha256"] == hashlib.sha256(path.read_bytes()[28:]).hexdigest()
    assert entry["header"]["groups"][0]["dtype"] == "bfloat16"


def test_show_takes_the_start_of_a_hash(
    cli: Callable[..., Any], cli_json: Callable[..., Any]
) -> None:
    entry = next(
        e for e in listed(cli_json, "--model", "demo/code-3b") if e["chunk_hash"][0] != "-"
    )
    found = cli_json("kv", "show", POOL, entry["chunk_hash"][:8])["data"]["entry"]
    assert found == entry
    hashes = [e["chunk_hash"] for e in listed(cli_json, "--model", "demo/chat-8b", "--limit", "0")]
    shared = next(text for text in hashes if text[0] != "-" and hashes.count(text) == 2)
    outcome = cli("kv", "show", POOL, shared)
    assert outcome.code == 2
    assert f"@2@0@{shared}@" in outcome.err
    assert f"@2@1@{shared}@" in outcome.err
    outcome = cli("kv", "show", POOL, "ffffffffffff")
    assert outcome.code == 2
    assert "has no entry 'ffffffffffff'" in outcome.err


def test_show_names_what_is_wrong_with_an_entry(cli: Callable[..., Any]) -> None:
    out = cli("kv", "show", POOL, "c07d00c0ffee02").out
    assert "but 2,034 are stored" in out
    out = cli("kv", "show", POOL, "bad000c0ffee03").out
    assert "undecodable" in out
    assert "begins with no header" in out


def test_show_prints_the_tokens_behind_a_block(
    tmp_path: Path, cli: Callable[..., Any], cli_json: Callable[..., Any]
) -> None:
    item = MANIFEST["parts"]["aibrix-shfs-tokens"][1]
    url = f"aibrix+shfs://{copy('aibrix-shfs-tokens', tmp_path)}"
    data = cli_json("kv", "show", url, item["key"][:10])["data"]
    start, end = item["tokens"]
    assert data["token_ids"] == MANIFEST["prompt"][start:end]
    assert data["prefix_tokens"] == MANIFEST["prompt"][:start]
    assert data["key_builder"] == "simple hash"
    assert "token ids  16: " in cli("kv", "show", url, item["key"][:10]).out


@requires_redis
def test_show_finds_orphans_and_expiry_in_redis(
    tmp_path: Path, cli: Callable[..., Any], cli_json: Callable[..., Any]
) -> None:
    with redis_server(tmp_path) as server, load_redis(server.port) as client:
        url = f"lmcache+redis://127.0.0.1:{server.port}"
        key = MANIFEST["parts"]["lmcache-redis"][0]["key"]
        client.expire(f"{key}metadata", 5000)
        data = cli_json("kv", "show", url, key)["data"]
        assert data["entry"]["expires_s"] is not None
        assert data["entry"]["header"]["value_bytes"] == 2048
        client.delete(f"{key}metadata")
        data = cli_json("kv", "show", url, key)["data"]
        assert (data["entry"]["state"], data["faults"]) == ("orphan", ["data without metadata"])
        assert data["sha256"] is None


def test_the_demo_pool_is_the_same_for_the_same_seed(cli: Callable[..., Any]) -> None:
    def contents(folder: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}

    for folder, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        assert cli("kv", "demo-pool", folder, "--entries", "30", "--seed", seed).code == 0
    assert contents("a") == contents("b") != contents("c")
    assert len(contents("a")) == 30


def test_the_demo_pool_spares_a_folder_in_use(
    cli: Callable[..., Any], cli_json: Callable[..., Any]
) -> None:
    outcome = cli("kv", "demo-pool", "pool")
    assert outcome.code == 2
    assert "not an empty folder" in outcome.err
    data = cli_json("kv", "demo-pool", "fresh", "--dry-run", "--entries", "10")["data"]
    assert (data["files"], Path("fresh").exists()) == (10, False)


def test_jsonl_ends_with_a_summary(cli: Callable[..., Any]) -> None:
    lines = cli("kv", "ls", POOL, "--limit", "2", "-o", "jsonl").out.splitlines()
    assert [json.loads(line)["type"] for line in lines] == ["entry", "entry", "summary"]


def test_names_that_are_no_text_are_escaped_everywhere(cli: Callable[..., Any]) -> None:
    with open(b"pool/\xff\xfe", "wb"):  # noqa: PTH123 - Path takes no bytes
        pass
    words = ("kv", "ls", POOL, "--state", "foreign", "-o", "json")
    assert cli(*words, "--output-file", "out.json").code == 0
    assert json.loads(Path("out.json").read_text())["data"] == json.loads(cli(*words).out)["data"]
    assert "\\udcff\\udcfe" in Path("out.json").read_text()
