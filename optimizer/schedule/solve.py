"""The cheapest schedule: a mixed-integer model over all hours at once.

    minimise   sum_h cost . y[h] + start_cost . s[h]
    subject to s[h] >= y[h] - y[h-1], s >= 0            hours in a ring
               usable * u . y[h] >= need[h, u]          for every price u (see capacity)
               cost . y[h] >= the cost of hour h's own cheapest fleet
               lower <= y[h] <= upper, pools, budget    in every hour

It begins with few prices. Where the answer leaves an hour short, the price that shows it is added
for all hours, and it is solved again; what each round proves is a bound for the whole. Meanwhile
the hours that are short take their own cheapest fleet, which gives an answer at every round.

Everything here runs inside the solver's own process.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from optimizer.model import Floats
from optimizer.schedule.capacity import Capacity, needed
from optimizer.schedule.master import Hours, Inequality, Master
from optimizer.schedule.model import ScheduleModel, ScheduleSolution

Report = Callable[[ScheduleSolution], None]
_EXACT = 1e-9
_SAME = 1e-9


class _Demand:
    """What is known of every hour's demand."""

    def __init__(self, model: ScheduleModel):
        self.model = model
        self.hours = [Capacity(load, model.usable) for load in model.load]
        self.known: list[Inequality] = []
        for prices in (model.cost, *np.eye(len(model.cost))):
            self.add(prices)

    def add(self, prices: Floats) -> None:
        """Take the inequality of prices, unless it is known."""
        scaled = prices / prices.sum()
        weighted = self.model.usable * scaled
        if not any(np.abs(one.prices - weighted).max() < _SAME for one in self.known):
            self.known.append(Inequality(weighted, needed(self.model.load, scaled)))

    def short(self, fleets: Floats, periods: Sequence[Hours]) -> list[int]:
        """Return the hours that [periods, G] replicas do not serve, having taken what shows it."""
        found = []
        for fleet, hours in zip(fleets, periods, strict=True):
            for h in hours:
                prices = self.hours[h].shortage(fleet)
                if prices is not None:
                    self.add(prices)
                    found.append(int(h))
        return found


@dataclass
class _Best:
    """The best answer so far, and what is proven; whoever waits is told of each improvement."""

    model: ScheduleModel
    found: ScheduleSolution
    report: Report

    @property
    def replicas(self) -> Floats:
        """[H, G] of the answer."""
        assert self.found.replicas is not None
        return self.found.replicas

    def offer(self, replicas: Floats) -> None:
        """Take replicas that serve every hour, if they are allowed and cheaper."""
        cheaper = self.model.total_usd(replicas) < self.model.total_usd(self.replicas) - _SAME
        if cheaper and self.model.allows(replicas):
            self.found = replace(self.found, replicas=replicas)
            self.report(self.found)

    def prove(self, bound_usd: float) -> None:
        """Take a bound."""
        self.found = replace(self.found, bound_usd=max(bound_usd, self.found.bound_usd))

    def close(self, gap: float) -> bool:
        """Return whether the answer is proven within the gap."""
        cost = self.model.total_usd(self.replicas)
        return cost - self.found.bound_usd <= gap * cost + _SAME


def solve(model: ScheduleModel, deadline_s: float, gap: float, report: Report) -> ScheduleSolution:
    """Return the cheapest schedule found before ``deadline_s`` (``time.monotonic``'s clock).

    Args:
        model: what to solve.
        deadline_s: when to stop.
        gap: relative gap at which an answer is good enough.
        report: called with each better answer.
    """
    demand = _Demand(model)
    hourly, bound = _each_alone(demand, deadline_s)
    if hourly is None:
        status = "infeasible" if math.isinf(bound) else "no_solution"
        return ScheduleSolution(status, None, bound, None, None)  # type: ignore[arg-type]
    constant = _fixed(demand, [np.arange(model.hours)], deadline_s, gap / 4)[0]
    steady = None if constant is None else constant[0]
    first = ScheduleSolution("feasible", hourly, bound, steady, hourly)
    report(first)
    best = _Best(model, first, report)
    best.offer(kept_through(model, hourly))
    if steady is not None:
        best.offer(np.tile(steady, (model.hours, 1)))
    _together(demand, best, hourly, deadline_s, gap)
    cost = model.total_usd(best.replicas)
    status = "optimal" if best.close(gap) else "feasible"
    bound = min(best.found.bound_usd, cost)
    return replace(best.found, status=status, bound_usd=bound)  # type: ignore[arg-type]


def kept_through(model: ScheduleModel, fleets: Floats) -> Floats:
    """Return the cheapest [H, G] replicas that are nowhere fewer than those given.

    A replica that would stop and start again is kept in between where that costs no more than
    the start. The n-th replica of a type is decided by itself, which is exact for this question.
    """
    kept = fleets.copy()
    for g, (cost, start) in enumerate(zip(model.cost, model.start_cost, strict=True)):
        for level in range(int(fleets[:, g].min()) + 1, int(fleets[:, g].max()) + 1):
            needed_at = np.nonzero(fleets[:, g] >= level)[0]
            for first, then in zip(needed_at, np.roll(needed_at, -1), strict=True):
                idle = (then - first - 1) % model.hours
                if idle * cost <= start:
                    between = (first + 1 + np.arange(idle)) % model.hours
                    kept[between, g] = np.maximum(kept[between, g], level)
    return kept


def _each_alone(demand: _Demand, deadline_s: float) -> tuple[Floats | None, float]:
    """Return [H, G] the cheapest fleet of each hour, and the bound that follows for any schedule.

    That an hour costs no less becomes an inequality of its own.
    """
    model = demand.model
    fleets = np.zeros((model.hours, len(model.cost)))
    for h in range(model.hours):
        fleet, bound = _fixed(demand, [np.array([h])], deadline_s, _EXACT)
        if fleet is None:
            return None, bound
        fleets[h] = fleet[0]
    least = fleets @ model.cost
    demand.known.append(Inequality(model.cost, least * (1 - _SAME)))
    return fleets, float(least.sum()) * (1 - _SAME)


def _fixed(
    demand: _Demand, periods: Sequence[Hours], deadline_s: float, gap: float
) -> tuple[Floats | None, float]:
    """Return [periods, G] the cheapest fleets, where starting costs nothing, and the bound."""
    while (left_s := deadline_s - time.monotonic()) > 0:
        master = Master(demand.model, periods, demand.known, starts=False)
        fleets, bound = master.solve(left_s, gap)
        if fleets is None or not demand.short(fleets, periods):
            return fleets, bound
    return None, 0.0


def _together(demand: _Demand, best: _Best, repair: Floats, deadline_s: float, gap: float) -> None:
    """Improve and prove the answer over all hours; ``repair`` is [H, G] that serves each."""
    hours = [np.array([h]) for h in range(demand.model.hours)]
    while not best.close(gap) and (left_s := deadline_s - time.monotonic()) > 0:
        master = Master(demand.model, hours, demand.known, starts=True)
        fleets, bound = master.solve(left_s, gap, best.replicas)
        best.prove(bound)
        if fleets is None:
            return
        short = demand.short(fleets, hours)
        if not short:
            best.offer(fleets)
            return
        for mended in (np.maximum(fleets[short], repair[short]), repair[short]):
            whole = fleets.copy()
            whole[short] = mended
            best.offer(whole)
