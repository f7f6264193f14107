"""The numbers of a schedule, and an answer to them, as they pass between two processes."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from optimizer.model import Floats, PoolLimit

Status = Literal["optimal", "feasible", "infeasible", "no_solution"]


@dataclass(frozen=True)
class ScheduleModel:
    """H hours in a ring, B buckets, G types; the last hour is followed by the first.

    Attributes:
        load: [H, B, G] replicas that a bucket's demand keeps busy in an hour; inf where
            forbidden, 0 where there is no demand.
        cost: [G] $/h of a replica.
        start_cost: [G] dollars that starting a replica costs, its stop included.
        gpus: [G] GPUs of a replica.
        lower, upper: [G] replicas; inf for no upper limit.
        usable: share of a replica that may be used.
        pools: limits on GPUs, in every hour.
        budget: $/h in every hour; inf for none.
    """

    load: Floats
    cost: Floats
    start_cost: Floats
    gpus: Floats
    lower: Floats
    upper: Floats
    usable: float
    pools: tuple[PoolLimit, ...]
    budget: float

    @property
    def hours(self) -> int:
        """How many there are in the ring."""
        return int(self.load.shape[0])

    def started(self, replicas: Floats) -> Floats:
        """Return [H, G] replicas that start at the beginning of each hour."""
        return np.maximum(replicas - np.roll(replicas, 1, axis=0), 0.0)

    def running_usd(self, replicas: Floats) -> float:
        """Return what [H, G] replicas cost over the ring."""
        return float((replicas @ self.cost).sum())

    def starting_usd(self, replicas: Floats) -> float:
        """Return what starting them costs over the ring."""
        return float((self.started(replicas) @ self.start_cost).sum())

    def total_usd(self, replicas: Floats) -> float:
        """Return both."""
        return self.running_usd(replicas) + self.starting_usd(replicas)

    def allows(self, replicas: Floats) -> bool:
        """Return whether [H, G] replicas keep to the limits; says nothing of the load."""
        if (replicas < self.lower).any() or (replicas > self.upper).any():
            return False
        used = replicas * self.gpus
        if any((used[:, list(pool.members)].sum(axis=1) > pool.gpus).any() for pool in self.pools):
            return False
        return bool((replicas @ self.cost <= self.budget * (1 + 1e-9)).all())


@dataclass(frozen=True)
class ScheduleSolution:
    """What was found.

    Attributes:
        status: ``optimal`` to the gap asked for; ``feasible``, stopped before; ``infeasible``,
            some hour's demand cannot be served; ``no_solution``, stopped with none.
        replicas: [H, G]; None without an answer.
        bound_usd: proven: no schedule costs less over the ring.
        constant: [G] the cheapest fleet that serves every hour; None when not found.
        hourly: [H, G] the cheapest fleet of each hour by itself; None when not found.
    """

    status: Status
    replicas: Floats | None
    bound_usd: float
    constant: Floats | None
    hourly: Floats | None
