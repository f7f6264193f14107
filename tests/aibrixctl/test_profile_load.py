"""``profile load`` as a user runs it, against a real engine."""

import asyncio
import io
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..profiler.load.conftest import Engine, Request, after_probe, good, plain


async def refuse(request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(plain(503, {"error": {"message": "overloaded"}}))


async def slow(request: Request, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0.05)
    await good(request, writer)


@pytest.fixture(autouse=True)
def _quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other work on the machine that runs the tests is not their subject."""
    monkeypatch.setattr("profiler.load.health.FLOOR_MS", 10_000.0)


@pytest.fixture
def engine() -> Iterator[Engine]:
    running = Engine(slow)
    yield running
    running.close()


def words(engine: Engine, *more: str) -> list[str]:
    return [
        *("profile", "load", "--base-url", engine.url, "--model", "m", "--warmup", "0s"),
        *("--input-tokens", "32", "--output-tokens", "4", *more),
    ]


OPEN = ("--request-rate", "40", "--num-prompts", "20")


def test_json_holds_what_was_measured(cli_json, engine) -> None:
    body = cli_json(*words(engine, *OPEN, "--slo", "ttft_p99<=20s"))
    data = body["data"]
    assert (body["status"], body["exit_code"]) == ("success", 0)
    assert data["requests"] == {
        "offered": 20,
        "sent": 20,
        "completed": 20,
        "failed": 0,
        "by_cause": {},
    }
    assert data["ttft_ms"]["p50"] >= 50
    assert data["certified"] is True
    assert data["slos"] == [
        {"metric": "ttft", "statistic": "p99", "limit_ms": 20000.0, "met": True}
    ]
    assert (data["input_tokens_mean"], data["output_tokens_mean"]) == (32, 4)


def test_shards_are_shown_one_by_one(cli, cli_json, engine) -> None:
    data = cli_json(*words(engine, *OPEN, "--shards", "2"))["data"]
    assert (data["shards"], data["requests"]["completed"], data["complete"]) == (2, 20, True)
    assert [one["shard"] for one in data["client"]["shards"]] == ["1 of 2", "2 of 2"]
    outcome = cli(*words(engine, *OPEN, "--shards", "2"))
    assert "shard 2 of 2  10 requests, send lag p99" in outcome.out


def test_a_load_has_one_place_to_go(cli_json, engine) -> None:
    for more in ((), ("--target", "k8s:deployment/x")):
        place = ("--base-url", engine.url) if more else ()
        body = cli_json("profile", "load", *place, *more, "--model", "m",
                        "--input-tokens", "8", "--output-tokens", "4")  # fmt: skip
        assert (body["exit_code"], body["errors"][0]["code"]) == (2, "load.target")


def test_the_salt_of_a_run_repeats_its_prompts(cli_json, engine) -> None:
    salt = cli_json(*words(engine, *OPEN))["data"]["load"]["salt"]
    first = sorted(request.prompt for request in engine.load)
    engine.requests.clear()
    cli_json(*words(engine, *OPEN, "--salt", salt))
    assert sorted(request.prompt for request in engine.load) == first
    engine.requests.clear()
    cli_json(*words(engine, *OPEN))
    assert not set(first) & {request.prompt for request in engine.load}


def test_a_missed_objective_is_a_verdict(cli_json, engine) -> None:
    body = cli_json(*words(engine, *OPEN, "--slo", "ttft_p50<=1ms"))
    assert body["exit_code"] == 12
    assert body["errors"][0]["message"] == "missed ttft_p50<=1ms"


def test_goodput_counts_and_gives_no_verdict(cli_json, engine) -> None:
    body = cli_json(*words(engine, *OPEN, "--goodput", "ttft:1 e2el:60000"))
    assert body["exit_code"] == 0
    assert body["data"]["goodput"] == 0
    assert body["data"]["slos"] == []


def test_a_capped_load_is_not_certified(cli_json, engine) -> None:
    body = cli_json(*words(engine, "--request-rate", "200", *OPEN[2:], "--max-concurrency", "1"))
    assert (body["status"], body["exit_code"]) == ("partial", 3)
    assert body["errors"][0]["code"] == "load.not_certified"


def test_all_failed(cli_json) -> None:
    failing = Engine(after_probe(refuse))
    try:
        body = cli_json(*words(failing, *OPEN))
    finally:
        failing.close()
    assert (body["status"], body["exit_code"]) == ("error", 1)
    assert body["errors"][0]["hint"] == "overloaded"
    assert body["data"]["requests"]["by_cause"] == {"http_503": 20}


@pytest.mark.parametrize(
    ("more", "code", "error"),
    [
        (["--model", "other", "--request-rate", "1"], 2, "load.model"),
        ([], 2, "load.config"),
        (["--request-rate", "-1"], 2, "load.config"),
        (["--request-rate", "nan"], 2, "load.config"),
        (["--request-rate", "1", "--input-tokens", "0"], 2, "load.config"),
        (["--request-rate", "1", "--base-url", "ftp://x"], 2, "load.url"),
        (["--request-rate", "1", "--base-url", "http://127.0.0.1:1"], 13, "load.unreachable"),
        (["--request-rate", "1", "--arrival", "fair"], 2, "load.arrival"),
        (["--request-rate", "1", "--goodput", "ttft"], 2, "load.goodput"),
        (["--request-rate", "1", "--extra-body", "[1]"], 2, "load.extra_body"),
        (["--request-rate", "1", "--duration", "fast"], 2, "units.unreadable"),
        (["--request-rate", "1", "--token-file", "/nowhere/key"], 2, "file.unreadable"),
    ],
)
def test_bad_input(cli_json, engine, more: list[str], code: int, error: str) -> None:
    body = cli_json(*words(engine, *more))
    assert body["exit_code"] == code
    assert body["errors"][0]["code"] == error
    assert not engine.load


def test_a_wrong_key_is_refused_and_never_shown(cli, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sesame-wrong\n")
    guarded = Engine(good, token="sesame-right")
    try:
        outcome = cli(*words(guarded, *OPEN, "--token-file", str(key), "-vv"))
    finally:
        guarded.close()
    assert outcome.code == 13
    assert "refuses access: HTTP 401" in outcome.err
    assert "sesame" not in outcome.out + outcome.err


@pytest.mark.parametrize("form", ["table", "json", "jsonl"])
def test_a_key_that_the_server_repeats_is_not_shown(
    form: str, cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def repeat(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(plain(500, {"error": {"message": "no quota for sesame-right"}}))

    guarded = Engine(after_probe(repeat), token="sesame-right")
    monkeypatch.setattr("sys.stdin", io.StringIO("sesame-right\n"))
    try:
        outcome = cli(*words(guarded, *OPEN, "--token-file", "-", "-vv", "-o", form))
    finally:
        guarded.close()
    assert outcome.code == 1
    assert "no quota for ***" in outcome.err
    assert "sesame" not in outcome.out + outcome.err


def test_the_table_names_every_figure(cli, engine) -> None:
    outcome = cli(*words(engine, *OPEN))
    for part in ("TTFT from schedule", "ITL", "TPOT", "E2E", "send lag", "loop lag", "certified"):
        assert part in outcome.out
    assert "open loop, 40 requests/s (poisson); 32 in, 4 out" in outcome.out


def test_json_lines_have_a_record_a_request_then_the_figures(cli, engine) -> None:
    outcome = cli(*words(engine, *OPEN, "-o", "jsonl"))
    records = [json.loads(line) for line in outcome.out.splitlines()]
    assert [r["type"] for r in records] == ["request"] * 20 + ["figures", "summary"]
    assert all(r["ttft_ms"] >= 50 and r["error"] is None for r in records[:20])


def test_sigint_prints_what_was_measured() -> None:
    enough = threading.Event()

    async def tell(request: Request, writer: asyncio.StreamWriter) -> None:
        await slow(request, writer)
        if len(running.load) > 10:
            enough.set()

    running = Engine(tell)
    command = words(running, "--max-concurrency", "2", "--duration", "10m", "-o", "json")
    process = subprocess.Popen(
        [sys.executable, "-m", "aibrixctl", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert enough.wait(30)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
        running.close()
    body = json.loads(out)
    assert process.returncode == body["exit_code"] == 130
    assert body["status"] == "partial"
    assert body["data"]["complete"] is False
    assert body["data"]["requests"]["completed"] >= 1


@pytest.mark.parametrize(
    "words",
    [
        ("load", "--request-rate", "1", "--base-url"),
        ("run", "--slo", "ttft_p99<=2s", "--out", "p", "--target"),
    ],
)
def test_sigint_ends_the_wait_for_a_server(words: tuple[str, ...], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        where = url if "load" in words else f"a10={url}"
        command = ["profile", *words, where, "--model", "m", "--input-tokens", "8"]
        command += ["--output-tokens", "8", "--ready-timeout", "10m"]
        process = subprocess.Popen(
            [sys.executable, "-m", "aibrixctl", *command, "-o", "json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=tmp_path,
        )
        try:
            asking, _ = listener.accept()
            process.send_signal(signal.SIGINT)
            asking.close()
            listener.close()
            out, _ = process.communicate(timeout=30)
        finally:
            process.kill()
            process.communicate()
    body = json.loads(out)
    assert process.returncode == body["exit_code"] == 130
    assert body["errors"][0]["message"] == f"stopped while waiting for {url}"
