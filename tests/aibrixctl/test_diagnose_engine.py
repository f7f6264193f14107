"""The command on engines in processes of their own."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

QUICK = ("--interval", "200ms", "--timeout", "1s")
SERVE = ("profile", "serve-sim", "--accelerator", "a10", "--model", "llama-2-7b", "--port", "0")


@contextmanager
def serving(*more: str) -> Iterator[str]:
    """A simulated engine in a process of its own; its URL."""
    words = [sys.executable, "-m", "aibrixctl", *SERVE, "--speed", "50", *more]
    with subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            found = re.search(r" at (http://\S+)$", line)
            assert found, line
            yield found[1]
        finally:
            process.kill()


@pytest.fixture(scope="module")
def sound() -> Iterator[str]:
    with serving() as url:
        yield url


def test_a_sound_engine_is_healthy_and_said_to_be_simulated(
    sound: str, cli_json: Callable[..., Any]
) -> None:
    body = cli_json("diagnose", "engine", sound, "--interval", "200ms", "--timeout", "20s")
    assert (body["exit_code"], body["status"]) == (0, "success")
    assert body["data"]["verdict"] == "healthy"
    assert body["data"]["simulated"]
    assert [warning["code"] for warning in body["warnings"]] == ["diagnose.simulated"]


def test_the_view_shows_the_readings_and_the_canary(sound: str, cli: Callable[..., Any]) -> None:
    outcome = cli("diagnose", "engine", sound, "--interval", "200ms", "--timeout", "20s")
    assert outcome.out.startswith(f"SIMULATED  {sound}  Healthy: 8 checks passed\n")
    assert "KV CACHE" in outcome.out
    assert "Canary: 4 tokens in" in outcome.out


def test_a_wedged_engine_is_exit_10_with_meaning_and_action(cli: Callable[..., Any]) -> None:
    with serving("--fault", "wedge") as url:
        outcome = cli("diagnose", "engine", url, *QUICK)
    assert outcome.code == 10
    for text in ("FATAL", "ENGINE-WEDGED", url, "canary no whole answer within 1 s", "restart it"):
        assert text in outcome.out
    assert "1 fault found: ENGINE-WEDGED" in outcome.err


def test_findings_are_the_records_of_json_lines(cli: Callable[..., Any]) -> None:
    with serving("--fault", "errors=100%") as url:
        outcome = cli("diagnose", "engine", url, *QUICK, "-o", "jsonl")
    first, last = map(json.loads, outcome.out.splitlines())
    assert (first["type"], first["code"]) == ("finding", "ENGINE-ERRORS")
    assert (last["type"], last["exit_code"]) == ("summary", 10)


def test_nobody_there_is_exit_13(cli_json: Callable[..., Any]) -> None:
    body = cli_json("diagnose", "engine", "http://127.0.0.1:1", *QUICK)
    assert (body["exit_code"], body["data"]["verdict"]) == (13, "no_access")
    assert body["errors"][0]["code"] == "engine.unreachable"


def test_a_refused_key_is_exit_13_with_the_option_to_give_it(
    cli_json: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "key"
    path.write_text("very-secret\n")
    with serving("--api-key-file", str(path)) as url:
        body = cli_json("diagnose", "engine", url, *QUICK)
        assert body["exit_code"] == 13
        assert "--token-file" in body["errors"][0]["hint"]
        found = cli_json("diagnose", "engine", url, "--interval", "50ms", "--token-file", str(path))
        assert found["exit_code"] == 0


def test_another_server_is_unknown_and_never_healthy(
    cli_json: Callable[..., Any], tmp_path: Path
) -> None:
    words = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with subprocess.Popen(
        words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"(http://\S+?)/\)", process.stdout.readline())
            assert found
            body = cli_json("diagnose", "engine", found[1], *QUICK)
        finally:
            process.kill()
    assert (body["exit_code"], body["status"]) == (3, "partial")
    checks = {one["check"] for one in body["data"]["unchecked"]}
    assert {"engine-health", "engine-progress", "engine-queue"} <= checks


def test_a_signal_ends_it_with_what_was_seen(sound: str) -> None:
    words = [sys.executable, "-m", "aibrixctl", "diagnose", "engine", sound, "-v", "-o", "json"]
    with subprocess.Popen(
        [*words, "--interval", "60s"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert "looking at" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 143
    body = json.loads(out)
    assert body["status"] == "partial"
    assert body["data"]["facts"]["engine"]["scrapes"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("host:8000",), "engine.url"),
        (("http://host", "--samples", "1"), "usage"),
        (("http://host", "--interval", "0s"), "engine.time"),
    ],
)
def test_bad_usage_is_exit_2(
    words: tuple[str, ...], code: str, cli_json: Callable[..., Any]
) -> None:
    body = cli_json("diagnose", "engine", *words)
    assert body["exit_code"] == 2
    assert code in body["errors"][0]["code"]
