"""The model against brute force, and against Mélange's own formulation."""

import itertools
import math

import highspy
import numpy as np
import pulp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.milp import balance
from optimizer.model import Incumbent, Model
from optimizer.planner import make_plan, model_of
from optimizer.problem import GpuType, Pool, Problem, Service
from optimizer.solver import Solver, quick_answer
from optimizer.verify import verify
from tests.optimizer.problems import make_problem

RATES = st.lists(st.floats(0.2, 20), min_size=2, max_size=4)
COST = st.floats(0.3, 9)


@st.composite
def problems(draw: st.DrawFn, max_types: int = 3) -> Problem:
    """A problem whose every bucket is served by some type; at most 6 replicas alone suffice."""
    rates = draw(RATES)
    types = {}
    for g in range(draw(st.integers(1, max_types))):
        choice = st.floats(2, 40) if g == 0 else st.one_of(st.just(0.0), st.floats(2, 40))
        throughputs = [draw(choice) * len(rates) for _ in rates]
        types[f"g{g}"] = (draw(COST), throughputs)
    return make_problem(rates, types, headroom=draw(st.sampled_from([0.0, 0.1, 0.3])))


def routable(problem: Problem, replicas: tuple[int, ...]) -> bool:
    """Whether some fractional routing fits the replicas: an LP of its own, built row by row."""
    model = highspy.Highs()
    model.setOptionValue("output_flag", False)
    # HiGHS has one pool of threads a process, and refuses to solve with another number later.
    model.setOptionValue("threads", 1)
    n_types = len(problem.types)
    for _ in range(len(problem.buckets) * n_types):
        model.addVar(0, 1)
    for b in range(len(problem.buckets)):
        able = [g for g in range(n_types) if problem.types[g].services[b].requests_per_s > 0]
        columns = np.array([b * n_types + g for g in able], dtype=np.int32)
        model.addRow(1, 1, len(able), columns, np.ones(len(able)))
        for g in set(range(n_types)) - set(able):
            model.changeColBounds(b * n_types + g, 0, 0)
    for g, count in enumerate(replicas):
        rates = [service.requests_per_s for service in problem.types[g].services]
        loads = [
            bucket.requests_per_s / rate if rate else 0.0
            for bucket, rate in zip(problem.buckets, rates, strict=True)
        ]
        columns = np.array([b * n_types + g for b in range(len(loads))], dtype=np.int32)
        room = count * (1 - problem.headroom)
        model.addRow(-math.inf, room, len(loads), columns, np.array(loads))
    model.run()
    return model.getModelStatus() == highspy.HighsModelStatus.kOptimal


def cheapest_by_enumeration(problem: Problem, most: int) -> float:
    """Cost of the cheapest replicas, trying all in order of cost."""
    costs = [kind.cost_usd_per_hour for kind in problem.types]
    choices = sorted(
        itertools.product(range(most + 1), repeat=len(costs)),
        key=lambda y: math.fsum(n * c for n, c in zip(y, costs, strict=True)),
    )
    for replicas in choices:
        if routable(problem, replicas):
            return math.fsum(n * c for n, c in zip(replicas, costs, strict=True))
    raise AssertionError("no choice of replicas serves the demand")


@settings(max_examples=25, deadline=None)
@given(problem=problems())
def test_as_cheap_as_trying_every_fleet(solver: Solver, problem: Problem) -> None:
    plan = make_plan(problem, gap=1e-9, solver=solver)
    # one type alone needs at most ceil(20 rps x 4 buckets / (2 x 4) / 0.7) replicas
    expected = cheapest_by_enumeration(problem, 15 if len(problem.types) < 3 else 6)
    assert plan.cost_usd_per_hour <= expected + 1e-6
    assert verify(plan, problem) == []
    assert plan.lower_bound_usd_per_hour <= plan.cost_usd_per_hour


def melange_cost(problem: Problem, slices: int) -> float:
    """Cost of Mélange's formulation (arXiv:2404.14527), solved to the optimum."""
    prob = pulp.LpProblem("melange")
    n_types = len(problem.types)
    y = [prob.add_variable(f"y{g}", 0, cat="Integer") for g in range(n_types)]
    prob += pulp.lpSum(k.cost_usd_per_hour * y[g] for g, k in enumerate(problem.types))
    busy: list[list[object]] = [[] for _ in range(n_types)]
    for b, bucket in enumerate(problem.buckets):
        for s in range(slices):
            row = []
            for g, kind in enumerate(problem.types):
                rate = kind.services[b].requests_per_s
                if rate > 0:
                    x = prob.add_variable(f"x{b}_{s}_{g}", cat="Binary")
                    row.append(x)
                    busy[g].append(x * (bucket.requests_per_s / slices / rate))
            prob += pulp.lpSum(row) == 1
    for g in range(n_types):
        prob += pulp.lpSum(busy[g]) <= (1 - problem.headroom) * y[g]
    prob.solve(pulp.HiGHS(msg=False, gapRel=0, threads=1))
    assert prob.sol_status == pulp.LpSolutionOptimal
    return float(pulp.value(prob.objective))


@settings(max_examples=20, deadline=None)
@given(problem=problems(), slices=st.integers(1, 5))
def test_never_dearer_than_melange(solver: Solver, problem: Problem, slices: int) -> None:
    plan = make_plan(problem, gap=1e-9, solver=solver)
    assert plan.cost_usd_per_hour <= melange_cost(problem, slices) + 1e-6


@settings(max_examples=25, deadline=None)
@given(problem=problems())
def test_the_quick_answer_is_feasible(problem: Problem) -> None:
    model = model_of(problem)
    answer = quick_answer(model)
    assert answer is not None
    assert routable(problem, tuple(round(n) for n in answer.replicas))
    again = balance(model, answer)
    assert again is not None
    used = np.where(np.isfinite(model.load), model.load, 0) * again.shares
    assert (used.sum(axis=0) <= answer.replicas * model.usable * (1 + 1e-6)).all()


def test_balance_refuses_replicas_that_are_too_few() -> None:
    model = model_of(make_problem([10], {"a": (1, [2])}))
    assert balance(model, Incumbent(np.array([4.0]), np.ones((1, 1)), 4)) is None
    assert balance(model, Incumbent(np.array([5.0]), np.ones((1, 1)), 5)) is not None


def test_a_trickle_still_gets_a_replica(solver: Solver) -> None:
    """A load below the solver's integrality tolerance must not be served by nothing."""
    problem = make_problem([1e-8, 1e-8], {"a": (1, [10, 0]), "b": (2, [0, 10])})
    assert make_plan(problem, solver=solver).replicas == {"a": 1, "b": 1}


def test_limits_are_limits(solver: Solver) -> None:
    rate = 30.0
    kinds = [
        GpuType("small", 1.0, (Service(10.0),), accelerator="x"),
        GpuType("large", 3.5, (Service(30.0),), gpus_per_replica=2, accelerator="x"),
        GpuType("other", 9.0, (Service(40.0),), min_replicas=0),
    ]
    base = make_problem([rate], {"small": (1, [10])})

    def cost(pools: tuple[Pool, ...] = (), **changes: dict[str, int]) -> float:
        types = tuple(
            GpuType(**(vars(k) | {name: v[k.name] for name, v in changes.items() if k.name in v}))
            for k in kinds
        )
        return make_plan(Problem(base.buckets, types, pools=pools), solver=solver).cost_usd_per_hour

    assert cost() == 3.0
    assert cost(max_replicas={"small": 2}) == 3.5
    assert cost(min_replicas={"other": 1}) == 9.0
    both = ("small", "large")
    assert cost((Pool("x", both, 3),)) == 3.0
    assert cost((Pool("x", both, 2),)) == 3.5
    assert cost((Pool("x", both, 1),)) == 9.0


@pytest.mark.parametrize("usable", [1.0, 0.5])
def test_quick_answer_keeps_the_budget(usable: float) -> None:
    model = Model(
        load=np.array([[1.5]]),
        cost=np.ones(1),
        gpus=np.ones(1),
        lower=np.zeros(1),
        upper=np.full(1, np.inf),
        usable=usable,
        budget=2.0,
    )
    answer = quick_answer(model)
    assert (answer is None) == (usable == 0.5)
