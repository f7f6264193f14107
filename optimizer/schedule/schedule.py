"""Make a schedule: replicas for every hour, what they cost, and what simpler ways would cost.

Document ``aibrixctl/schedule/v1``.
"""

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from optimizer.errors import OptimizerError
from optimizer.problem import Bucket, Problem
from optimizer.schedule.hours import DAY_HOURS, HourlyTraffic

if TYPE_CHECKING:
    from optimizer.model import Floats
    from optimizer.schedule.model import ScheduleModel, ScheduleSolution
    from optimizer.workload.model import OutOfRange, Workload

SCHEMA = "aibrixctl/schedule/v1"
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True)
class Hour:
    """One hour of the ring.

    Attributes:
        day: ``mon`` to ``sun``; None where every day is alike.
        hour: of the day.
        requests_per_s: planned for.
        replicas: by type.
        usd_per_hour: what they cost.
        starts: replicas that start at its beginning, by type; those that do not are left out.
    """

    day: str | None
    hour: int
    requests_per_s: float
    replicas: dict[str, int]
    usd_per_hour: float
    starts: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return vars(self) | {
            "requests_per_s": round(self.requests_per_s, 6),
            "usd_per_hour": round(self.usd_per_hour, 6),
        }


@dataclass(frozen=True)
class Cost:
    """Dollars over the ring: running, starting replicas, and both."""

    running_usd: float
    starting_usd: float

    @property
    def total_usd(self) -> float:
        """Both."""
        return self.running_usd + self.starting_usd

    def to_json(self) -> dict[str, float]:
        """Return the JSON form."""
        return {
            "running_usd": round(self.running_usd, 6),
            "starting_usd": round(self.starting_usd, 6),
            "total_usd": round(self.total_usd, 6),
        }


@dataclass(frozen=True)
class Schedule:
    """Replicas for every hour of the week or the day.

    Attributes:
        hours: in order; the last is followed by the first.
        timezone: whose hours they are.
        start_usd: dollars that starting a replica costs, by type.
        cost: of the schedule.
        constant: of the cheapest fleet that serves every hour, kept all the time; None when not
            found in time.
        hourly: of each hour's own cheapest fleet, without regard to starting.
        lower_bound_usd: proven: no schedule costs less.
        solver_status: ``optimal``, proven to the gap asked for, or ``feasible``, stopped before.
        model, headroom, inputs, warnings: as in a plan.
    """

    hours: tuple[Hour, ...]
    timezone: str
    start_usd: dict[str, float]
    cost: Cost
    constant: Cost | None
    hourly: Cost
    lower_bound_usd: float
    solver_status: str
    model: str | None
    headroom: float
    inputs: dict[str, Any]
    warnings: tuple[str, ...]

    @property
    def weekly(self) -> bool:
        """Whether the ring is a week."""
        return len(self.hours) > DAY_HOURS

    @property
    def gap(self) -> float:
        """(cost - lower bound) / cost."""
        cost = self.cost.total_usd
        return (cost - self.lower_bound_usd) / cost if cost else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the document."""
        return {
            "schema": SCHEMA,
            "period": "week" if self.weekly else "day",
            "timezone": self.timezone,
            "hours": [hour.to_json() for hour in self.hours],
            "start_usd": {name: round(usd, 6) for name, usd in self.start_usd.items()},
            "cost": self.cost.to_json(),
            "constant": self.constant and self.constant.to_json(),
            "hourly": self.hourly.to_json(),
            "lower_bound_usd": round(self.lower_bound_usd, 6),
            "gap": round(self.gap, 6),
            "solver_status": self.solver_status,
            "model": self.model,
            "headroom": self.headroom,
            "inputs": self.inputs,
            "warnings": list(self.warnings),
        }


def hourly_problems(
    problem: Problem,
    traffic: HourlyTraffic,
    ticks: tuple[Sequence[int], Sequence[int]],
    out_of_range: "OutOfRange",
) -> tuple[Problem, ...]:
    """Return the problem with the demand of each hour; buckets without any stay, at 0.

    Args:
        problem: of the whole trace, under its limits.
        traffic: by hour.
        ticks: bounds of the tables' buckets.
        out_of_range: as the problem was built.
    """
    places = [
        (ticks[0].index(bucket.input_tokens or 0), ticks[1].index(bucket.output_tokens or 0))
        for bucket in problem.buckets
    ]
    found = []
    for workload in traffic.hours:
        grids = _grids(workload, ticks, out_of_range)
        buckets = tuple(
            _with_demand(bucket, grids, place)
            for bucket, place in zip(problem.buckets, places, strict=True)
        )
        found.append(replace(problem, buckets=buckets))
    return tuple(found)


def _grids(
    workload: "Workload | None",
    ticks: tuple[Sequence[int], Sequence[int]],
    out_of_range: "OutOfRange",
) -> "tuple[Floats, Floats] | None":
    if workload is None:
        return None
    beyond = (workload.input_tokens > ticks[0][-1]) | (workload.output_tokens > ticks[1][-1])
    if out_of_range == "drop" and beyond.all():
        return None
    demand = workload.bucketize(*ticks, out_of_range=out_of_range)
    return demand.requests_per_s, demand.work


def _with_demand(
    bucket: Bucket, grids: "tuple[Floats, Floats] | None", place: tuple[int, int]
) -> Bucket:
    if grids is None:
        return replace(bucket, requests_per_s=0.0, work=1.0)
    rates, work = grids
    return replace(bucket, requests_per_s=float(rates[place]), work=float(work[place]))


def model_of_hours(problems: Sequence[Problem], start_usd: Mapping[str, float]) -> "ScheduleModel":
    """Return the numbers of a schedule; ``start_usd`` is by type."""
    import numpy as np

    from optimizer.planner import model_of
    from optimizer.schedule.model import ScheduleModel

    models = [model_of(problem) for problem in problems]
    asked = np.array([[bucket.requests_per_s for bucket in p.buckets] for p in problems])
    load = np.stack([model.load for model in models])
    first = models[0]
    return ScheduleModel(
        load=np.where(asked[:, :, None] > 0, load, 0.0),
        cost=first.cost,
        start_cost=np.array([start_usd[kind.name] for kind in problems[0].types]),
        gpus=first.gpus,
        lower=first.lower,
        upper=first.upper,
        usable=first.usable,
        pools=first.pools,
        budget=first.budget,
    )


def make_schedule(
    problems: Sequence[Problem],
    start_usd: Mapping[str, float],
    *,
    timezone: str = "UTC",
    notes: Sequence[str] = (),
    limit_s: float = 60.0,
    gap: float = 1e-3,
    stop: threading.Event | None = None,
) -> Schedule:
    """Return the cheapest schedule found.

    Args:
        problems: of every hour of the ring, as ``hourly_problems`` makes them.
        start_usd: dollars that starting a replica costs, its stop included, by type.
        timezone: whose hours they are.
        notes: to add to the warnings.
        limit_s: wall-clock seconds for all solving.
        gap: relative gap to the lower bound at which a schedule is good enough.
        stop: when set, the best schedule so far is returned.

    Raises:
        InfeasibleError: an hour has no plan within the limits; says what would help.
        OptimizerError: no schedule was found in time, or the solver failed.
    """
    from optimizer.schedule.runner import solve_schedule

    _require_served(problems)
    model = model_of_hours(problems, start_usd)
    found = solve_schedule(model, limit_s=limit_s, gap=gap, stop=stop)
    if found.status == "infeasible":
        _explain(problems)
    if found.replicas is None or found.hourly is None:
        raise OptimizerError(
            "schedule.no_solution",
            f"no schedule was found within {limit_s:g} s",
            hint="give more time with --time-limit, or profile fewer buckets",
        )
    first = problems[0]
    return Schedule(
        hours=_hours(problems, model, found.replicas),
        timezone=timezone,
        start_usd=dict(start_usd),
        cost=_cost(model, found.replicas),
        constant=_constant_cost(model, found),
        hourly=_cost(model, found.hourly),
        lower_bound_usd=max(found.bound_usd, 0.0),
        solver_status=found.status,
        model=first.model,
        headroom=first.headroom,
        inputs=first.inputs,
        warnings=(*first.warnings, *notes),
    )


def _require_served(problems: Sequence[Problem]) -> None:
    """Raise InfeasibleError when a bucket has no type that is available and serves it."""
    if any(_with_any_demand(problem).unserved() for problem in problems):
        _explain(problems)


def _with_any_demand(problem: Problem) -> Problem:
    """Return the problem less the buckets without demand."""
    kept = [b for b, bucket in enumerate(problem.buckets) if bucket.requests_per_s > 0]
    return replace(
        problem,
        buckets=tuple(problem.buckets[b] for b in kept),
        types=tuple(
            replace(kind, services=tuple(kind.services[b] for b in kept)) for kind in problem.types
        ),
    )


def _explain(problems: Sequence[Problem]) -> None:
    """Raise the error of the busiest hour that has no plan."""
    from optimizer.planner import make_plan

    busy = [_with_any_demand(p) for p in problems]
    for problem in sorted(busy, key=lambda p: -p.request_rate):
        if problem.buckets:
            make_plan(problem, limit_s=10.0)
    raise OptimizerError("schedule.infeasible", "some hour has no plan within the limits")


def _cost(model: "ScheduleModel", replicas: "Floats") -> Cost:
    return Cost(model.running_usd(replicas), model.starting_usd(replicas))


def _constant_cost(model: "ScheduleModel", found: "ScheduleSolution") -> Cost | None:
    if found.constant is None:
        return None
    return Cost(math.fsum(found.constant * model.cost) * model.hours, 0.0)


def _hours(
    problems: Sequence[Problem], model: "ScheduleModel", replicas: "Floats"
) -> tuple[Hour, ...]:
    weekly = len(problems) > DAY_HOURS
    names = [kind.name for kind in problems[0].types]
    started = model.started(replicas)
    return tuple(
        Hour(
            day=DAYS[h // DAY_HOURS] if weekly else None,
            hour=h % DAY_HOURS,
            requests_per_s=problem.request_rate,
            replicas={name: round(n) for name, n in zip(names, replicas[h].tolist(), strict=True)},
            usd_per_hour=float(replicas[h] @ model.cost),
            starts={
                name: round(n)
                for name, n in zip(names, started[h].tolist(), strict=True)
                if round(n)
            },
        )
        for h, problem in enumerate(problems)
    )
