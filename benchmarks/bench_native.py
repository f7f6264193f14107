"""What a mock costs a program: nanoseconds per NVML call, and milliseconds at its start.

    python benchmarks/bench_native.py [--rounds 20]

The driver is a library whose calls do nothing, so what is measured is the mock alone. Each case
runs in turn, over and over, so that what else the machine does falls on all of them.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mockfail import native, state_file
from mockfail.native import build
from mockfail.nodes import node
from mockfail.state import Override, State, When

HERE = Path(__file__).parent


def compiled(folder: Path) -> tuple[Path, Path]:
    """Return the client and the driver."""
    client, driver = folder / "client", folder / "driver" / "libnvidia-ml.so.1"
    driver.parent.mkdir()
    flags = ["-O2", "-Wall"]
    subprocess.run(
        [*build.compiler(), *flags, str(HERE / "native_client.c"), "-ldl", "-o", str(client)],
        check=True,
    )
    subprocess.run(
        [*build.compiler(), *flags, "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1",
         str(HERE / "native_driver.c"), "-o", str(driver)],
        check=True,
    )  # fmt: skip
    return client, driver


def states(driver: Path) -> dict[str, State | None]:
    healthy = node("h100x8")
    hot = Override("gpu", "temperature_c", 97)
    rare = Override("gpu", "temperature_c", 97, when=When(probability=0.1))
    library = str(driver)
    return {
        "no mock: straight on": None,
        "overlay, nothing set": State(healthy, "overlay", real_library=library),
        "overlay, temperature set": State(healthy, "overlay", (hot,), real_library=library),
        "overlay, temperature by chance": State(healthy, "overlay", (rare,), real_library=library),
        "standalone, 8 GPUs": State(healthy, "standalone"),
    }


def measured(words: list[str | Path], environment: Mapping[str, str]) -> list[list[float]]:
    ended = subprocess.run(
        [str(word) for word in words], env=environment, capture_output=True, text=True, check=True
    )
    return [[float(word) for word in line.split()] for line in ended.stdout.splitlines()]


def calls(client: Path, driver: Path, folder: Path, rounds: int) -> None:
    plain = {**os.environ, "LD_LIBRARY_PATH": str(driver.parent)}
    cases = {"plain: no library of ours": plain}
    for number, (name, state) in enumerate(states(driver).items()):
        mock = folder / f"mock-{number}"
        mock.mkdir()
        if state is not None:
            state_file.write(state, mock / "state")
        cases[name] = {**plain, **native.preload_environment(mock, {})}
    seen: dict[str, list[list[float]]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, environment in cases.items():
            seen[name] += measured([client, "calls", driver.name, 3], environment)
    print(f"{'ns per call, least':32} {'GetTemperature':>14} {'GetBoardId':>11}")
    for name, rows in seen.items():
        least = [min(column) for column in zip(*rows, strict=True)]
        print(f"{name:32} {least[0]:14.1f} {least[1]:11.1f}")


def starts(client: Path, folder: Path, rounds: int) -> None:
    mock = folder / "mock-start"
    mock.mkdir()
    state_file.write(State(node("h100x8"), "standalone"), mock / "state")
    plain = dict(os.environ)
    under = {**plain, **native.preload_environment(mock, {})}
    both: dict[str, list[float]] = {"plain": [], "under a mock": []}
    for _ in range(rounds):
        for name, environment in zip(both, (plain, under), strict=True):
            rows = measured([client, "starts", "/bin/true", 10], environment)
            both[name] += [row[0] / 1e6 for row in rows]
    print(f"{'ms per start of /bin/true':32} {'median':>14} {'least':>11}")
    for name, times in both.items():
        print(f"{name:32} {statistics.median(times):14.2f} {min(times):11.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        client, driver = compiled(folder)
        calls(client, driver, folder, rounds)
        print()
        starts(client, folder, rounds)


if __name__ == "__main__":
    main()
