"""Read a trace of a million requests in each format: wall clock and peak memory.

    python benchmarks/bench_workload.py [--rows 1000000]

Each format is read in a process of its own, so that its peak memory is its own.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

READ = """
import resource, sys, time
started = time.perf_counter()
from optimizer.workload import read
workload = read(sys.argv[1])
elapsed = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(f"{workload.format}: {workload.total:,.0f} requests in {elapsed:.2f} s, peak {peak:.0f} MiB")
"""


def burstgpt(requests, path: Path) -> None:
    with path.open("w") as file:
        file.write("Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n")
        rows = zip(
            requests.arrival_s.tolist(),
            requests.input_tokens.tolist(),
            requests.output_tokens.tolist(),
            strict=True,
        )
        file.writelines(f"{t:.3f},ChatGPT,{i},{o},{i + o},Conversation log\n" for t, i, o in rows)


def main() -> None:
    from optimizer.workload import synth

    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    parts = synth.preset({"conversation": 0.5, "code": 0.5}, 16_384, 4096)
    requests = synth.draw(parts, request_rate=100, duration_s=rows / 100)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("azure.csv", "mooncake.jsonl", "burstgpt.csv")]
        synth.write(requests, str(paths[0]), "azure")
        synth.write(requests, str(paths[1]), "mooncake")
        burstgpt(requests, paths[2])
        for path in paths:
            subprocess.run([sys.executable, "-c", READ, str(path)], check=True)


if __name__ == "__main__":
    main()
