"""A day of a real trace through the loop with the real planner, in virtual time."""

import itertools
from collections.abc import Callable
from pathlib import Path

from optimizer.from_tables import load_tables
from optimizer.limits import Limits
from optimizer.live.control import HOUR_S, Decision, Observed, Policy, State, step
from optimizer.live.demand import Terms, see
from optimizer.live.replan import Replanner
from optimizer.problem import Problem
from optimizer.solver import Solver
from profiler.table import ThroughputTable
from tests.optimizer.live.replay import day, windows
from tests.optimizer.problems import make_table

INTERVAL_S, WINDOW_S = 300, 180
POLICY = Policy(cooldown_s=600, max_changes_per_hour=6, min_saving=0.05)


def tables() -> list[ThroughputTable]:
    sizes = {"inputs": (512, 2048, 8192), "outputs": (64, 256, 1024)}
    base = [[9.0, 5.0, 1.8], [6.0, 3.2, 1.1], [1.9, 1.0, 0.5]]
    made = []
    for name, factor, long, cost in (
        ("a10", 0.25, 0.4, 1.0), ("l20", 0.6, 0.9, 1.9), ("h100", 2.0, 1.2, 6.4),
    ):  # fmt: skip
        rates = [
            [factor * rate * (long if row else 1.0) for rate in rates_]
            for row, rates_ in enumerate(base)
        ]
        made.append(make_table(name, rates, cost=cost, **sizes))
    return made


def test_a_replayed_day_of_a_real_trace_does_not_flap(
    shared_data: Path, tables_in: Callable[..., Path], solver: Solver
) -> None:
    terms = Terms(load_tables([tables_in(*tables())]), Limits(headroom=0.15))
    planner = Replanner(solver, gap=5e-3)
    state = State()
    decisions: list[tuple[float, Decision]] = []
    proposals: list[dict[str, int]] = []
    busiest: Problem | None = None
    cost = 0.0
    trace = day(shared_data / "azure_llm_2023_conv.csv")
    for now_s, traffic in windows(trace, INTERVAL_S, WINDOW_S):
        demand = see(traffic, terms, oldest_s=60).observed.demand
        assert demand is not None
        state, decision = step(POLICY, planner, state, now_s, Observed(demand))
        assert state.replicas is not None
        if decision.direction != "none":
            decisions.append((now_s, decision))
            assert planner.serves(demand, state.replicas)
        proposals.append(state.proposals[-1][1])
        cost += planner.cost_usd_per_hour(state.replicas) * INTERVAL_S / HOUR_S
        if busiest is None or demand.request_rate > busiest.request_rate:
            busiest = demand
    assert busiest is not None
    times = [t for t, _ in decisions]
    worst = max(sum(t <= other < t + HOUR_S for other in times) for t in times)
    static = planner.cost_usd_per_hour(planner.propose(busiest, at_least={}).replicas) * 24
    replans = sum(a != b for a, b in itertools.pairwise(proposals))
    print(
        f"{len(times)} changes, {worst} in the worst hour, {replans} without the loop's rules; "
        f"${cost:.2f} against ${static:.2f} for the peak plan all day"
    )
    assert worst <= POLICY.max_changes_per_hour
    assert len(times) < replans / 2
    assert not any(d.over_limit or d.served < 1 for _, d in decisions)
    assert cost < 0.8 * static
