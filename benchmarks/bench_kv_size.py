"""Size a pool for 10 million block accesses with `kv size`: wall clock, CPU, memory, truth.

    python benchmarks/bench_kv_size.py [--accesses 10000000] [--trace FILE]

The trace is made: conversations that grow by turns under one of some system prompts, many at a
time. Each run is a process of its own, from its start to its JSON. With --trace it also says how
far a sample of a real trace is from simulating all of it.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

POLICIES = "lru,s3fifo,sieve,arc"
SYSTEM_PROMPTS, SYSTEM_BLOCKS, ACTIVE = 20, 4, 20_000
SAMPLES = (200_000, 100_000, 50_000)


def write_trace(path: Path, accesses: int) -> int:
    """Write requests until they hold so many block accesses; return their number."""
    draw = random.Random(0)
    systems = [[n * SYSTEM_BLOCKS + i for i in range(SYSTEM_BLOCKS)] for n in range(SYSTEM_PROMPTS)]
    free, requests, written = SYSTEM_PROMPTS * SYSTEM_BLOCKS, 0, 0
    open_chats: list[list[int]] = []
    with path.open("w") as file:
        while written < accesses:
            if len(open_chats) < ACTIVE or draw.random() < 0.2:
                chat = list(systems[min(int(draw.expovariate(0.4)), SYSTEM_PROMPTS - 1)])
                open_chats.append(chat)
                if len(open_chats) > ACTIVE:
                    place = draw.randrange(ACTIVE)
                    open_chats[place] = open_chats.pop()
            else:
                chat = open_chats[draw.randrange(len(open_chats))]
            more = 1 + min(int(draw.expovariate(0.2)), 200)
            chat.extend(range(free, free + more))
            free += more
            body = {"timestamp": requests, "input_length": 512 * len(chat), "hash_ids": chat}
            file.write(json.dumps(body) + "\n")
            written += len(chat)
            requests += 1
    return requests


def run(name: str, path: Path, *words: str) -> None:
    started = time.perf_counter()
    line = [sys.executable, "-m", "aibrixctl", "kv", "size", "--trace", str(path), "-o", "json"]
    process = subprocess.Popen(
        [*line, *words], stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]
    )
    assert process.stdout is not None
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    assert status == 0, out
    data = json.loads(out)["data"]
    print(
        f"{name}: {data['accesses']:,} accesses to {data['distinct_blocks']:,} blocks: "
        f"{wall:.1f} s wall, {usage.ru_utime + usage.ru_stime:.1f} s CPU, "
        f"peak {usage.ru_maxrss / 1024:.0f} MiB; simulated {data['sampled_share']:.1%}, "
        f"LRU of the sample within {data['sample_error']:.2%}",
        flush=True,
    )


def truth(path: str) -> None:
    """Print how far the curves from samples are from those of the whole trace."""
    from kvpool.sizing.curve import size_pool
    from kvpool.sizing.trace import read_trace

    trace = read_trace(path)
    names = POLICIES.split(",")[1:]
    exact = size_pool(trace, names)
    print(f"{path}: {trace.accesses:,} accesses, simulated whole and in part")
    for accesses in SAMPLES:
        part = size_pool(trace, names, simulated_accesses=accesses)
        gaps = [
            abs(a.hit_rate - b.hit_rate)
            for one, other in zip(exact.curves, part.curves, strict=True)
            for a, b in zip(one.points, other.points, strict=True)
        ]
        print(
            f"  {part.sampled_share:5.1%}: off by {max(gaps):.2%} at most, "
            f"{sum(gaps) / len(gaps):.2%} on average; told {part.sample_error:.2%}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--accesses", type=int, default=10_000_000)
    parser.add_argument("--trace")
    arguments = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.jsonl"
        requests = write_trace(path, arguments.accesses)
        print(f"{requests:,} requests, {path.stat().st_size >> 20} MiB")
        run("lru", path, "--policy", "lru")
        run(POLICIES, path, "--policy", POLICIES)
    if arguments.trace:
        truth(arguments.trace)


if __name__ == "__main__":
    main()
