"""Why no plan is feasible, and the smallest relaxation of each limit that would do."""

import math
import threading
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from accelerators.units import format_duration
from optimizer.errors import InfeasibleError
from optimizer.problem import Problem, Service
from optimizer.solver import Solver

Relaxation = dict[str, Any]


def require_served(
    problem: Problem, solver: Solver, limit_s: float, stop: threading.Event | None
) -> None:
    """Raise InfeasibleError when a bucket has no type that is available and serves it.

    Args:
        problem: the question.
        solver: used, within ``limit_s`` seconds, only when there is such a bucket.
        limit_s: wall-clock seconds.
        stop: when set, no more is looked for.
    """
    unserved = problem.unserved()
    if not unserved:
        return
    entries = [_unserved_entry(problem, b) for b in unserved]
    names = ", ".join(entry["bucket"] for entry in entries[:8]) + (
        f" and {len(entries) - 8} more" if len(entries) > 8 else ""
    )
    share = math.fsum(problem.buckets[b].requests_per_s for b in unserved) / problem.request_rate
    relaxations = _serving_relaxations(problem, unserved, solver, limit_s / 2, stop)
    kept = without(problem, unserved)
    if kept.buckets and _feasible(kept, solver, limit_s / 2, stop):
        relaxations.append({"kind": "workload", "drop_share": round(share, 6)})
    raise InfeasibleError(
        "plan.unserved",
        f"no available type serves within the SLO: {names} ({share:.2%} of the requests)",
        hint=_hint(relaxations),
        details={"unserved": entries, "relaxations": relaxations},
    )


def _hint(relaxations: list[Relaxation]) -> str:
    texts = "; ".join(describe(relaxation) for relaxation in relaxations)
    return f"any of these would do: {texts}" if texts else ""


def without(problem: Problem, dropped: Iterable[int]) -> Problem:
    """Return the problem less some buckets, by index."""
    gone = set(dropped)
    kept = [b for b in range(len(problem.buckets)) if b not in gone]
    return replace(
        problem,
        buckets=tuple(problem.buckets[b] for b in kept),
        types=tuple(
            replace(kind, services=tuple(kind.services[b] for b in kept)) for kind in problem.types
        ),
    )


def _feasible(
    problem: Problem, solver: Solver, limit_s: float, stop: threading.Event | None
) -> bool:
    from optimizer.planner import model_of

    answer = solver.solve(model_of(problem), limit_s=limit_s, gap=0.5, stop=stop)
    return answer.incumbent is not None


def _unserved_entry(problem: Problem, index: int) -> dict[str, Any]:
    bucket = problem.buckets[index]
    return {
        "bucket": bucket.name,
        "input_tokens": bucket.input_tokens,
        "output_tokens": bucket.output_tokens,
        "requests_per_s": round(bucket.requests_per_s, 6),
        "types": {
            kind.name: _why(problem, k, kind.services[index])
            for k, kind in enumerate(problem.types)
        },
    }


def _why(problem: Problem, kind: int, service: Service) -> str:
    if service.requests_per_s > 0 and problem.replica_cap(kind) == 0:
        return "none available"
    if service.status == "not_measured":
        return "not measured"
    return f"misses {service.limited_by}" if service.limited_by else "no rate meets the SLO"


def _serving_relaxations(
    problem: Problem,
    unserved: tuple[int, ...],
    solver: Solver,
    limit_s: float,
    stop: threading.Event | None,
) -> list[Relaxation]:
    """Return what would serve all buckets: another SLO, more GPUs, or both at once; or nothing."""
    hopeless = [
        b for b in unserved if all(kind.services[b].requests_per_s <= 0 for kind in problem.types)
    ]
    rest = without(problem, hopeless)
    more: Relaxation | None = {}
    if rest.buckets:
        more = _fewest_gpus(rest, solver, limit_s, stop)
    if more is None:
        return []
    if not hopeless:
        return [{"kind": "availability"} | more] if more else []
    needed: dict[str, float] = {}
    for b in hopeless:
        for name, limit_ms in _needed_slo(problem, b).items():
            needed[name] = max(needed.get(name, 0.0), limit_ms)
    missed = {kind.services[b].limited_by or "" for b in hopeless for kind in problem.types}
    entry: Relaxation = {
        "kind": "slo",
        "buckets": [problem.buckets[b].name for b in hopeless],
        "limits_ms": {name: -_floor(-value, 3) for name, value in sorted(needed.items())},
        "missed": sorted(missed - {""}),
    }
    return [entry | more]


def _needed_slo(problem: Problem, bucket: int) -> dict[str, float]:
    """Return the loosest limits (ms) that the nearest type would need; empty when not known."""
    best: tuple[float, dict[str, float]] | None = None
    for kind in problem.types:
        latency, over = kind.services[bucket].latency, {}
        for slo in problem.slos:
            value = (latency.get(f"{slo.metric}_ms") or {}).get(slo.statistic)
            if value is None:
                break
            if value > slo.limit_s * 1e3:
                over[f"{slo.name}"] = value / (slo.limit_s * 1e3)
        else:
            worst = max(over.values(), default=math.inf)
            if over and (best is None or worst < best[0]):
                limits = {slo.name: slo.limit_s * 1e3 for slo in problem.slos}
                best = (worst, {name: ratio * limits[name] for name, ratio in over.items()})
    return best[1] if best else {}


def explain(
    problem: Problem, solver: Solver, limit_s: float, stop: threading.Event | None
) -> InfeasibleError:
    """Return the error for a problem whose limits leave too little capacity.

    Args:
        problem: one whose every bucket has a type that could serve it.
        solver: used for a few more models, all within ``limit_s`` seconds.
        limit_s: wall-clock seconds.
        stop: when set, no more is looked for.
    """
    share_s = limit_s / 3
    rate, proven = _highest_rate(problem, solver, share_s, stop)
    found: list[Relaxation] = []
    if rate > 0:
        found.append({"kind": "rate", "request_rate": _floor(rate, 5)})
        headroom = 1 - (1 - problem.headroom) * problem.request_rate / rate
        if problem.headroom and headroom >= 0:
            found.append({"kind": "headroom", "headroom": math.floor(headroom * 1e4) / 1e4})
    if problem.pools or any(kind.max_replicas is not None for kind in problem.types):
        more = _fewest_gpus(problem, solver, share_s, stop)
        if more:
            found.append({"kind": "availability"} | more)
    if problem.budget_usd_per_hour is not None:
        found += _least_budget(problem, solver, share_s, stop)
    most = ""
    if proven:
        most = f" more than {rate:.4g} of" if rate > 0 else " any of"
    return InfeasibleError(
        "plan.infeasible",
        f"no plan within the limits serves{most} the {problem.request_rate:.4g} requests/s "
        "asked for",
        hint=_hint(found) or "what would do was not found in time; give more with --time-limit",
        details={"unserved": [], "relaxations": found},
    )


def _floor(value: float, digits: int) -> float:
    """Return the value rounded down to so many significant digits."""
    if not value:
        return value
    scale = 10.0 ** (digits - 1 - math.floor(math.log10(abs(value))))
    return math.floor(value * scale * (1 + math.copysign(1e-10, value))) / scale


def _highest_rate(
    problem: Problem, solver: Solver, limit_s: float, stop: threading.Event | None
) -> tuple[float, bool]:
    """Return the highest rate found that the limits allow, and whether it is proven highest."""
    from optimizer.planner import model_of

    model = replace(model_of(problem), goal="rate")
    found = solver.solve(model, limit_s=limit_s, gap=1e-5, stop=stop)
    if found.incumbent is None:
        return 0.0, found.status == "infeasible"
    rate = max(found.incumbent.value, 0.0) * problem.request_rate
    return (rate if rate > problem.request_rate * 1e-9 else 0.0), found.status == "optimal"


def _fewest_gpus(
    problem: Problem, solver: Solver, limit_s: float, stop: threading.Event | None
) -> Relaxation | None:
    """Return the least GPUs to add, and the budget where that is in the way too.

    Keys ``extra_gpus`` (by pool), ``max_replicas`` (by type) and ``budget_usd_per_hour``, the
    latter two only where needed; empty when the limits are wide enough; None when not found.
    """
    from optimizer.planner import model_of

    model = replace(model_of(problem), goal="gpus")
    answer = solver.solve(model, limit_s=limit_s / 2, gap=0, stop=stop).incumbent
    entry: Relaxation = {}
    if answer is None and problem.budget_usd_per_hour is not None:
        free = replace(model, budget=math.inf)
        answer = solver.solve(free, limit_s=limit_s / 2, gap=0, stop=stop).incumbent
        if answer is not None:
            entry["budget_usd_per_hour"] = _up_to_cents(float(answer.replicas @ model.cost))
    if answer is None:
        return None
    replicas = {
        k.name: round(float(n)) for k, n in zip(problem.types, answer.replicas, strict=True)
    }
    kinds = {kind.name: kind for kind in problem.types}
    extra = {}
    for pool in problem.pools:
        used = sum(replicas[name] * kinds[name].gpus_per_replica for name in pool.types)
        if used > pool.gpus:
            extra[pool.name] = used - pool.gpus
    raised = {
        name: n
        for name, n in replicas.items()
        if (top := kinds[name].max_replicas) is not None and n > top
    }
    if raised:
        entry["max_replicas"] = raised
    return entry | {"extra_gpus": extra} if extra or entry else {}


def _least_budget(
    problem: Problem, solver: Solver, limit_s: float, stop: threading.Event | None
) -> list[Relaxation]:
    from optimizer.planner import model_of

    free = model_of(replace(problem, budget_usd_per_hour=None))
    answer = solver.solve(free, limit_s=limit_s, gap=0, stop=stop).incumbent
    if answer is None:
        return []
    return [{"kind": "budget", "budget_usd_per_hour": _up_to_cents(answer.value)}]


def _up_to_cents(value: float) -> float:
    return math.ceil(value * 100 * (1 - 1e-10)) / 100


def describe(relaxation: Relaxation) -> str:
    """Return one relaxation in words."""
    kind = relaxation["kind"]
    if kind == "rate":
        return f"at most {relaxation['request_rate']:g} requests/s"
    if kind == "headroom":
        return f"headroom of {relaxation['headroom']:.2%}"
    if kind == "budget":
        return f"a budget of {relaxation['budget_usd_per_hour']:.2f} $/h"
    if kind == "workload":
        return f"leaving out these requests ({relaxation['drop_share']:.2%})"
    parts = [_describe_slo(relaxation)] if kind == "slo" else []
    parts += [
        f"{n} more GPU{'s' if n > 1 else ''} of {name}"
        for name, n in relaxation.get("extra_gpus", {}).items()
    ]
    parts += [
        f"up to {n} replica{'s' if n > 1 else ''} of {name}"
        for name, n in relaxation.get("max_replicas", {}).items()
    ]
    if "budget_usd_per_hour" in relaxation:
        parts.append(f"a budget of {relaxation['budget_usd_per_hour']:.2f} $/h")
    return " and ".join(parts)


def _describe_slo(relaxation: Relaxation) -> str:
    limits = ", ".join(
        f"{name}<={format_duration(limit_ms / 1e3).replace(' ', '')}"
        for name, limit_ms in relaxation["limits_ms"].items()
    )
    missed = ", ".join(relaxation["missed"])
    return f"an SLO of {limits}" if limits else f"a looser SLO ({missed or 'not known which'})"
