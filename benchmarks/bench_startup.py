"""How much CPU the start of a command costs, against the bare interpreter, in one run.

    python benchmarks/bench_startup.py [--runs 15]

Prints the median of user and system CPU time of whole processes.
"""

import argparse
import resource
import statistics
import subprocess
import sys

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import typer": ["-c", "import typer"],
    "aibrixctl --help": ["-m", "aibrixctl", "--help"],
    "aibrixctl profile --help": ["-m", "aibrixctl", "profile", "--help"],
    "aibrixctl profile load --help": ["-m", "aibrixctl", "profile", "load", "--help"],
    "aibrixctl schema list": ["-m", "aibrixctl", "schema", "list"],
    "aibrixctl accelerators list": ["-m", "aibrixctl", "accelerators", "list"],
}


def cpu_s(words: list[str]) -> float:
    """Return the CPU seconds of one process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    rounds = [{name: cpu_s(words) for name, words in COMMANDS.items()} for _ in range(runs)]
    for name in COMMANDS:
        times = [one[name] * 1e3 for one in rounds]
        print(f"{name:32} {statistics.median(times):6.0f} ms  (min {min(times):.0f})")


if __name__ == "__main__":
    main()
