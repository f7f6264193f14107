"""Make a plan: solve, clean the routing, check it, and say what it saves and what binds it."""

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from optimizer.errors import OptimizerError, OptimizerUsageError
from optimizer.plan import Binding, Fleet, NextGpu, Plan, Route, Savings
from optimizer.problem import Problem, check_names
from optimizer.solver import Solver
from optimizer.verify import verify

if TYPE_CHECKING:
    from optimizer.model import Incumbent, Model

NOISE = 1e-6
EXTRAS_S = 5.0
_CHECK_SHARE = 0.1


def make_plan(
    problem: Problem,
    *,
    current: Mapping[str, int] | None = None,
    limit_s: float = 30.0,
    gap: float = 1e-3,
    stop: threading.Event | None = None,
    solver: Solver | None = None,
) -> Plan:
    """Return the cheapest plan found.

    Args:
        problem: the question, under its limits.
        current: replicas by type of the fleet that runs now, to compare with.
        limit_s: wall-clock seconds for all solving, held within 20%.
        gap: relative gap to the lower bound at which a plan is good enough.
        stop: when set, the best plan so far is returned.
        solver: a running solver to use; by default one is started and ended here.

    Raises:
        OptimizerUsageError: ``current`` names an unknown type, or fewer than 0 replicas.
        InfeasibleError: no plan meets the limits; says what would.
        OptimizerError: no plan was found in time, or the solver failed.
    """
    if solver is None:
        with Solver() as own:
            return make_plan(
                problem, current=current, limit_s=limit_s, gap=gap, stop=stop, solver=own
            )
    from optimizer import relax

    _check_current(problem, current or {})
    deadline_s = time.monotonic() + limit_s
    relax.require_served(problem, solver, min(limit_s, EXTRAS_S), stop)
    model = model_of(problem)
    solution = solver.solve(model, limit_s=limit_s, gap=gap, stop=stop)
    if solution.status == "infeasible":
        left_s = min(max(deadline_s - time.monotonic(), 1.0), EXTRAS_S)
        raise relax.explain(problem, solver, left_s, stop)
    if solution.incumbent is None and stop is not None and stop.is_set():
        raise OptimizerError("plan.stopped", "stopped before any plan was found")
    if solution.incumbent is None:
        raise OptimizerError(
            "plan.no_solution",
            f"no plan was found within {limit_s:g} s; whether there is one is not known",
            hint="give more time with --time-limit, or loosen a limit",
        )
    plan = _plan(problem, solution.incumbent, solution.status)
    cost = plan.cost_usd_per_hour
    bound = min(max(solution.bound, solution.lp_bound, 0.0), cost)
    if not math.isfinite(bound):
        bound = 0.0
    enough = None
    if current:
        left_s = min(max(deadline_s - time.monotonic(), _CHECK_SHARE * limit_s), EXTRAS_S)
        enough = serves(model, _counts(problem, current), solver, left_s)
    plan = replace(
        plan,
        lower_bound_usd_per_hour=bound,
        lp_bound_usd_per_hour=min(max(solution.lp_bound, 0.0), cost),
        gap=(cost - bound) / cost,
        savings=_savings(problem, model, cost, current, enough),
        warnings=(*plan.warnings, *_unchecked(current, enough)),
        next_gpu=_next_gpus(problem, (bound, cost), solver, deadline_s, gap, stop),
    )
    wrong = verify(plan, problem)
    if wrong:
        raise OptimizerError(
            "plan.wrong",
            f"the solver's answer does not hold: {'; '.join(wrong)}",
            hint="please report this with the input files",
        )
    return plan


def _check_current(problem: Problem, current: Mapping[str, int]) -> None:
    check_names("--current", current, [kind.name for kind in problem.types])
    for name, count in current.items():
        if count < 0:
            raise OptimizerUsageError(
                "problem.current", f"--current {name}={count}; expected 0 or more", target=name
            )


def model_of(problem: Problem) -> "Model":
    """Return the numbers of a problem."""
    import numpy as np

    from optimizer.model import Model, PoolLimit

    kinds = problem.types
    index = {kind.name: g for g, kind in enumerate(kinds)}
    load = np.array(
        [[problem.load(b, g) for g in range(len(kinds))] for b in range(len(problem.buckets))]
    )
    upper = [math.inf if k.max_replicas is None else k.max_replicas for k in kinds]
    budget = problem.budget_usd_per_hour
    return Model(
        load=load,
        cost=np.array([kind.cost_usd_per_hour for kind in kinds]),
        gpus=np.array([float(kind.gpus_per_replica) for kind in kinds]),
        lower=np.array([float(kind.min_replicas) for kind in kinds]),
        upper=np.array(upper, dtype=np.float64),
        usable=1.0 - problem.headroom,
        pools=tuple(
            PoolLimit(tuple(index[name] for name in pool.types), pool.gpus)
            for pool in problem.pools
        ),
        budget=math.inf if budget is None else budget,
    )


def _plan(problem: Problem, answer: "Incumbent", status: str) -> Plan:
    routing = _routes(problem, answer)
    replicas = {
        k.name: round(float(n)) for k, n in zip(problem.types, answer.replicas, strict=True)
    }
    utilization = _utilization(problem, routing, replicas)
    cost = math.fsum(kind.cost_usd_per_hour * replicas[kind.name] for kind in problem.types)
    sources = {kind.source for kind in problem.types if replicas[kind.name]}
    return Plan(
        replicas=replicas,
        gpus={kind.name: replicas[kind.name] * kind.gpus_per_replica for kind in problem.types},
        replica_usd_per_hour={kind.name: kind.cost_usd_per_hour for kind in problem.types},
        cost_usd_per_hour=cost,
        lower_bound_usd_per_hour=0.0,
        lp_bound_usd_per_hour=0.0,
        gap=1.0,
        solver_status=status,
        routing=routing,
        utilization=utilization,
        savings=Savings(None, {}),
        binding=_binding(problem, replicas, utilization, cost),
        next_gpu=(),
        provenance=sources.pop() if len(sources) == 1 else "mixed",
        model=problem.model,
        slos=tuple(slo.to_json() for slo in problem.slos),
        request_rate=problem.request_rate,
        headroom=problem.headroom,
        inputs=problem.inputs,
        warnings=problem.warnings,
    )


def _routes(problem: Problem, answer: "Incumbent") -> tuple[Route, ...]:
    """Return the routing without the solver's noise; the shares of a bucket sum to 1."""
    routes = []
    for b, bucket in enumerate(problem.buckets):
        row = [float(share) for share in answer.shares[b]]
        kept = {
            g: share
            for g, share in enumerate(row)
            if share > NOISE and math.isfinite(problem.load(b, g))
        }
        total = math.fsum(kept.values())
        for g, share in kept.items():
            routes.append(
                Route(
                    bucket=bucket.name,
                    input_tokens=bucket.input_tokens,
                    output_tokens=bucket.output_tokens,
                    type=problem.types[g].name,
                    share=share / total,
                    requests_per_s=share / total * bucket.requests_per_s,
                    latency=problem.types[g].services[b].latency,
                )
            )
    return tuple(routes)


def _utilization(
    problem: Problem, routing: tuple[Route, ...], replicas: Mapping[str, int]
) -> dict[str, float]:
    buckets = {bucket.name: b for b, bucket in enumerate(problem.buckets)}
    kinds = {kind.name: g for g, kind in enumerate(problem.types)}
    busy = dict.fromkeys((kind.name for kind in problem.types if replicas[kind.name]), 0.0)
    for route in routing:
        busy[route.type] += route.share * problem.load(buckets[route.bucket], kinds[route.type])
    return {name: load / replicas[name] for name, load in busy.items()}


def _binding(
    problem: Problem,
    replicas: Mapping[str, int],
    utilization: Mapping[str, float],
    cost: float,
) -> tuple[Binding, ...]:
    found = []
    kinds = {kind.name: kind for kind in problem.types}
    for pool in problem.pools:
        used = sum(replicas[name] * kinds[name].gpus_per_replica for name in pool.types)
        if pool.gpus - used < min(kinds[name].gpus_per_replica for name in pool.types):
            found.append(Binding("available", pool.name, pool.gpus))
    for kind in problem.types:
        if kind.max_replicas is not None and replicas[kind.name] == kind.max_replicas:
            found.append(Binding("max", kind.name, kind.max_replicas))
        if 0 < kind.min_replicas == replicas[kind.name]:
            found.append(Binding("min", kind.name, kind.min_replicas))
    budget = problem.budget_usd_per_hour
    cheapest = min(kind.cost_usd_per_hour for kind in problem.types)
    if budget is not None and budget - cost < cheapest:
        found.append(Binding("budget", None, budget))
    if problem.headroom and max(utilization.values()) > (1 - problem.headroom) * 0.99:
        found.append(Binding("headroom", None, problem.headroom))
    return tuple(found)


def _savings(
    problem: Problem,
    model: "Model",
    cost: float,
    current: Mapping[str, int] | None,
    serves: bool | None,
) -> Savings:
    single = {kind.name: _single(problem, model, g, cost) for g, kind in enumerate(problem.types)}
    can = {
        name: fleet.cost_usd_per_hour
        for name, fleet in single.items()
        if fleet.cost_usd_per_hour is not None
    }
    within = {name: c for name, c in can.items() if single[name].within_limits} or can
    best = min(within, key=lambda name: (within[name], name), default=None)
    if not current or serves is None:
        return Savings(best, single)
    counts = _counts(problem, current)
    return Savings(best, single, _fleet(problem, model, counts, feasible=serves, against=cost))


def _fleet(
    problem: Problem, model: "Model", counts: list[int], *, feasible: bool, against: float
) -> Fleet:
    import numpy as np

    fleet_cost = math.fsum(
        kind.cost_usd_per_hour * n for kind, n in zip(problem.types, counts, strict=True)
    )
    return Fleet(
        replicas={k.name: n for k, n in zip(problem.types, counts, strict=True) if n},
        cost_usd_per_hour=fleet_cost,
        feasible=feasible,
        within_limits=model.allows(np.array(counts, dtype=np.float64)),
        saving_usd_per_hour=fleet_cost - against,
        saving_share=(fleet_cost - against) / fleet_cost if fleet_cost else None,
    )


def _single(problem: Problem, model: "Model", kind: int, cost: float) -> Fleet:
    """Return the fleet of one type alone; availability does not shrink it, but is noted."""
    busy = math.fsum(problem.load(b, kind) for b in range(len(problem.buckets)))
    if not math.isfinite(busy):
        return Fleet({}, None, False, False, None, None)
    counts = [0] * len(problem.types)
    counts[kind] = max(math.ceil(busy / model.usable * (1 - 1e-9)), 1)
    return _fleet(problem, model, counts, feasible=True, against=cost)


def _counts(problem: Problem, fleet: Mapping[str, int]) -> list[int]:
    return [fleet.get(kind.name, 0) for kind in problem.types]


def serves(model: "Model", counts: list[int], solver: Solver, limit_s: float) -> bool | None:
    """Return whether fixed replicas serve the demand; None when not found out in time."""
    import numpy as np

    fixed = np.array(counts, dtype=np.float64)
    if not np.isfinite(model.load)[:, fixed > 0].any(axis=1).all():
        return False
    asked = replace(model, lower=fixed, upper=fixed, pools=(), budget=math.inf)
    found = solver.solve(asked, limit_s=limit_s)
    return None if found.status == "no_solution" else found.incumbent is not None


def _unchecked(current: Mapping[str, int] | None, serves: bool | None) -> tuple[str, ...]:
    if not current or serves is not None:
        return ()
    return ("whether the current fleet serves the demand was not found out in the time given",)


def _next_gpus(
    problem: Problem,
    between: tuple[float, float],
    solver: Solver,
    deadline_s: float,
    gap: float,
    stop: threading.Event | None,
) -> tuple[NextGpu, ...]:
    """Return what one more replica's GPUs would save, per limited pool or type, while time lasts.

    The plan costs ``between`` its bound and its cost at best; a saving within that gap might be
    had without the GPUs, so it counts as nothing.
    """
    bound, cost = between
    ends_s = min(deadline_s, time.monotonic() + EXTRAS_S)
    kinds = {kind.name: kind for kind in problem.types}
    members = {pool.name: pool.types for pool in problem.pools}
    members |= {kind.name: (kind.name,) for kind in problem.types if kind.max_replicas is not None}
    found = []
    for name, drawing in sorted(members.items()):
        step = min(kinds[member].gpus_per_replica for member in drawing)
        left_s = ends_s - time.monotonic()
        saves: float | None = None
        if left_s > 0 and not (stop is not None and stop.is_set()):
            larger = model_of(_with_more(problem, name, step))
            answer = solver.solve(larger, limit_s=left_s, gap=gap, stop=stop)
            if answer.status == "optimal" and answer.incumbent:
                cheaper = answer.incumbent.value
                saves = cost - cheaper if cheaper < bound - cost * 1e-9 else 0.0
        found.append(NextGpu(name, step, saves))
    return tuple(found)


def _with_more(problem: Problem, name: str, gpus: int) -> Problem:
    """Return the problem with one more replica's GPUs in a pool, and in a type's own maximum."""
    return replace(
        problem,
        pools=tuple(
            replace(pool, gpus=pool.gpus + gpus) if pool.name == name else pool
            for pool in problem.pools
        ),
        types=tuple(
            replace(kind, max_replicas=kind.max_replicas + 1)
            if kind.name == name and kind.max_replicas is not None
            else kind
            for kind in problem.types
        ),
    )
