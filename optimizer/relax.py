"""Why no plan is feasible, and the smallest relaxation of each limit that would do."""

import math
import threading
from dataclasses import replace
from typing import Any

from accelerators.units import format_duration
from optimizer.errors import InfeasibleError
from optimizer.problem import Problem, Service
from optimizer.solver import Solver

Relaxation = dict[str, Any]


def require_served(problem: Problem) -> None:
    """Raise InfeasibleError when a bucket has no type that is available and serves it."""
    unserved = problem.unserved()
    if not unserved:
        return
    entries = [_unserved_entry(problem, b) for b in unserved]
    names = ", ".join(entry["bucket"] for entry in entries[:8]) + (
        f" and {len(entries) - 8} more" if len(entries) > 8 else ""
    )
    share = math.fsum(problem.buckets[b].requests_per_s for b in unserved) / problem.request_rate
    relaxations = _serving_relaxations(problem, unserved)
    relaxations.append({"kind": "workload", "drop_share": round(share, 6)})
    raise InfeasibleError(
        "plan.unserved",
        f"no available type serves within the SLO: {names} ({share:.2%} of the requests)",
        hint="any of these would do: " + "; ".join(describe(r) for r in relaxations),
        details={"unserved": entries, "relaxations": relaxations},
    )


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


def _serving_relaxations(problem: Problem, unserved: tuple[int, ...]) -> list[Relaxation]:
    found: list[Relaxation] = []
    hopeless = []
    for b in unserved:
        able = [kind for kind in problem.types if kind.services[b].requests_per_s > 0]
        if able:
            kind = min(able, key=lambda k: (k.cost_usd_per_hour, k.name))
            entry: Relaxation = {
                "kind": "availability",
                "extra_gpus": {kind.name: kind.gpus_per_replica},
            }
            if entry not in found:
                found.append(entry)
        else:
            hopeless.append(b)
    needed: dict[str, float] = {}
    for b in hopeless:
        for name, limit_ms in _needed_slo(problem, b).items():
            needed[name] = max(needed.get(name, 0.0), limit_ms)
    if hopeless:
        found.append(
            {
                "kind": "slo",
                "buckets": [problem.buckets[b].name for b in hopeless],
                "limits_ms": {name: round(value, 3) for name, value in sorted(needed.items())},
                "missed": sorted(
                    {kind.services[b].limited_by or "" for b in hopeless for kind in problem.types}
                    - {""}
                ),
            }
        )
    return found


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
    rate = _highest_rate(problem, solver, share_s, stop)
    found: list[Relaxation] = []
    if rate is not None:
        found.append({"kind": "rate", "request_rate": _floor(rate, 4)})
        headroom = 1 - (1 - problem.headroom) * problem.request_rate / rate if rate else -1.0
        if problem.headroom and headroom >= 0:
            found.append({"kind": "headroom", "headroom": _floor(headroom, 4)})
    if problem.pools or any(kind.max_replicas is not None for kind in problem.types):
        found += _fewest_gpus(problem, solver, share_s, stop)
    if problem.budget_usd_per_hour is not None:
        found += _least_budget(problem, solver, share_s, stop)
    most = f" serves more than {rate:.4g} of" if rate is not None else " serves"
    hints = "; ".join(describe(relaxation) for relaxation in found)
    return InfeasibleError(
        "plan.infeasible",
        f"no plan within the limits{most} the {problem.request_rate:.4g} requests/s asked for",
        hint=f"any of these would do: {hints}" if hints else "",
        details={"unserved": [], "relaxations": found},
    )


def _floor(value: float, digits: int) -> float:
    scale: int = 10**digits
    return math.floor(value * scale) / scale


def _highest_rate(
    problem: Problem, solver: Solver, limit_s: float, stop: threading.Event | None
) -> float | None:
    from optimizer.planner import model_of

    model = replace(model_of(problem), goal="rate")
    answer = solver.solve(model, limit_s=limit_s, gap=1e-4, stop=stop).incumbent
    return None if answer is None else max(answer.value, 0.0) * problem.request_rate


def _fewest_gpus(
    problem: Problem, solver: Solver, limit_s: float, stop: threading.Event | None
) -> list[Relaxation]:
    from optimizer.planner import model_of

    model = replace(model_of(problem), goal="gpus")
    answer = solver.solve(model, limit_s=limit_s, stop=stop).incumbent
    if answer is None:
        return []
    replicas = {
        k.name: round(float(n)) for k, n in zip(problem.types, answer.replicas, strict=True)
    }
    kinds = {kind.name: kind for kind in problem.types}
    entry: Relaxation = {"kind": "availability", "extra_gpus": {}}
    for pool in problem.pools:
        used = sum(replicas[name] * kinds[name].gpus_per_replica for name in pool.types)
        if used > pool.gpus:
            entry["extra_gpus"][pool.name] = used - pool.gpus
    raised = {
        name: n
        for name, n in replicas.items()
        if (top := kinds[name].max_replicas) is not None and n > top
    }
    if raised:
        entry["max_replicas"] = raised
    return [entry] if entry["extra_gpus"] or raised else []


def _least_budget(
    problem: Problem, solver: Solver, limit_s: float, stop: threading.Event | None
) -> list[Relaxation]:
    from optimizer.planner import model_of

    free = model_of(replace(problem, budget_usd_per_hour=None))
    answer = solver.solve(free, limit_s=limit_s, stop=stop).incumbent
    if answer is None:
        return []
    return [{"kind": "budget", "budget_usd_per_hour": math.ceil(answer.value * 100) / 100}]


def describe(relaxation: Relaxation) -> str:
    """Return one relaxation in words."""
    kind = relaxation["kind"]
    if kind == "rate":
        return f"at most {relaxation['request_rate']:g} requests/s"
    if kind == "headroom":
        return f"headroom of {relaxation['headroom']:.2%}"
    if kind == "budget":
        return f"a budget of {relaxation['budget_usd_per_hour']:g} $/h"
    if kind == "workload":
        return f"leaving out these requests ({relaxation['drop_share']:.2%})"
    if kind == "slo":
        limits = ", ".join(
            f"{name}<={format_duration(limit_ms / 1e3).replace(' ', '')}"
            for name, limit_ms in relaxation["limits_ms"].items()
        )
        missed = ", ".join(relaxation["missed"])
        return f"an SLO of {limits}" if limits else f"a looser SLO ({missed or 'not known which'})"
    parts = [
        f"{n} more GPU{'s' if n > 1 else ''} of {name}"
        for name, n in relaxation["extra_gpus"].items()
    ]
    parts += [f"up to {n} replicas of {m}" for m, n in relaxation.get("max_replicas", {}).items()]
    return " and ".join(parts)
