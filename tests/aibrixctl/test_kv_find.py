"""`kv find` as operators and scripts run it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kvpool.pools import MANIFEST, MODEL, copy, load_redis
from tests.kvpool.test_find import write_tokenizer
from tests.redis_server import redis_server, requires_redis

STORED = MANIFEST["prompt"][:40]
TOKENS = ("--tokens", "tokens.json")


@pytest.fixture
def pool(tmp_path: Path) -> str:
    Path("tokens.json").write_text(json.dumps(STORED))
    return f"lmcache+file:{copy('lmcache-file', tmp_path).name}"


def test_a_cached_prompt(pool: str, cli: Callable[..., Any], cli_json: Callable[..., Any]) -> None:
    body = cli_json("kv", "find", pool, "--model", MODEL, *TOKENS)
    assert (body["exit_code"], body["status"]) == (0, "success")
    (group,) = body["data"]["groups"]
    assert (group["name"], group["prefix_tokens"], group["prefix_blocks"]) == (MODEL, 40, 3)
    assert [block["entries"] for block in group["blocks"]] == [2, 2, 2]
    out = cli("kv", "find", pool, *TOKENS).out
    assert "40 of 40 tokens cached from the start (100%), 3 of 3 blocks" in out
    assert "███" in out


def test_where_the_prefix_ends(pool: str, cli: Callable[..., Any]) -> None:
    Path("tokens.json").write_text(json.dumps([*STORED, 1]))
    out = cli("kv", "find", pool, *TOKENS).out
    assert "32 of 41 tokens cached from the start (78%), 2 of 3 blocks" in out
    assert "first gap at token 32: block " in out
    assert out.count("missing") == 1
    assert all(len(line) <= 100 for line in out.splitlines())


@pytest.mark.parametrize("form", ["table", "wide", "csv", "jsonl", "yaml"])
def test_every_format(form: str, pool: str, cli: Callable[..., Any]) -> None:
    outcome = cli("kv", "find", pool, *TOKENS, "-o", form)
    assert outcome.code == 0
    assert MODEL in outcome.out
    if form == "wide":
        assert "70f9e17612b8afb3" in outcome.out


def test_nothing_cached_says_what_was_tried(
    pool: str, cli: Callable[..., Any], cli_json: Callable[..., Any]
) -> None:
    Path("tokens.json").write_text("[1, 2, 3]")
    body = cli_json("kv", "find", pool, *TOKENS)
    assert body["data"]["groups"] == []
    assert body["exit_code"] == 0
    (warning,) = body["warnings"]
    assert "tried builtin, without vLLM's root, 16 tokens" in warning["message"]
    assert "sha256_cbor, PYTHONHASHSEED=0, 16 tokens" in warning["message"]
    outcome = cli("kv", "find", pool, *TOKENS, "--model", "absent")
    assert "no entries of absent" in outcome.err


def test_a_text_is_tokenized(pool: str, tmp_path: Path, cli_json: Callable[..., Any]) -> None:
    write_tokenizer(tmp_path)
    Path("prompt.txt").write_text("the cache the pool")
    words = ("kv", "find", pool, "--prompt-file", "prompt.txt", "--tokenizer", "tokenizer.json")
    assert cli_json(*words)["data"]["prompt_tokens"] == 5
    assert cli_json(*words, "--no-special-tokens")["data"]["prompt_tokens"] == 4


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "expected either --tokens or --prompt-file"),
        ((*TOKENS, "--prompt-file", "x"), "expected either --tokens or --prompt-file"),
        (("--prompt-file", "x"), "--prompt-file needs --tokenizer"),
        (("--tokens", "absent"), "cannot read absent: No such file"),
        ((*TOKENS, "--hash", "md5"), "'md5' is no hash"),
        ((*TOKENS, "--hash-seed", "random"), "no PYTHONHASHSEED that can be shared"),
        ((*TOKENS, "--dtype", "nf4"), "'nf4' is no dtype"),
        ((*TOKENS, "--chunk-tokens", "0"), "--chunk-tokens"),
    ],
)
def test_bad_use(words: tuple[str, ...], says: str, pool: str, cli: Callable[..., Any]) -> None:
    outcome = cli("kv", "find", pool, *words)
    assert outcome.code == 2
    assert says in outcome.err


def test_no_tokenizer(pool: str, cli: Callable[..., Any]) -> None:
    Path("prompt.txt").write_text("x")
    Path("broken.json").write_text("{")
    words = ("--prompt-file", "prompt.txt", "--tokenizer", "broken.json")
    outcome = cli("kv", "find", pool, *words)
    assert outcome.code == 1
    assert "no tokenizer can be made of 'broken.json'" in outcome.err


@requires_redis
def test_keys_of_one_engine_are_asked_for_without_a_scan(
    pool: str, tmp_path: Path, cli_json: Callable[..., Any]
) -> None:
    with redis_server(tmp_path) as server, load_redis(server.port) as client:
        url = f"lmcache+redis://127.0.0.1:{server.port}"
        engine = ("--model", MODEL, "--world-size", "2", "--dtype", "bfloat16")
        client.config_resetstat()
        body = cli_json("kv", "find", url, *TOKENS, *engine, "--chunk-tokens", "16")
        assert body["data"]["groups"][0]["prefix_tokens"] == 40
        assert "cmdstat_scan" not in client.info("commandstats")


def test_the_prompt_of_the_demo_pool_is_cached_but_for_its_end(
    cli: Callable[..., Any], cli_json: Callable[..., Any]
) -> None:
    for seed in ("0", "1", "2"):
        made = ("kv", "demo-pool", f"demo_pool{seed}", "--seed", seed, *TOKENS)
        assert cli(*made).code == 0
        data = cli_json("kv", "find", f"lmcache+file:demo_pool{seed}", *TOKENS)["data"]
        (group,) = data["groups"]
        assert group["prefix_tokens"] == data["prompt_tokens"] - 32 > 0
