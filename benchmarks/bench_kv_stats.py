"""Count pools of 100,000 entries with `kv stats`: wall clock, CPU, memory, and what a server feels.

    python benchmarks/bench_kv_stats.py [--entries 100000] [--runs 3]

Each count is a process of its own, from its start to its JSON. While a Redis is counted, another
client asks it PING without pause; its slowest answer, against that of an idle server, says how
long the scan ever held the server up. Needs redis-server; nothing else may use the cores.
"""

import argparse
import json
import os
import random
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from kvpool import lmcache
from kvpool.entry import Header, TensorGroup
from kvpool.redis_wire import Connection, command
from kvpool.url import parse_pool_url

MODELS = ("meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen2.5-7B-Instruct", "org/tiny")
HEADER = lmcache.pack_header(Header(1024, "KV_2LTD", (TensorGroup("bfloat16", (2, 4, 8, 8)),)))
VALUE = bytes(1024)


def keys(count: int) -> list[str]:
    draw = random.Random(0)
    return [
        f"{MODELS[number % 3]}@2@{number % 2}@{draw.getrandbits(64):x}@bfloat16"
        for number in range(count)
    ]


def fill_redis(url: str, count: int) -> None:
    redis = Connection(parse_pool_url(url))
    names = [key.encode() for key in keys(count)]
    for start in range(0, count, 1000):
        commands = [
            command("SET", name + suffix, value)
            for name in names[start : start + 1000]
            for suffix, value in ((b"kv_bytes", VALUE), (b"metadata", HEADER))
        ]
        redis.pipeline(commands, len(commands))
    redis.close()


def fill_folder(folder: Path, count: int) -> None:
    for key in keys(count):
        (folder / lmcache.file_name(key)).write_bytes(HEADER + VALUE)


def fill_shfs(root: Path, count: int) -> None:
    draw = random.Random(0)
    for _ in range(count):
        name = f"{draw.getrandbits(128):032x}"
        path = root / "tiny_h0_7_l0_31_lcnd16roc" / name[:2] / name[2:4]
        path.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(VALUE)


def count_once(url: str, *words: str) -> tuple[float, float, float]:
    """Wall clock and CPU in seconds and peak memory in MiB of one count."""
    started = time.perf_counter()
    line = [sys.executable, "-m", "aibrixctl", "kv", "stats", url, "-o", "json", *words]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1])
    assert process.stdout is not None
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    elapsed = time.perf_counter() - started
    assert status == 0, out
    entries = json.loads(out)["data"]["states"]["whole"]["entries"]
    assert entries == ARGUMENTS.entries, entries
    return elapsed, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def worst_ping_ms(port: int, during: Callable[[], object]) -> float:
    """The slowest answer to a PING while something else goes on."""
    worst, done = 0.0, threading.Event()

    def ask() -> None:
        nonlocal worst
        with socket.create_connection(("127.0.0.1", port)) as link:
            while not done.is_set():
                started = time.perf_counter()
                link.sendall(b"PING\r\n")
                link.recv(64)
                worst = max(worst, (time.perf_counter() - started) * 1e3)
                time.sleep(0.001)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        during()
    finally:
        done.set()
        thread.join()
    return worst


def report(name: str, url: str, *words: str) -> None:
    runs = [count_once(url, *words) for _ in range(ARGUMENTS.runs)]
    wall, cpu, peak = (median(column) for column in zip(*runs, strict=True))
    print(f"{name:<34} {wall:5.2f} s wall, {cpu:5.2f} s CPU, peak {peak:4.0f} MiB", flush=True)


def main() -> None:
    print(f"{ARGUMENTS.entries:,} entries, load average {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        server = subprocess.Popen(["redis-server", *words], stdout=subprocess.DEVNULL)
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    time.sleep(0.02)
            url = f"lmcache+redis://127.0.0.1:{port}/0"
            fill_redis(url, ARGUMENTS.entries)
            report("lmcache+redis", url)
            report("lmcache+redis, --headers", url, "--headers")
            idle = worst_ping_ms(port, lambda: time.sleep(2))
            busy = worst_ping_ms(port, lambda: count_once(url))
            print(f"slowest PING: {idle:.1f} ms idle, {busy:.1f} ms during a count")
        finally:
            server.terminate()
            server.wait()
        for scheme, fill in (("lmcache+file", fill_folder), ("aibrix+shfs", fill_shfs)):
            pool = Path(folder) / scheme
            pool.mkdir()
            fill(pool, ARGUMENTS.entries)
            report(scheme, f"{scheme}://{pool}")
    print(f"peak of this script {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    ARGUMENTS = parser.parse_args()
    main()
