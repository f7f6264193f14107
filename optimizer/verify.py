"""Check a plan against its problem, independently of the solver and its matrices."""

import math
from collections import defaultdict

from optimizer.plan import Plan
from optimizer.problem import GpuType, Problem

TOLERANCE = 2e-6


def verify(plan: Plan, problem: Problem, tolerance: float = TOLERANCE) -> list[str]:
    """Return what is wrong with a plan, one readable line each; empty when it holds.

    Args:
        plan: the plan, fresh or read back.
        problem: what it was made for, under its limits.
        tolerance: relative slack for rounding.
    """
    kinds = {kind.name: kind for kind in problem.types}
    unknown = sorted((plan.replicas.keys() | {r.type for r in plan.routing}) - kinds.keys())
    if unknown:
        return [f"the plan uses {name}, which the problem does not have" for name in unknown]
    return [
        *_replicas(plan, problem),
        *_shares(plan, problem, kinds, tolerance),
        *_utilization(plan, problem, kinds, tolerance),
        *_costs(plan, problem, kinds, tolerance),
    ]


def _replicas(plan: Plan, problem: Problem) -> list[str]:
    wrong = []
    for kind in problem.types:
        count = plan.replicas.get(kind.name, 0)
        top = math.inf if kind.max_replicas is None else kind.max_replicas
        if count != int(count) or not kind.min_replicas <= count <= top:
            limits = f"{kind.min_replicas} to {kind.max_replicas}"
            wrong.append(f"{kind.name} has {count} replicas; expected {limits}")
        if plan.gpus.get(kind.name, 0) != count * kind.gpus_per_replica:
            wrong.append(f"{kind.name} has {plan.gpus.get(kind.name)} GPUs for {count} replicas")
    for pool in problem.pools:
        used = sum(plan.gpus.get(name, 0) for name in pool.types)
        if used > pool.gpus:
            wrong.append(f"{used} GPUs of {pool.name} are used, {pool.gpus} are available")
    return wrong


def _shares(plan: Plan, problem: Problem, kinds: dict[str, GpuType], tolerance: float) -> list[str]:
    wrong = []
    index = {bucket.name: b for b, bucket in enumerate(problem.buckets)}
    sums: dict[str, list[float]] = defaultdict(list)
    for route in plan.routing:
        where = f"bucket {route.bucket} on {route.type}"
        if route.bucket not in index:
            wrong.append(f"{where}: the problem has no such bucket")
            continue
        b = index[route.bucket]
        sums[route.bucket].append(route.share)
        if not 0 < route.share <= 1 + tolerance:
            wrong.append(f"{where}: share {route.share}")
        if kinds[route.type].services[b].requests_per_s <= 0:
            wrong.append(f"{where}: the type does not serve this bucket within the SLO")
        demand = problem.buckets[b].requests_per_s
        if not math.isclose(
            route.requests_per_s, route.share * demand, rel_tol=tolerance, abs_tol=2e-9
        ):
            wrong.append(f"{where}: {route.requests_per_s} requests/s is not its share of {demand}")
    for bucket in problem.buckets:
        total = math.fsum(sums[bucket.name])
        if abs(total - 1) > tolerance:
            wrong.append(f"bucket {bucket.name}: shares sum to {total:.9g}; expected 1")
    return wrong


def _utilization(
    plan: Plan, problem: Problem, kinds: dict[str, GpuType], tolerance: float
) -> list[str]:
    wrong = []
    work = {bucket.name: bucket for bucket in problem.buckets}
    index = {bucket.name: b for b, bucket in enumerate(problem.buckets)}
    busy: dict[str, list[float]] = defaultdict(list)
    for route in plan.routing:
        if route.bucket in index:
            rate = kinds[route.type].services[index[route.bucket]].requests_per_s
            bucket = work[route.bucket]
            demand = route.share * bucket.requests_per_s * bucket.work
            busy[route.type].append(demand / rate if rate > 0 else math.inf)
    limit = 1 - problem.headroom
    for name, parts in busy.items():
        replicas = plan.replicas.get(name, 0)
        found = math.fsum(parts) / replicas if replicas else math.inf
        if found > limit * (1 + tolerance):
            wrong.append(f"{name} is {found:.6g} busy; at most {limit:.6g} was asked for")
        if not math.isclose(found, plan.utilization.get(name, 0), rel_tol=1e-5, abs_tol=2e-6):
            wrong.append(f"{name} is {found:.6g} busy; the plan says {plan.utilization.get(name)}")
    return wrong


def _costs(plan: Plan, problem: Problem, kinds: dict[str, GpuType], tolerance: float) -> list[str]:
    wrong = []
    cost = math.fsum(kinds[name].cost_usd_per_hour * n for name, n in plan.replicas.items())
    if not math.isclose(cost, plan.cost_usd_per_hour, rel_tol=tolerance, abs_tol=1e-6):
        wrong.append(f"the replicas cost {cost:.6g} $/h; the plan says {plan.cost_usd_per_hour}")
    budget = problem.budget_usd_per_hour
    if budget is not None and cost > budget * (1 + tolerance):
        wrong.append(f"the replicas cost {cost:.6g} $/h; the budget is {budget:.6g}")
    if plan.lower_bound_usd_per_hour > cost * (1 + tolerance) + 1e-6:
        wrong.append(
            f"the lower bound {plan.lower_bound_usd_per_hour:.6g} is above the cost {cost:.6g}"
        )
    return wrong
