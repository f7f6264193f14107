"""What the load client costs and how true its clock is, beside bare clients, in one run.

    python benchmarks/bench_client.py [--requests 20000] [--rounds 3]

The engine is ``paced_server.c`` (needs a C compiler), which knows its own send times:

- full speed, 64 streams, answers of 100 tokens: CPU per 1,000 chunks of about 200 bytes, for a
  protocol that only counts bytes, one that splits events, one that parses each, and ours, which
  does everything up to the percentiles;
- 200 streams started together, first token after 100 ms and one every 20 ms: our percentiles
  less those of the server's own log.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import uvloop

from profiler.load import LoadConfig, run_load

TOKENS = 100
SOURCE = Path(__file__).with_name("paced_server.c")


@contextlib.contextmanager
def server(program: str, ttft_ms: float, itl_ms: float) -> Iterator[str]:
    """Run the paced server; yield its URL."""
    words = [program, "0", str(ttft_ms), str(itl_ms)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


class Bare(asyncio.Protocol):
    """Sends one request after another; does as little with the answers as its kind allows."""

    def __init__(self, run: "BareRun"):
        self.run = run
        self.left = 0
        self.rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        if self.run.left == 0:
            self.transport.close()
            self.run.open -= 1
            if not self.run.open:
                self.run.over.set()
            return
        self.run.left -= 1
        self.transport.write(self.run.wire)

    def data_received(self, data: bytes) -> None:
        self.run.handle(self, data)
        if data.endswith(b"0\r\n\r\n"):
            self.send()


class BareRun:
    def __init__(self, kind: str, requests: int):
        self.left = requests
        self.open = 64
        self.kind = kind
        self.chunks = 0
        self.over = asyncio.Event()
        body = json.dumps({"model": "m", "prompt": "x " * 127, "max_tokens": TOKENS}).encode()
        self.wire = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (
            len(body),
            body,
        )

    def handle(self, bare: Bare, data: bytes) -> None:
        time.monotonic()
        if self.kind == "count bytes":
            self.chunks += 0
            return
        events = (bare.rest + data).split(b"\n\n")
        bare.rest = events.pop()
        for event in events:
            if b"data: {" not in event:
                continue
            if self.kind == "parse events":
                orjson.loads(event[event.index(b"{") :])
            self.chunks += 1


def bare_cost(url: str, kind: str, requests: int) -> float:
    """Return CPU ms per 1,000 chunks of a bare client."""

    async def run() -> None:
        load = BareRun(kind, requests)
        loop = asyncio.get_running_loop()
        port = int(url.rsplit(":", 1)[1])
        for _ in range(64):
            await loop.create_connection(lambda: Bare(load), "127.0.0.1", port)
        await load.over.wait()

    before = time.process_time()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
    return (time.process_time() - before) * 1e6 / (requests * TOKENS)


def our_cost(url: str, requests: int) -> float:
    """Return CPU ms per 1,000 chunks of a whole run, checks and percentiles included."""
    config = LoadConfig(
        url, "m", 128, TOKENS, max_concurrency=64, num_prompts=requests, warmup_s=0.0
    )
    before = time.process_time()
    run = run_load(config)
    cpu = time.process_time() - before
    assert run.summary.completed == requests, run.messages
    assert run.chunks == requests * TOKENS
    return cpu * 1e6 / run.chunks


def full_speed(program: str, requests: int, rounds: int) -> None:
    kinds = ("count bytes", "split events", "parse events")
    costs: dict[str, list[float]] = {kind: [] for kind in (*kinds, "ours")}
    with server(program, 0, 0) as url:
        for _ in range(rounds):
            for kind in kinds:
                costs[kind].append(bare_cost(url, kind, requests))
            costs["ours"].append(our_cost(url, requests))
    print("full speed, 64 streams: CPU ms per 1,000 chunks, median (min)")
    base = statistics.median(costs["count bytes"])
    for kind, values in costs.items():
        middle = statistics.median(values)
        print(f"  {kind:14} {middle:6.2f} ({min(values):.2f})   x{middle / base:.1f}")


def paced(program: str, rounds: int) -> None:
    print("200 streams started together: ours (the server's own), ms")
    for _ in range(rounds):
        with server(program, 100, 20) as url:
            config = LoadConfig(
                url, "m", 128, TOKENS, max_concurrency=200, num_prompts=200, warmup_s=0.0
            )
            before = time.process_time()
            run = run_load(config)
            cpu_ms = (time.process_time() - before) * 1e6 / run.chunks
            with urllib.request.urlopen(f"{url}/log") as answer:
                log = [json.loads(line) for line in answer.read().splitlines()]
        # The calibration's requests asked for one token each.
        rows = [row for row in log if len(row["sent"]) == TOKENS]
        ttft = np.array([row["sent"][0] - row["received"] for row in rows]) * 1e3
        gaps = np.concatenate([np.diff(row["sent"]) for row in rows]) * 1e3
        figures = []
        for name, own in (("ttft", ttft), ("itl", gaps)):
            stats = run.summary.latency[name]
            assert stats is not None
            for percentile in (50, 99):
                mine = getattr(stats, f"p{percentile}")
                figures.append(
                    f"{name} p{percentile} {mine:.2f} ({np.percentile(own, percentile):.2f})"
                )
        certified = "certified" if run.summary.certified else "not certified"
        print(f"  {', '.join(figures)}; CPU {cpu_ms:.1f} ms per 1,000; {certified}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/paced_server"
        try:
            subprocess.run(["cc", "-O2", "-o", program, str(SOURCE)], check=True)
        except FileNotFoundError:
            sys.exit("this benchmark needs a C compiler (cc)")
        full_speed(program, arguments.requests, arguments.rounds)
        paced(program, arguments.rounds)


if __name__ == "__main__":
    main()
