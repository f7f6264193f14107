"""KV events of vLLM's own publisher, and of an engine that serves prompts."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kvpool.event_publisher import BATCHES

from .vllm_server import MODEL, command, requires_vllm, vllm_server

pytestmark = requires_vllm
SCRIPT = Path(__file__).parents[1] / "kvpool" / "fixtures" / "make_kv_events.py"
BLOCK_TOKENS = 32


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"tcp://127.0.0.1:{free.getsockname()[1]}"


def follower(*words: str) -> "subprocess.Popen[str]":
    line = [sys.executable, "-m", "aibrixctl", "kv", "events", *words]
    return subprocess.Popen(line, stdout=subprocess.PIPE, text=True)


def finished(process: "subprocess.Popen[str]") -> Any:
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    return json.loads(out)["data"]


@contextmanager
def publishing(events: str, replay: str) -> Iterator["subprocess.Popen[str]"]:
    """vLLM's ZmqEventPublisher; a line on its input publishes one batch."""
    path = command()
    assert path is not None
    python = Path(path).resolve().with_name("python")
    # A publisher binds only where the host is a wildcard.
    addresses = [address.replace("127.0.0.1", "*") for address in (events, replay)]
    line = [str(python), str(SCRIPT), "--serve", *addresses]
    process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    assert any("ready" in line for line in process.stdout)
    yield process
    process.stdin.close()
    process.stdout.close()
    assert process.wait(120) == 0


def test_the_publisher_of_vllm_and_its_replay() -> None:
    """Six batches before anybody listens come by replay, the seventh live."""
    events, replay = free_address(), free_address()
    with publishing(events, replay) as publisher:
        assert publisher.stdin is not None
        publisher.stdin.write("\n" * 6)
        publisher.stdin.flush()
        seen = finished(follower(events, "--replay", replay, "--count", "7", "-o", "json"))
        late = follower(events, "--replay", replay, "--count", "8", "-o", "jsonl")
        assert late.stdout is not None
        first = [json.loads(late.stdout.readline()) for _ in range(7)]
        publisher.stdin.write("\n")
        publisher.stdin.flush()
        *records, summary = map(json.loads, late.communicate(timeout=60)[0].splitlines())
    assert len(BATCHES) == 8
    assert (seen["live_blocks"], seen["stream"]["replayed"]) == (7, 6)
    assert {record["replayed"] for record in first} == {True}
    assert [(record["type"], record["replayed"]) for record in records] == [("cleared", False)]
    assert summary["data"]["live_blocks"] == 0


def test_an_engine_that_serves_prompts(tmp_path: Path) -> None:
    """Two prompts share four blocks, of which the engine stores only one copy."""
    path = command()
    assert path is not None
    events, replay = free_address(), free_address()
    config = {
        "enable_kv_cache_events": True,
        "publisher": "zmq",
        "endpoint": events.replace("127.0.0.1", "*"),
        "replay_endpoint": replay.replace("127.0.0.1", "*"),
    }
    words = ("--kv-events-config", json.dumps(config), "--block-size", str(BLOCK_TOKENS))
    shared = list(range(100, 100 + 4 * BLOCK_TOKENS))
    with vllm_server(path, tmp_path, *words) as server:
        for tail in (200, 300):
            prompt = shared + list(range(tail, tail + 2 * BLOCK_TOKENS))
            body = {"model": MODEL, "prompt": prompt, "max_tokens": 1}
            assert server.ask("POST", "/v1/completions", body)[0] == 200
        words = (events, "--replay", replay, "--for", "3s", "-o", "json", "--model", "llama-3-8b")
        seen = finished(follower(*words))
    assert seen["live_blocks"] == 4 + 2 + 2
    (prefix,) = seen["top_prefixes"]
    assert (prefix["tokens"], prefix["sequences"]) == (4 * BLOCK_TOKENS, 2)
    assert seen["tiers"][0]["bytes"] == 8 * BLOCK_TOKENS * (128 << 10)
    assert seen["stream"]["lost"] == 0
