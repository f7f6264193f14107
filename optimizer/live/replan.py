"""The control loop's planner: a problem as demand, the solver's answers without the explanation."""

import math
from dataclasses import replace

import numpy as np

from optimizer.errors import OptimizerError
from optimizer.live.control import Counts, Proposal
from optimizer.model import Floats, Model, Solution
from optimizer.planner import model_of, serves
from optimizer.problem import Problem
from optimizer.solver import Solver


class Replanner:
    """Plans for problems of the same types under the same limits.

    A problem without buckets is a demand of nothing: it takes the minimums.
    """

    def __init__(self, solver: Solver, *, limit_s: float = 10.0, gap: float = 1e-3):
        """Take a running solver; ``limit_s`` and ``gap`` are of each of its answers."""
        self.solver, self.limit_s, self.gap = solver, limit_s, gap
        self._prices: dict[str, float] = {}

    def propose(self, demand: Problem, *, at_least: Counts, factor: float = 1.0) -> Proposal:
        """Return the cheapest replicas for the demand times a factor, none below ``at_least``.

        Where the limits leave too little, the most that can be served is planned for.

        Raises:
            OptimizerError: no answer in time, or a bucket that no type serves at all.
        """
        self._prices = {kind.name: kind.cost_usd_per_hour for kind in demand.types}
        lower = _lower(demand, at_least)
        if not demand.buckets:
            return Proposal(_named(demand, lower))
        scaled = replace(
            demand,
            buckets=tuple(
                replace(bucket, requests_per_s=bucket.requests_per_s * factor)
                for bucket in demand.buckets
            ),
        )
        model = replace(model_of(scaled), lower=lower)
        found = self._solve(model)
        if found.incumbent is None and found.status == "infeasible":
            return self._most(demand, replace(model_of(demand), lower=lower))
        return Proposal(_named(demand, _answer(found)))

    def _most(self, demand: Problem, model: Model) -> Proposal:
        """Return the cheapest replicas for the largest part of the demand that can be served."""
        found = self._solve(replace(model, goal="rate"))
        if found.incumbent is None and (model.lower != model_of(demand).lower).any():
            return self.propose(demand, at_least={})  # what there is exceeds the limits
        share = min(found.incumbent.value, 1.0) if found.incumbent else 0.0
        if share <= 0:
            names = ", ".join(demand.buckets[b].name for b in demand.unserved()[:5])
            raise OptimizerError(
                "serve.unserved",
                f"the limits leave nothing that serves {names or 'the demand'}",
                hint="see `aibrixctl optimize plan` with the same input",
            )
        part = replace(model, load=model.load * share * (1 - 1e-6))
        return Proposal(_named(demand, _answer(self._solve(part))), share)

    def _solve(self, model: Model) -> Solution:
        return self.solver.solve(model, limit_s=self.limit_s, gap=self.gap)

    def serves(self, demand: Problem, replicas: Counts) -> bool:
        """Return whether replicas, as far as the limits allow them, serve the demand.

        False where that is not found out in time.
        """
        counts = [
            int(min(replicas.get(kind.name, 0), _or_inf(demand.replica_cap(k))))
            for k, kind in enumerate(demand.types)
        ]
        if any(n < kind.min_replicas for n, kind in zip(counts, demand.types, strict=True)):
            return False
        if not demand.buckets:
            return True
        return bool(serves(model_of(demand), counts, self.solver, self.limit_s))

    def cost_usd_per_hour(self, replicas: Counts) -> float:
        """Return what replicas cost, at the prices of the problem that was planned for last."""
        return math.fsum(self._prices.get(name, 0.0) * n for name, n in replicas.items())


def _answer(found: Solution) -> Floats:
    if found.incumbent is None:
        raise OptimizerError("serve.no_solution", "no plan was found in time")
    return found.incumbent.replicas


def _lower(demand: Problem, at_least: Counts) -> Floats:
    caps = [demand.replica_cap(k) for k in range(len(demand.types))]
    return np.array(
        [
            float(min(max(kind.min_replicas, at_least.get(kind.name, 0)), _or_inf(cap)))
            for kind, cap in zip(demand.types, caps, strict=True)
        ]
    )


def _or_inf(cap: int | None) -> float:
    return math.inf if cap is None else cap


def _named(demand: Problem, replicas: Floats) -> dict[str, int]:
    return {kind.name: round(float(n)) for kind, n in zip(demand.types, replicas, strict=True)}
