"""`kv events`: what a publisher of vLLM's real encoding sends, counted, drawn and streamed."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kvpool.event_publisher import BATCHES, numbered, publisher

Cli = Callable[..., Any]
ALL = dict(numbered(*range(8)))
PROGRAM = [sys.executable, "-m", "aibrixctl", "kv", "events"]


def test_the_state_after_the_real_batches(cli_json: Cli) -> None:
    with publisher(numbered(*range(6))) as at:
        body = cli_json("kv", "events", at.events, "--count", "7", "--bytes-per-token", "1KiB")
    data = body["data"]
    assert (body["exit_code"], body["status"], body["warnings"]) == (0, "success", [])
    assert data["tiers"] == [
        {"medium": "CPU", "group": None, "blocks": 2, "tokens": 32, "bytes": 32 << 10},
        {"medium": "GPU", "group": None, "blocks": 5, "tokens": 80, "bytes": 80 << 10},
    ]
    assert (data["live_blocks"], data["peak_blocks"], data["span_s"]) == (7, 7, 5)
    assert data["counts"]["stored_again"] == 1
    (prefix,) = data["top_prefixes"]
    assert bytes.fromhex(prefix["block"]).startswith(b"a2.")
    assert (prefix["tokens"], prefix["sequences"], prefix["spared_tokens"]) == (32, 3, 64)


def test_count_ends_within_a_batch(cli_json: Cli) -> None:
    with publisher(numbered(0, 1)) as at:
        data = cli_json("kv", "events", at.events, "--count", "2")["data"]
    assert (data["counts"]["events"], data["live_blocks"]) == (2, 6)


def test_the_table(cli: Cli) -> None:
    live = numbered(*range(6))
    with publisher(live) as at:
        outcome = cli("kv", "events", at.events, "--count", "7", "--model", "llama-3-8b")
    assert outcome.code == 0
    assert max(map(len, outcome.out.splitlines())) <= 80
    for text in (
        "7 events in 6 batches over 5 s",
        "10 blocks stored, 3 removed",
        "1 of these (10%) were stored again soon after their removal",
        "7 distinct blocks, 7 at most",
        "10 MiB",
        "61322e2e2e2e",
    ):
        assert text in outcome.out


def test_records_come_as_lines_and_hold_no_prompts(cli: Cli) -> None:
    with publisher(numbered(*range(8))) as at:
        outcome = cli("kv", "events", at.events, "--count", "9", "-o", "jsonl")
    *records, summary = map(json.loads, outcome.out.splitlines())
    kinds = [record["type"] for record in records]
    assert kinds == [*["stored"] * 4, "removed", "stored", "removed", "cleared", "stored"]
    assert (summary["type"], summary["data"]["live_blocks"]) == ("summary", 1)
    assert records[0]["tokens"] == 64
    assert records[1]["parent"] == records[0]["hashes"][1]
    assert (records[8]["lora"], records[8]["sequence"]) == ("sql", 7)
    assert not any("token_ids" in record for record in records)


def test_token_ids_where_they_are_asked_for(cli: Cli) -> None:
    with publisher(numbered(0)) as at:
        outcome = cli("kv", "events", at.events, "--count", "1", "-o", "jsonl", "--token-ids")
    assert json.loads(outcome.out.splitlines()[0])["token_ids"] == list(range(64))


@pytest.mark.parametrize("form", ["yaml", "csv", "wide"])
def test_other_formats(form: str, cli: Cli) -> None:
    with publisher(numbered(0, 1)) as at:
        outcome = cli("kv", "events", at.events, "--count", "3", "-o", form)
    assert outcome.code == 0
    assert b"a2".ljust(32, b".").hex() in outcome.out


def test_replay_tells_what_was_before(cli_json: Cli) -> None:
    with publisher(numbered(5), [ALL | {6: BATCHES[0]}]) as at:
        body = cli_json("kv", "events", at.events, "--replay", at.replay, "--count", "6")
    assert body["data"]["stream"]["replayed"] == 5
    assert body["data"]["stream"]["joined_at"] == 0
    assert body["warnings"] == []


def test_lost_batches_are_exit_3(cli_json: Cli) -> None:
    with publisher(numbered(1, 4)) as at:
        body = cli_json("kv", "events", at.events, "--count", "3")
    assert (body["exit_code"], body["status"]) == (3, "partial")
    assert body["data"]["stream"]["gaps"] == [{"first": 2, "last": 3, "recovered": 0}]
    assert body["errors"][0]["code"] == "kv.events.lost"
    assert "1 batches were before" in body["warnings"][0]["message"]


def test_a_new_engine_begins_empty(cli_json: Cli) -> None:
    with publisher([*numbered(3, 4), (0, BATCHES[7])]) as at:
        body = cli_json("kv", "events", at.events, "--count", "3")
    assert body["data"]["live_blocks"] == 1
    assert body["data"]["stream"]["restarts"] == 1
    assert any("started anew" in warning["message"] for warning in body["warnings"])


def test_time_ends_it_too(cli_json: Cli) -> None:
    with publisher([]) as at:
        data = cli_json("kv", "events", at.events, "--for", "200ms")["data"]
    assert (data["counts"]["events"], data["span_s"], data["tiers"]) == (0, None, [])


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("tcp://127.0.0.1:1", "--connect-timeout", "200ms"), 13, "--kv-events-config"),
        (("tcp://*:5557",), 2, "in place of *"),
        (("127.0.0.1:5557",), 2, "expected tcp://HOST:PORT"),
        (("tcp://127.0.0.1:1", "--replay", "x"), 2, "expected tcp://HOST:PORT"),
        (("tcp://127.0.0.1:1", "--for", "3"), 2, "write --for 3s"),
        (("tcp://127.0.0.1:1", "-o", "jsonl", "--output-file", "f"), 2, "> FILE"),
    ],
)
def test_bad_input(words: tuple[str, ...], code: int, says: str, cli: Cli) -> None:
    outcome = cli("kv", "events", *words)
    assert outcome.code == code
    assert says in outcome.err + outcome.out


def test_an_interrupt_prints_what_came() -> None:
    with publisher(numbered(0)) as at:
        process = subprocess.Popen(
            [*PROGRAM, at.events, "-o", "jsonl"], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["type"] == "stored"
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    summary = json.loads(out)
    assert (process.returncode, summary["status"]) == (130, "partial")
    assert summary["data"]["live_blocks"] == 4


def test_a_closed_pipe_ends_it_quietly(tmp_path: Path) -> None:
    with publisher(numbered(*range(8))) as at:
        done = subprocess.run(
            f"{' '.join(PROGRAM)} {at.events} -o jsonl | head -n 0",
            shell=True, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
    assert (done.stdout, done.stderr) == ("", "")
