"""The numbers of a mix, and an answer to them, as they pass between the solver's two processes."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

TOLERANCE = 1e-9
Floats = npt.NDArray[np.float64]
Goal = Literal["cost", "rate", "gpus"]
Status = Literal["optimal", "feasible", "infeasible", "no_solution"]


@dataclass(frozen=True)
class PoolLimit:
    """At most ``gpus`` over the members, by index of type."""

    members: tuple[int, ...]
    gpus: int


@dataclass(frozen=True)
class Model:
    """The numbers of one model; B buckets, G types.

    Attributes:
        load: [B, G] replicas a bucket's demand keeps busy; inf where forbidden.
        cost: [G] $/h of a replica.
        gpus: [G] GPUs of a replica.
        lower, upper: [G] replicas; inf for no upper limit.
        usable: share of a replica that may be used.
        pools: limits on GPUs.
        budget: $/h; inf for none.
        goal: what to optimise.
    """

    load: Floats
    cost: Floats
    gpus: Floats
    lower: Floats
    upper: Floats
    usable: float = 1.0
    pools: tuple[PoolLimit, ...] = ()
    budget: float = math.inf
    goal: Goal = "cost"

    def allows(self, replicas: Floats) -> bool:
        """Return whether replicas keep to the limits; says nothing of the load."""
        if (replicas < self.lower).any() or (replicas > self.upper).any():
            return False
        used = replicas * self.gpus
        if any(used[list(pool.members)].sum() > pool.gpus for pool in self.pools):
            return False
        return bool(replicas @ self.cost <= self.budget * (1 + TOLERANCE))


@dataclass(frozen=True)
class Incumbent:
    """A feasible answer: [G] replicas, [B, G] shares, and the goal's value."""

    replicas: Floats
    shares: Floats
    value: float


@dataclass(frozen=True)
class Solution:
    """What the solver found.

    Attributes:
        status: ``optimal`` to the gap asked for; ``feasible``, stopped before; ``infeasible``;
            ``no_solution``, stopped with none.
        incumbent: the answer; None without one.
        bound: proven bound on the goal's value.
        lp_bound: value of the model without integrality.
    """

    status: Status
    incumbent: Incumbent | None
    bound: float
    lp_bound: float
