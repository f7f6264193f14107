"""Solve random GPU mixes with this tool, and with Mélange's own formulation, in one run.

    python benchmarks/bench_solver.py [--seeds 5] [--peers]

An instance has buckets x buckets sizes from 32 to 8192 input and 16 to 2048 output tokens, a
lognormal demand of 200 requests/s, and GPU types whose time for a request is input/compute +
output/bandwidth with 10% noise; the types' costs grow with the root of both, with 20% noise; some
slow routes are forbidden. Times are wall clock: ``whole`` includes the start of the solver's
process, ``warm`` does not. ``--peers`` also solves Mélange's formulation (slice factor 1) with
HiGHS and CBC, limited to 20 s each, to a gap of 1e-3.
"""

import argparse
import math
import statistics
import time

import numpy as np
import pulp

from optimizer.model import Model
from optimizer.solver import Solver

CASES = ((10, 4), (10, 8), (20, 8), (20, 16))
PEER_LIMIT_S = 20
REQUESTS_PER_S = 200


def instance(buckets: int, types: int, seed: int) -> Model:
    random = np.random.default_rng(seed)
    inputs, outputs = np.geomspace(32, 8192, buckets), np.geomspace(16, 2048, buckets)
    rows, columns = (axis.ravel() for axis in np.meshgrid(inputs, outputs, indexing="ij"))
    demand = np.exp(
        -0.5 * ((np.log(rows) - 6) / 1.2) ** 2 - 0.5 * ((np.log(columns) - 5) / 1.1) ** 2
    )
    demand *= REQUESTS_PER_S / demand.sum()
    compute = 10 ** random.uniform(3.7, 5.2, types)
    bandwidth = 10 ** random.uniform(2.5, 4.0, types)
    seconds = rows[:, None] / compute + columns[:, None] / bandwidth
    throughput = random.uniform(0.9, 1.1, seconds.shape) / seconds
    slow = throughput < np.quantile(throughput, 0.05)
    throughput[slow & (random.random(throughput.shape) < 0.7)] = 0
    cost = 0.1 + 0.4 * np.sqrt(compute / 5000 * bandwidth / 400) * random.uniform(0.8, 1.25, types)
    load = np.divide(
        demand[:, None],
        throughput,
        out=np.full(throughput.shape, math.inf),
        where=throughput > 0,
    )
    ones, zeros = np.ones(types), np.zeros(types)
    return Model(load, cost, ones, zeros, np.full(types, math.inf))


def melange(model: Model, solver: pulp.LpSolver) -> str:
    """Solve Mélange's formulation at slice factor 1: every bucket whole on one type."""
    problem = pulp.LpProblem("melange")
    n_buckets, n_types = model.load.shape
    y = [problem.add_variable(f"y{g}", 0, cat="Integer") for g in range(n_types)]
    x = {
        (b, g): problem.add_variable(f"x{b}_{g}", cat="Binary")
        for b in range(n_buckets)
        for g in range(n_types)
        if math.isfinite(model.load[b, g])
    }
    problem += pulp.lpDot(model.cost.tolist(), y)
    for b in range(n_buckets):
        problem += pulp.lpSum(x[b, g] for g in range(n_types) if (b, g) in x) == 1
    for g in range(n_types):
        terms = [(x[b, g], float(model.load[b, g])) for b in range(n_buckets) if (b, g) in x]
        problem += pulp.LpAffineExpression([*terms, (y[g], -1.0)]) <= 0
    started = time.perf_counter()
    problem.solve(solver)
    elapsed = time.perf_counter() - started
    counts = [round(v.varValue or 0) for v in y]
    # PuLP calls an answer at the time limit optimal, so the clock decides
    stopped = " stopped" if elapsed >= PEER_LIMIT_S * 0.95 else ""
    cost = sum(c * n for c, n in zip(model.cost, counts, strict=True))
    return f"${cost:.2f} {elapsed:.2f}s{stopped}"


def ours(model: Model) -> tuple[float, float, str]:
    started = time.perf_counter()
    with Solver() as solver:
        found = solver.solve(model, limit_s=60, gap=1e-3)
        whole = time.perf_counter() - started
        started = time.perf_counter()
        solver.solve(model, limit_s=60, gap=1e-3)
        warm = time.perf_counter() - started
    assert found.incumbent is not None
    value = found.incumbent.value
    gap = (value - found.bound) / value
    return whole, warm, f"${value:.2f} LP ${found.lp_bound:.2f} gap {gap:.1e} {found.status}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--peers", action="store_true")
    options = parser.parse_args()
    for buckets, types in CASES:
        wholes, warms = [], []
        for seed in range(options.seeds):
            model = instance(buckets, types, seed)
            whole, warm, text = ours(model)
            wholes.append(whole)
            warms.append(warm)
            line = (
                f"{buckets}x{buckets}x{types} seed {seed}: {whole:.2f}s ({warm:.2f}s warm) {text}"
            )
            if options.peers:
                highs = pulp.HiGHS(msg=False, threads=1, timeLimit=PEER_LIMIT_S, gapRel=1e-3)
                cbc = pulp.PULP_CBC_CMD(msg=False, threads=1, timeLimit=PEER_LIMIT_S, gapRel=1e-3)
                line += f" | Melange: HiGHS {melange(model, highs)}; CBC {melange(model, cbc)}"
            print(line, flush=True)
        print(
            f"{buckets}x{buckets}x{types}: whole median {statistics.median(wholes):.2f}s, "
            f"worst {max(wholes):.2f}s; warm median {statistics.median(warms):.2f}s\n"
        )


if __name__ == "__main__":
    main()
