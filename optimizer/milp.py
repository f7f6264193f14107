"""The mixed-integer model of a GPU mix, and its solution by HiGHS through PuLP.

Variables: f[b, g], the share of bucket b's requests that type g serves (continuous), and y[g],
replicas of type g (integer). With load[b, g] the replicas that bucket b would keep busy alone:

    minimise   sum_g cost[g] y[g]
    subject to sum_g f[b, g] = 1                        for every bucket
               sum_b load[b, g] f[b, g] <= usable y[g]  for every type
               lower[g] <= y[g] <= upper[g], pools, budget

A route with infinite load has no variable. This is the model of Mélange (arXiv:2404.14527) with
its slices taken to the limit, so its optimum is never dearer at any slice factor. Two more goals
answer what would make an infeasible problem feasible: the largest part of the demand that can be
served (``rate``), and the fewest GPUs beyond the limits (``gpus``).

Everything here runs inside the solver's own process; see :mod:`optimizer.solver`. The relaxed model
comes first: it gives a bound, and by rounding and diving two answers that branching starts from.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import highspy
import numpy as np
import numpy.typing as npt
import pulp

from optimizer.dive import dive
from optimizer.model import TOLERANCE, Floats, Incumbent, Model, Solution

OVERLOAD = 1e-6
_DIVE_SHARE = 0.5

Report = Callable[[Incumbent | None, float], None]


@dataclass
class _Formulation:
    """A model in PuLP's terms; ``routes`` are (b, g) in the order of ``f``."""

    problem: Any
    routes: tuple[npt.NDArray[np.intp], ...]
    f: list[Any]
    y: list[Any]
    served: Any
    shape: tuple[int, int]

    def read(self, values: Floats, goal_value: float) -> Incumbent:
        """Return the answer that column values (in PuLP's column order) state."""
        shares = np.zeros(self.shape)
        shares[self.routes] = values[[var.index for var in self.f]]
        replicas = np.round(values[[var.index for var in self.y]])
        return Incumbent(replicas, np.clip(shares, 0.0, None), goal_value)

    def write(self, answer: Incumbent) -> Floats:
        """Return the column values of an answer."""
        values = np.zeros(len(self.f) + len(self.y))
        values[[var.index for var in self.f]] = answer.shares[self.routes]
        values[[var.index for var in self.y]] = answer.replicas
        return values


def _formulate(model: Model) -> _Formulation:
    n_buckets, n_types = model.load.shape
    sense = pulp.LpMaximize if model.goal == "rate" else pulp.LpMinimize
    problem = pulp.LpProblem("mix", sense)
    routes = np.nonzero(np.isfinite(model.load))
    f = [problem.add_variable(f"f{b}_{g}", 0) for b, g in zip(*routes, strict=True)]
    relaxed = model.goal == "gpus"
    y = [
        problem.add_variable(
            f"y{g}",
            int(model.lower[g]),
            None if relaxed or math.isinf(model.upper[g]) else int(model.upper[g]),
            pulp.LpInteger,
        )
        for g in range(n_types)
    ]
    served = problem.add_variable("served", 0, 1) if model.goal == "rate" else None
    by_bucket: list[list[tuple[Any, float]]] = [[] for _ in range(n_buckets)]
    by_type: list[list[tuple[Any, float]]] = [[(y[g], -model.usable)] for g in range(n_types)]
    loads = model.load[routes].tolist()
    for variable, b, g, load in zip(f, *map(np.ndarray.tolist, routes), loads, strict=True):
        by_bucket[b].append((variable, 1.0))
        by_type[g].append((variable, load))
    problem += _goal(model, problem, y, served)
    for terms in by_bucket:
        whole = [] if served is None else [(served, -1.0)]
        problem += pulp.LpAffineExpression([*terms, *whole]) == (1.0 if served is None else 0.0)
    for terms in by_type:
        problem += pulp.LpAffineExpression(terms) <= 0
    if math.isfinite(model.budget):
        problem += pulp.lpDot(model.cost.tolist(), y) <= model.budget
    if served is None:
        for choice in {tuple(np.nonzero(row)[0]) for row in np.isfinite(model.load)}:
            problem += pulp.lpSum(y[g] for g in choice) >= 1
    return _Formulation(problem, routes, f, y, served, (n_buckets, n_types))


def _goal(model: Model, problem: Any, y: list[Any], served: Any) -> Any:
    """Add the limits on GPUs, and return the objective."""
    extra = []
    for p, pool in enumerate(model.pools):
        used = pulp.lpSum(float(model.gpus[g]) * y[g] for g in pool.members)
        if model.goal == "gpus":
            extra.append(problem.add_variable(f"e{p}", 0))
            problem += used <= pool.gpus + extra[-1]
        else:
            problem += used <= pool.gpus
    if served is not None:
        return served
    if model.goal == "cost":
        return pulp.lpDot(model.cost.tolist(), y)
    for g in np.nonzero(np.isfinite(model.upper))[0]:
        more = problem.add_variable(f"m{g}", 0)
        problem += y[g] <= int(model.upper[g]) + more
        extra.append(float(model.gpus[g]) * more)
    return pulp.lpSum(extra)


def solve(model: Model, deadline_s: float, gap: float, report: Report) -> Solution:
    """Return the best answer found before ``deadline_s`` (on ``time.monotonic``'s clock).

    Args:
        model: what to solve.
        deadline_s: when to stop.
        gap: relative gap at which an answer is good enough.
        report: called with each better answer and the bound known by then.
    """
    formulation = _formulate(model)
    lp_bound, values = _relax(formulation)
    if values is None:
        return Solution("infeasible", None, math.nan, math.nan)
    report(None, lp_bound)
    start = None
    for answer in _first_answers(model, formulation, values, deadline_s):
        if start is None or answer.value < start.value:
            start = answer
            report(start, lp_bound)
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        return Solution("feasible" if start else "no_solution", start, lp_bound, lp_bound)
    found = _branch(model, formulation, left_s, gap, lp_bound, start, report)
    return _balanced(model, found)


def _first_answers(
    model: Model, formulation: _Formulation, values: Floats, deadline_s: float
) -> Iterator[Incumbent]:
    """Yield the relaxed answer rounded up, if the limits allow it, and one found by diving."""
    if model.goal != "cost":
        return
    rounded = _rounded_up(model, formulation, values)
    if rounded is not None:
        yield rounded
    columns = [variable.index for variable in formulation.y]
    now_s = time.monotonic()
    dive_until_s = now_s + _DIVE_SHARE * (deadline_s - now_s)
    dived = dive(formulation.problem.solverModel, columns, dive_until_s)
    answer = None if dived is None else _rounded_up(model, formulation, np.array(dived))
    if answer is not None:
        yield answer


def _relax(formulation: _Formulation) -> tuple[float, Floats | None]:
    """Return value and columns of the model without integrality; None when infeasible."""
    problem = formulation.problem
    problem.solve(pulp.HiGHS(mip=False, msg=False, threads=1))
    if problem.status != pulp.LpStatusOptimal:
        return math.nan, None
    values = np.array([variable.varValue for variable in problem.variables()])
    return float(pulp.value(problem.objective)), values


def _rounded_up(model: Model, formulation: _Formulation, values: Floats) -> Incumbent | None:
    relaxed = formulation.read(values, math.nan)
    busy = np.where(np.isfinite(model.load), model.load, 0.0) * relaxed.shares
    needed = np.ceil(busy.sum(axis=0) / model.usable * (1 - TOLERANCE))
    replicas = np.maximum(needed, model.lower)
    if not model.allows(replicas):
        return None
    return Incumbent(replicas, relaxed.shares, float(replicas @ model.cost))


class _Started(pulp.HiGHS):  # type: ignore[misc]
    """PuLP's HiGHS, given an answer to start from: [columns] values, or None."""

    start: Floats | None = None

    def callSolver(self, lp: Any) -> None:  # noqa: N802 - PuLP's name
        if self.start is not None:
            solution = highspy.HighsSolution()
            solution.col_value = self.start
            lp.solverModel.setSolution(solution)
        super().callSolver(lp)


def _branch(
    model: Model,
    formulation: _Formulation,
    left_s: float,
    gap: float,
    lp_bound: float,
    start: Incumbent | None,
    report: Report,
) -> Solution:
    kinds = highspy.cb.HighsCallbackType
    sign = -1.0 if model.goal == "rate" else 1.0

    def improved(kind: Any, _text: str, out: Any, _in: Any, _user: Any) -> None:
        if kind == kinds.kCallbackMipImprovingSolution and len(out.mip_solution):
            value = sign * float(out.objective_function_value)
            bound = sign * float(out.mip_dual_bound)
            answer = formulation.read(np.array(out.mip_solution), value)
            report(answer, bound if math.isfinite(bound) else lp_bound)

    solver = _Started(
        msg=False,
        threads=1,
        gapRel=gap,
        timeLimit=left_s,
        callbackTuple=(improved, None),
        callbacksToActivate=[kinds.kCallbackMipImprovingSolution],
        presolve="off",  # these five: half the time on the benchmark's models
        mip_pscost_minreliable=2,
        mip_heuristic_run_rens=False,
        mip_heuristic_run_root_reduced_cost=False,
        mip_heuristic_run_feasibility_jump=False,
        mip_feasibility_tolerance=TOLERANCE,
        primal_feasibility_tolerance=TOLERANCE,
    )
    solver.start = None if start is None else formulation.write(start)
    formulation.problem.solve(solver)
    highs = formulation.problem.solverModel
    status, info = highs.getModelStatus(), highs.getInfo()
    if status == highspy.HighsModelStatus.kInfeasible:
        return Solution("infeasible", None, math.nan, lp_bound)
    bound = sign * float(info.mip_dual_bound)
    bound = bound if math.isfinite(bound) else lp_bound
    if info.primal_solution_status != highspy.kSolutionStatusFeasible:
        return Solution("feasible" if start else "no_solution", start, bound, lp_bound)
    answer = formulation.read(
        np.array(highs.getSolution().col_value), sign * float(info.objective_function_value)
    )
    proven = status == highspy.HighsModelStatus.kOptimal
    return Solution("optimal" if proven else "feasible", answer, bound, lp_bound)


def _balanced(model: Model, found: Solution) -> Solution:
    """Return the solution with its value exact and its shares balanced."""
    answer = found.incumbent
    if answer is None or model.goal != "cost":
        return found
    exact = Incumbent(answer.replicas, answer.shares, float(answer.replicas @ model.cost))
    return replace(found, incumbent=balance(model, exact) or exact)


def balance(model: Model, answer: Incumbent) -> Incumbent | None:
    """Return the answer with the shares that keep the busiest type least busy.

    Of the many routings that the same replicas allow this leaves the most room everywhere. None
    when no routing fits the replicas within OVERLOAD.
    """
    routes = np.nonzero(np.isfinite(model.load) & (answer.replicas > 0))
    problem = pulp.LpProblem("balance")
    peak = problem.add_variable("peak", 0)
    f = [problem.add_variable(f"f{b}_{g}", 0) for b, g in zip(*routes, strict=True)]
    problem += peak
    n_buckets, n_types = model.load.shape
    by_bucket: list[list[tuple[Any, float]]] = [[] for _ in range(n_buckets)]
    by_type: list[list[tuple[Any, float]]] = [[] for _ in range(n_types)]
    for variable, b, g in zip(f, *map(np.ndarray.tolist, routes), strict=True):
        by_bucket[b].append((variable, 1.0))
        by_type[g].append((variable, float(model.load[b, g])))
    for terms in by_bucket:
        problem += pulp.LpAffineExpression(terms) == 1.0
    for g, terms in enumerate(by_type):
        if terms:
            replicas = float(answer.replicas[g])
            problem += pulp.LpAffineExpression([*terms, (peak, -replicas)]) <= 0
    problem.solve(pulp.HiGHS(mip=False, msg=False, threads=1))
    fits = problem.status == pulp.LpStatusOptimal
    if not fits or peak.varValue > model.usable * (1 + OVERLOAD):
        return None
    shares = np.zeros(model.load.shape)
    shares[routes] = [variable.varValue for variable in f]
    return Incumbent(answer.replicas, np.clip(shares, 0.0, None), answer.value)
