"""Limits that an operator sets on a plan, and how they are laid on a problem's types."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from optimizer.errors import OptimizerUsageError
from optimizer.problem import GpuType, Pool, Problem, check, check_names


@dataclass(frozen=True)
class Limits:
    """What a plan must keep to.

    Attributes:
        headroom: share of every replica's throughput to keep free.
        available: name of a type or an accelerator to GPUs; types that are not named are
            unlimited.
        minimum, maximum: name of a type to replicas.
        budget_usd_per_hour: limit on the cost; None for none.
    """

    headroom: float = 0.0
    available: Mapping[str, int] = field(default_factory=dict)
    minimum: Mapping[str, int] = field(default_factory=dict)
    maximum: Mapping[str, int] = field(default_factory=dict)
    budget_usd_per_hour: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "headroom": self.headroom,
            "available_gpus": dict(sorted(self.available.items())),
            "min_replicas": dict(sorted(self.minimum.items())),
            "max_replicas": dict(sorted(self.maximum.items())),
            "budget_usd_per_hour": self.budget_usd_per_hour,
        }


def apply(problem: Problem, limits: Limits) -> Problem:
    """Return the problem under the limits.

    Raises:
        OptimizerUsageError: a limit names no known type, or makes no sense.
    """
    names = [kind.name for kind in problem.types]
    check_names("--min", limits.minimum, names)
    check_names("--max", limits.maximum, names)
    types = tuple(
        replace(
            kind,
            min_replicas=limits.minimum.get(kind.name, kind.min_replicas),
            max_replicas=limits.maximum.get(kind.name, kind.max_replicas),
        )
        for kind in problem.types
    )
    limited = replace(
        problem,
        types=types,
        headroom=limits.headroom,
        pools=_pools(types, limits.available),
        budget_usd_per_hour=limits.budget_usd_per_hour,
        inputs=problem.inputs | {"limits": limits.to_json()},
    )
    _check_minimums(limited)
    return check(limited)


def _pools(types: Sequence[GpuType], available: Mapping[str, int]) -> tuple[Pool, ...]:
    names = [kind.name for kind in types]
    accelerators = [kind.accelerator for kind in types if kind.accelerator]
    check_names("--available", available, [*names, *accelerators])
    pools = []
    for name, gpus in sorted(available.items()):
        if gpus < 0:
            raise OptimizerUsageError(
                "problem.available", f"--available {name}={gpus}; expected 0 or more", target=name
            )
        drawing = [name] if name in names else [k.name for k in types if k.accelerator == name]
        pools.append(Pool(name, tuple(drawing), gpus))
    return tuple(pools)


def _check_minimums(problem: Problem) -> None:
    for pool in problem.pools:
        needed = sum(
            kind.min_replicas * kind.gpus_per_replica
            for kind in problem.types
            if kind.name in pool.types
        )
        if needed > pool.gpus:
            raise OptimizerUsageError(
                "problem.limits",
                f"--min asks for {needed} GPUs of {pool.name}, --available gives {pool.gpus}",
                hint="lower --min or raise --available",
                target=pool.name,
            )
