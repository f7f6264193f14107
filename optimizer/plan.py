"""The plan: which replicas to run, where each bucket goes, what it costs and why.

Document ``aibrixctl/plan/v1``.
"""

import os
from dataclasses import dataclass, field
from typing import Any

from accelerators import documents
from optimizer.errors import OptimizerUsageError

SCHEMA = "aibrixctl/plan/v1"
HOURS_PER_MONTH = 730


@dataclass(frozen=True)
class Route:
    """The part of one bucket's requests that one type serves.

    Attributes:
        bucket: name of the bucket.
        input_tokens, output_tokens: its bounds; None where the problem's file gave none.
        type: name of the GPU type.
        share: of the bucket's requests; the shares of a bucket sum to 1.
        requests_per_s: share of the demand.
        latency: what the table saw at the certified rate, metric to statistics; may be empty.
    """

    bucket: str
    input_tokens: int | None
    output_tokens: int | None
    type: str
    share: float
    requests_per_s: float
    latency: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fleet:
    """Another fleet to compare with.

    Attributes:
        replicas: name of a type to replicas.
        cost_usd_per_hour: None when it cannot serve the demand at any size.
        feasible: whether it serves the demand within the headroom.
        within_limits: whether it keeps to availability, minimums, maximums and budget.
        saving_usd_per_hour: its cost less the plan's.
        saving_share: that over its cost.
    """

    replicas: dict[str, int]
    cost_usd_per_hour: float | None
    feasible: bool
    within_limits: bool
    saving_usd_per_hour: float | None
    saving_share: float | None


@dataclass(frozen=True)
class Savings:
    """What the plan saves.

    Attributes:
        best_single: name of the cheapest type that serves all alone, within the limits when one
            can; None when none can.
        single: name of a type to the fleet of that type alone.
        current: the fleet named as current; None without one.
    """

    best_single: str | None
    single: dict[str, Fleet]
    current: Fleet | None = None


@dataclass(frozen=True)
class Binding:
    """A limit that the plan has reached.

    Attributes:
        limit: ``available``, ``min``, ``max``, ``budget`` or ``headroom``.
        name: the type or pool; None for the whole plan.
        value: the limit: GPUs, replicas, $/h or a share.
    """

    limit: str
    name: str | None
    value: float


@dataclass(frozen=True)
class NextGpu:
    """What GPUs for one more replica of a limited type or pool would save; None: not found."""

    name: str
    gpus: int
    saves_usd_per_hour: float | None


@dataclass(frozen=True)
class Plan:
    """A costed GPU mix.

    Attributes:
        replicas: name of every type to replicas.
        gpus: name of every type to GPUs.
        replica_usd_per_hour: name of every type to the cost of one replica.
        cost_usd_per_hour: of all replicas.
        lower_bound_usd_per_hour: proven: no plan is cheaper.
        lp_bound_usd_per_hour: cost if replicas could be fractions.
        gap: (cost - lower bound) / cost.
        solver_status: ``optimal``, proven to the gap asked for, or ``feasible``, stopped before.
        routing: in order of bucket, then type.
        utilization: name of every used type to the busy share of its replicas.
        savings: against single types and the current fleet.
        binding: limits that are reached.
        next_gpu: worth of more, per limited pool or type; where there is no limit it is nothing.
        provenance: ``measured``, ``simulated``, ``imported`` or ``mixed``.
        model: served model; None when unknown.
        slos: JSON form of the objectives that every route meets.
        request_rate: requests/s planned for.
        headroom: share of every replica kept free.
        inputs: files with digests, limits, and what was done with requests beyond the tables.
        warnings: what a reader must know.
    """

    replicas: dict[str, int]
    gpus: dict[str, int]
    replica_usd_per_hour: dict[str, float]
    cost_usd_per_hour: float
    lower_bound_usd_per_hour: float
    lp_bound_usd_per_hour: float
    gap: float
    solver_status: str
    routing: tuple[Route, ...]
    utilization: dict[str, float]
    savings: Savings
    binding: tuple[Binding, ...]
    next_gpu: tuple[NextGpu, ...]
    provenance: str
    model: str | None
    slos: tuple[dict[str, Any], ...]
    request_rate: float
    headroom: float
    inputs: dict[str, Any]
    warnings: tuple[str, ...]

    @property
    def cost_usd_per_month(self) -> float:
        """Cost of 730 hours."""
        return self.cost_usd_per_hour * HOURS_PER_MONTH

    def to_json(self) -> dict[str, Any]:
        """Return the document."""
        body: dict[str, Any] = dict(vars(self))
        for name in ("cost_usd_per_hour", "lower_bound_usd_per_hour", "lp_bound_usd_per_hour"):
            body[name] = _dollars(body[name])
        return body | {
            "schema": SCHEMA,
            "cost_usd_per_month": round(self.cost_usd_per_month, 2),
            "gap": round(self.gap, 6),
            "routing": [
                vars(route)
                | {"share": round(route.share, 9), "requests_per_s": round(route.requests_per_s, 9)}
                for route in self.routing
            ],
            "utilization": {name: round(u, 6) for name, u in self.utilization.items()},
            "savings": {
                "best_single": self.savings.best_single,
                "single": {name: _fleet(f) for name, f in self.savings.single.items()},
                "current": self.savings.current and _fleet(self.savings.current),
            },
            "binding": [vars(binding) for binding in self.binding],
            "next_gpu": [
                vars(n) | {"saves_usd_per_hour": _dollars(n.saves_usd_per_hour)}
                for n in self.next_gpu
            ],
            "slos": list(self.slos),
            "request_rate": round(self.request_rate, 6),
            "warnings": list(self.warnings),
        }


def _dollars(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _fleet(fleet: Fleet) -> dict[str, Any]:
    saving = fleet.saving_share
    return vars(fleet) | {
        "cost_usd_per_hour": _dollars(fleet.cost_usd_per_hour),
        "saving_usd_per_hour": _dollars(fleet.saving_usd_per_hour),
        "saving_share": None if saving is None else round(saving, 6),
    }


def save(plan: Plan, path: str | os.PathLike[str]) -> None:
    """Write a plan atomically."""
    documents.write_json(path, plan.to_json())


def load(path: str | os.PathLike[str]) -> Plan:
    """Read a plan that this tool wrote.

    Raises:
        UsageError: unreadable, another document or another version.
        OptimizerUsageError: a field is missing or malformed; names it.
    """
    return parse(documents.read_json(path), str(path))


def parse(document: Any, source: str) -> Plan:
    """Return the plan that a parsed document holds; ``source`` names it in errors."""
    body = documents.check_schema(document, "plan", 1, source)
    try:
        return _parse(body)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise OptimizerUsageError(
            "plan.malformed",
            f"{source} {documents.fault(error)}",
            hint="make the plan again, or see `aibrixctl schema show plan`",
            target=source,
        ) from error


def _parse(body: dict[str, Any]) -> Plan:
    savings = body["savings"]
    numbers = ("cost_usd_per_hour", "lower_bound_usd_per_hour", "lp_bound_usd_per_hour", "gap")
    return Plan(
        **{name: float(body[name]) for name in numbers},
        replicas={name: int(n) for name, n in body["replicas"].items()},
        gpus={name: int(n) for name, n in body["gpus"].items()},
        replica_usd_per_hour={n: float(c) for n, c in body["replica_usd_per_hour"].items()},
        solver_status=str(body["solver_status"]),
        routing=tuple(Route(**_known(Route, route)) for route in body["routing"]),
        utilization={name: float(u) for name, u in body["utilization"].items()},
        savings=Savings(
            best_single=savings["best_single"],
            single={n: Fleet(**_known(Fleet, f)) for n, f in savings["single"].items()},
            current=Fleet(**_known(Fleet, savings["current"])) if savings["current"] else None,
        ),
        binding=tuple(Binding(**_known(Binding, binding)) for binding in body["binding"]),
        next_gpu=tuple(NextGpu(**_known(NextGpu, following)) for following in body["next_gpu"]),
        provenance=str(body["provenance"]),
        model=body["model"],
        slos=tuple(body["slos"]),
        request_rate=float(body["request_rate"]),
        headroom=float(body["headroom"]),
        inputs=dict(body["inputs"]),
        warnings=tuple(body["warnings"]),
    )


def _known(kind: Any, value: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that this version knows; a later minor version may have added others."""
    return {name: value[name] for name in kind.__dataclass_fields__}
