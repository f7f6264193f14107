"""How many probes a cell takes, how close the rate comes, and how long a simulated table takes.

    python benchmarks/bench_profile.py [--table] [--pair]

Search: synthetic engines of known capacity, exact and noisy (the capacity that a probe sees is
log-normal around the true one), from no guess and from a neighbour's. Beside it, in the same
run, AIBrix's way: double the rate from 1 until a probe fails, take the last that passed.
--table: a 5x5 table of a simulated A10, and each certified rate run again for 4,000 requests
with other arrivals (a minute).
--pair: the demo's two tables, one after the other and at the same time.
"""

import argparse
import math
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np

from profiler.run import run_profile
from profiler.run_config import ProfileConfig
from profiler.samples import Stats, summarise
from profiler.search import Guess, find_max_rate
from profiler.sim.replica import make_replica
from profiler.sim.run import simulate
from profiler.sim_probes import schedule
from profiler.slo import parse_slos
from profiler.table import Cell
from profiler.targets import parse_targets
from profiler.verdict import ProbeOutcome

CELLS = 500
Probe = Callable[[float | None], ProbeOutcome]


def engine(capacity: float, noise: float, source: random.Random) -> Probe:
    e2e = source.uniform(2e3, 50e3) / capacity

    def probe(rate: float | None) -> ProbeOutcome:
        seen = capacity * math.exp(source.gauss(0, noise))
        passes = rate is None or rate <= seen
        return ProbeOutcome(
            "pass" if passes else "miss",
            request_rate=rate or 1.0,
            reasons=() if passes else ("ttft_p99",),
            latency={"e2e": Stats(e2e, e2e, e2e, e2e, e2e)},
        )

    return probe


def doubling(probe: Probe) -> tuple[float, int]:
    rate, count = 1.0, 1
    while probe(rate).verdict == "pass":
        rate, count = rate * 2, count + 1
    return rate / 2 if rate > 1 else 1.0, count


def search_figures() -> None:
    print(f"{'search':34} {'probes':>7} {'error p50':>10} {'p90':>7} {'above truth':>12}")
    for noise in (0.0, 0.03):
        for name, spread in (("bisection, no guess", None), ("bisection, guess within 20%", 0.2)):
            report(name, noise, bisect, spread)
        report("doubling from 1", noise, lambda probe, guess: doubling(probe), None)


def bisect(probe: Probe, guess: Guess | None) -> tuple[float, int]:
    found = find_max_rate(probe, start=guess)
    return found.max_request_rate or 0.0, found.probes


def report(
    name: str,
    noise: float,
    way: Callable[[Probe, Guess | None], tuple[float, int]],
    spread: float | None,
) -> None:
    source = random.Random(1)
    errors, counts = [], []
    for _ in range(CELLS):
        capacity = math.exp(source.uniform(math.log(0.1), math.log(100)))
        off = math.exp(source.uniform(-0.2, 0.2))
        guess = Guess(capacity * off, 1.25) if spread else None
        rate, probes = way(engine(capacity, noise, source), guess)
        errors.append(rate / capacity - 1)
        counts.append(probes)
    sizes = sorted(map(abs, errors))
    print(
        f"{name + f', noise {noise:.0%}':34} {statistics.mean(counts):7.1f} "
        f"{statistics.median(sizes):10.1%} {sizes[int(len(sizes) * 0.9)]:7.1%} "
        f"{sum(e > 0.001 for e in errors) / len(errors):12.1%}"
    )


def table_figures() -> None:
    config = ProfileConfig(
        model="deepseek-coder-6.7b",
        targets=parse_targets(["a10=sim:a10"]),
        input_tokens=(128, 256, 512, 1024, 2048),
        output_tokens=(32, 64, 128, 256, 512),
        slos=parse_slos(["ttft_p99<=2s", "tpot_p99<=80ms"]),
    )
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = time.perf_counter(), time.process_time()
        run = run_profile(config, folder)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"5x5 table: {wall:.1f} s, {cpu:.1f} s CPU, {run.probes} probes")
    over = [ratio for cell in run.tables[0].cells for ratio in [worst(config, cell)]]
    over.sort()
    print(
        "worst objective over its limit, 4,000 other requests at the certified rate: "
        f"median {statistics.median(over):.2f}, p90 {over[int(len(over) * 0.9)]:.2f}, "
        f"most {over[-1]:.2f} (1.00 = at the limit)"
    )


def pair_figures() -> None:
    config = ProfileConfig(
        model="deepseek-coder-7b",
        targets=parse_targets(["a10=sim:a10", "l20=sim:l20"]),
        input_tokens=(128, 256, 512, 1024, 2048, 4096),
        output_tokens=(32, 64, 128, 256, 512, 1024),
        slos=parse_slos(["ttft_p99<=2s", "tpot_p99<=80ms"]),
    )
    tables, walls = [], []
    for jobs in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            tables.append([table.cells for table in run_profile(config, folder, jobs=jobs).tables])
            walls.append(time.perf_counter() - began)
    same = "the same" if tables[0] == tables[1] else "DIFFERENT"
    print(
        f"two 6x6 tables: one after the other {walls[0]:.1f} s, at the same time {walls[1]:.1f} s "
        f"({walls[0] / walls[1]:.2f} times as fast), {same} cells; load {os.getloadavg()[0]:.1f}"
    )


def worst(config: ProfileConfig, cell: Cell) -> float:
    accelerator, rate = config.targets[0].accelerator, cell.max_request_rate
    assert accelerator is not None
    if not rate:
        return 0.0
    replica = make_replica(accelerator, config.model)
    due = schedule(rate, (400 / rate, 4000 / rate), np.random.default_rng(99))
    ones = np.ones(len(due), dtype=np.int64)
    samples = simulate(replica, due, cell.input_tokens * ones, cell.output_tokens * ones)
    summary = summarise(samples, window=(400 / rate, 4400 / rate), slos=config.slos)
    ratios = []
    for slo in config.slos:
        stats = summary.attained[slo.metric]
        assert stats is not None
        ratios.append(getattr(stats, slo.statistic) / slo.limit_s / 1e3)
    return max(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", action="store_true", help="also profile a simulated A10")
    parser.add_argument("--pair", action="store_true", help="also profile the demo's two types")
    arguments = parser.parse_args()
    search_figures()
    if arguments.table:
        table_figures()
    if arguments.pair:
        pair_figures()


if __name__ == "__main__":
    main()
