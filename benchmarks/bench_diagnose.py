"""How long a diagnosis of simulated nodes takes, whole process included, in one run.

    python benchmarks/bench_diagnose.py [--runs 9]

Goals: 8 healthy GPUs within 1 s of wall time; with one hung, the timeout plus 1 s.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mockfail import native, state_file
from mockfail.nodes import node
from mockfail.state import Override, State

TIMEOUT_S = 2.0
HANG = Override("gpu", "hang_ms", 3_600_000, 5)
NODES: dict[str, tuple[str, tuple[Override, ...], float]] = {
    "8 healthy GPUs": ("h100x8", (), 1.0),
    "8 healthy NPUs": ("ascend-910bx8", (), 1.0),
    "64 healthy GPUs": ("h100x64", (), float("inf")),
    f"8 GPUs, one hung, --timeout {TIMEOUT_S:g}s": ("h100x8", (HANG,), TIMEOUT_S + 1),
}


def wall_s(folder: Path) -> float:
    """Return the time of one process, from its start to its end."""
    environment = {**os.environ, **native.preload_environment(folder)}
    words = [sys.executable, "-m", "aibrixctl", "diagnose", "--timeout", f"{TIMEOUT_S}s"]
    started_s = time.perf_counter()
    subprocess.run(words, env=environment, capture_output=True, check=False)
    return time.perf_counter() - started_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=9)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        for what, (spec, overrides, goal_s) in NODES.items():
            state = State(node(spec), mode="standalone", overrides=overrides)
            state_file.write(state, Path(folder) / "state")
            times = [wall_s(Path(folder)) for _ in range(runs)]
            goal = f"goal {goal_s:.0f} s" if goal_s < float("inf") else "no goal"
            print(f"{what:36} {statistics.median(times):5.2f} s  (max {max(times):.2f}; {goal})")


if __name__ == "__main__":
    main()
