"""How far the simulator is from measured times, how fast it runs, and how true its server is.

    python benchmarks/bench_simulator.py [--measured FILE] [--served]

Errors: predicted prefill and decode times of Llama-2-70B on A100-80GB against measured ones
(columns as in llama2_70b_a100_measured.csv), beside a plain roofline with one efficiency and one
fixed cost each, and with constants fitted without the tensor-parallel size they are tried on.
Speed: virtual over wall time for a table of 25 buckets, ten probes of 500 requests each.
--served: the same closed loop in virtual time and over HTTP at real speed (half a minute).
"""

import argparse
import csv
import itertools
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from accelerators.names import resolve
from profiler.samples import summarise
from profiler.sim.predict import predict
from profiler.sim.replica import make_replica
from profiler.sim.roofline import CONSTANTS, Constants
from profiler.sim.run import simulate, simulate_closed_loop

DEFAULT = Path(__file__).parents[2] / "shared" / "data" / "llama2_70b_a100_measured.csv"
FITTED = (
    "compute_efficiency",
    "memory_efficiency",
    "link_efficiency",
    "allreduce_s",
    "allreduce_hop_s",
    "prefill_s",
)


@dataclass(frozen=True)
class Row:
    tp: int
    batch: int
    inputs: int
    outputs: int
    prefill_ms: float
    decode_ms: float


def read(path: Path) -> list[Row]:
    with path.open() as file:
        return [
            Row(*(int(value) for value in values[:4]), *(float(value) for value in values[4:]))
            for values in list(csv.reader(file))[1:]
        ]


def times(row: Row, constants: Constants) -> tuple[float, float]:
    replica = REPLICAS[row.tp]
    found = predict(
        replica,
        batch=row.batch,
        input_tokens=row.inputs,
        output_tokens=row.outputs,
        constants=constants,
    )
    return found.prefill_ms, found.decode_ms_per_token


REPLICAS = {
    tp: make_replica(resolve("a100-80g-sxm"), "llama-2-70b", gpus=tp, must_fit=False)
    for tp in (2, 4, 8)
}


def errors(
    rows: Sequence[Row], model: Callable[[Row], tuple[float, float]]
) -> tuple[list[float], list[float]]:
    pairs = [(row, model(row)) for row in rows]
    return (
        [abs(prefill / row.prefill_ms - 1) for row, (prefill, _) in pairs],
        [abs(decode / row.decode_ms - 1) for row, (_, decode) in pairs],
    )


def spread(values: Sequence[float]) -> str:
    p90 = statistics.quantiles(values, n=10, method="inclusive")[-1]
    return f"{statistics.median(values):6.1%} {p90:6.1%}"


def report(title: str, rows: Sequence[Row], model: Callable[[Row], tuple[float, float]]) -> None:
    prefill, decode = errors(rows, model)
    print(f"{title:44} {len(rows):4}   {spread(prefill)}   {spread(decode)}")


def fit(rows: Sequence[Row], tries: int = 1500) -> Constants:
    """Search at random around the constants for the least mean of both errors, outliers capped."""
    draw = random.Random(0)

    def cost(constants: Constants) -> float:
        parts = errors(rows, lambda row: times(row, constants))
        return sum(min(error, 1.0) for part in parts for error in part)

    best, least = CONSTANTS, cost(CONSTANTS)
    for _ in range(tries):
        drawn = {name: asdict(best)[name] * draw.uniform(0.8, 1.25) for name in FITTED}
        tried = Constants(**{**asdict(best), **drawn})
        if (found := cost(tried)) < least:
            best, least = tried, found
    return best


def plain(rows: Sequence[Row]) -> Callable[[Row], tuple[float, float]]:
    """Fit a roofline with one efficiency and one fixed cost for each phase, and nothing else."""
    model = REPLICAS[2].model
    grid = list(itertools.product(np.linspace(0.2, 1.0, 81), np.linspace(0, 80, 81)))

    def ideal(row: Row) -> tuple[float, float]:
        flops = 2 * model.parameters * row.batch * row.inputs
        return flops / (row.tp * 312e12) * 1e3, model.weight_bytes / (row.tp * 2.039e12) * 1e3

    def best(phase: int, measured: Sequence[float]) -> tuple[float, float]:
        base = np.array([ideal(row)[phase] for row in rows])
        return min(
            grid, key=lambda g: np.median(np.abs((g[1] + base / g[0]) / np.array(measured) - 1))
        )

    prefill = best(0, [row.prefill_ms for row in rows])
    decode = best(1, [row.decode_ms for row in rows])
    return lambda row: tuple(
        fixed + value / share
        for value, (share, fixed) in zip(ideal(row), (prefill, decode), strict=True)
    )


def bench_errors(path: Path) -> None:
    rows = read(path)
    once = list({(row.tp, row.batch, row.inputs): row for row in reversed(rows)}.values())
    print(f"{'absolute error':44} rows   prefill: median, p90   decode: median, p90")
    report("all rows", rows, lambda row: times(row, CONSTANTS))
    report("each configuration once", once, lambda row: times(row, CONSTANTS))
    for tp in (2, 4, 8):
        part = [row for row in once if row.tp == tp]
        report(f"  tensor parallel {tp}", part, lambda row: times(row, CONSTANTS))
    report("plain roofline fitted to these rows", once, plain(once))
    for tp in (2, 4, 8):
        part = [row for row in once if row.tp == tp]
        constants = fit([row for row in once if row.tp != tp])
        title = f"tensor parallel {tp}, fitted to the others"
        report(title, part, lambda row, c=constants: times(row, c))


def bench_speed() -> None:
    replica = make_replica(resolve("a10"), "deepseek-coder-7b")
    draw = np.random.default_rng(0)
    virtual = tokens = 0.0
    begin = time.perf_counter()
    for inputs, outputs in itertools.product((128, 256, 512, 1024, 2048), (32, 64, 128, 256, 512)):
        rate = 9000 / (inputs + 10 * outputs)
        for probe in range(10):
            due = np.cumsum(draw.exponential(1 / (rate * (0.5 + probe / 18)), 500))
            samples = simulate(replica, due, [inputs] * 500, [outputs] * 500)
            virtual += float(samples.last_token_s.max())
            tokens += float(samples.output_tokens.sum())
    wall = time.perf_counter() - begin
    print(
        f"25 buckets x 10 probes x 500 requests on an A10: {wall:.1f} s for {virtual:,.0f} s of "
        f"service ({virtual / wall:,.0f} times as fast), {tokens / wall / 1e6:.1f} M tokens/s"
    )


def bench_served() -> None:
    from profiler.load import LoadConfig, run_load

    words = [sys.executable, "-m", "aibrixctl", "profile", "serve-sim", "--port", "0"]
    words += ["--accelerator", "a100-80g", "--model", "llama-2-7b"]
    with subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stderr is not None
            url = re.search(r"http\S+", server.stderr.readline())
            assert url is not None
            load = LoadConfig(url[0], "llama-2-7b", 128, 128, max_concurrency=32, duration_s=20)
            served = run_load(load).summary
        finally:
            server.terminate()
    replica = make_replica(resolve("a100-80g"), "llama-2-7b")
    samples = simulate_closed_loop(replica, 32, [128] * 400, [128] * 400)
    virtual = summarise(samples, window=(5.0, float(samples.scheduled_s[-1])))
    for name in ("itl", "tpot", "e2e"):
        over, inside = served.latency[name], virtual.latency[name]
        assert over is not None
        assert inside is not None
        print(
            f"{name:5} p50: served {over.p50:8.2f} ms, virtual {inside.p50:8.2f} ms, "
            f"ratio {over.p50 / inside.p50:.3f}"
        )
    print(
        f"tokens/s: served {served.output_tokens_per_s:.0f}, virtual "
        f"{virtual.output_tokens_per_s:.0f}, ratio "
        f"{served.output_tokens_per_s / virtual.output_tokens_per_s:.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--measured", type=Path, default=DEFAULT)
    parser.add_argument("--served", action="store_true")
    asked = parser.parse_args()
    if asked.measured.exists():
        bench_errors(asked.measured)
    else:
        print(f"no measured times at {asked.measured}")
    bench_speed()
    if asked.served:
        bench_served()


if __name__ == "__main__":
    main()
