"""Traffic as the control loop's demand: a problem under limits, less what no type serves."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from optimizer.errors import OptimizerError
from optimizer.from_tables import Source, build
from optimizer.limits import Limits, apply
from optimizer.live.control import Observed
from optimizer.live.traffic import Traffic, workload
from optimizer.problem import Problem
from optimizer.relax import without
from optimizer.workload.model import OutOfRange, Workload


@dataclass(frozen=True)
class Terms:
    """Under what a demand is planned for.

    Attributes:
        sources: throughput tables.
        limits: of the operator.
        out_of_range: what to do with requests beyond the largest bucket.
        costs: $/h of one replica by target, in place of the tables'.
        stopped: targets that are not to be used.
    """

    sources: Sequence[Source]
    limits: Limits
    out_of_range: OutOfRange = "extrapolate"
    costs: Mapping[str, float] = field(default_factory=dict)
    stopped: Collection[str] = ()


@dataclass(frozen=True)
class Seen:
    """What came of one reading: the demand for the loop, and what to tell of it.

    Attributes:
        observed: for the loop.
        traffic: None where it could not be read.
        unserved_share: of the requests, in buckets that no type serves within the SLO; they are
            not planned for.
    """

    observed: Observed[Problem]
    traffic: Traffic | None = None
    unserved_share: float = 0.0


def see(traffic: Traffic, terms: Terms, oldest_s: float) -> Seen:
    """Return the demand that traffic amounts to; without one where it can't be told.

    Args:
        traffic: of the window.
        terms: under what it is planned for.
        oldest_s: the greatest age of the newest slot.

    Raises:
        OptimizerUsageError: tables that do not belong together, or limits that make no sense.
    """
    if not traffic.slots:
        return Seen(Observed(None, 0.0, "no slot of live traffic"), traffic)
    if traffic.age_s is not None and traffic.age_s > oldest_s:
        return Seen(Observed(None, 0.0, f"the newest slot is {traffic.age_s:.0f} s old"), traffic)
    if not traffic.requests:
        nothing = _without_demand(_limited(_least(terms), terms))
        return Seen(Observed(nothing, traffic.coverage), traffic)
    try:
        asked = _limited(workload(traffic), terms)
    except OptimizerError as error:
        if error.code != "traffic.none":
            raise
        return Seen(Observed(None, traffic.coverage, error.message), traffic)
    return _served_part(asked, traffic)


def check_terms(terms: Terms) -> None:
    """Raise OptimizerUsageError when the tables or the limits make no sense, traffic aside."""
    _limited(_least(terms), terms)


def _limited(demand: Workload, terms: Terms) -> Problem:
    problem = build(terms.sources, demand, out_of_range=terms.out_of_range, costs=terms.costs)
    limited = apply(problem, terms.limits)
    return replace(
        limited,
        types=tuple(
            replace(kind, min_replicas=0, max_replicas=0) if kind.name in terms.stopped else kind
            for kind in limited.types
        ),
    )


def _least(terms: Terms) -> Workload:
    table = terms.sources[0].table
    return Workload(
        source="nothing",
        format="none",
        digest=None,
        input_tokens=np.array(table.input_tokens[:1]),
        output_tokens=np.array(table.output_tokens[:1]),
        count=np.ones(1),
        request_rate=1.0,
    )


def _without_demand(problem: Problem) -> Problem:
    """Return the problem of the same types when no request comes."""
    return without(problem, range(len(problem.buckets)))


def _served_part(asked: Problem, traffic: Traffic) -> Seen:
    unserved = asked.unserved()
    if not unserved:
        return Seen(Observed(asked, traffic.coverage), traffic)
    lost = math.fsum(asked.buckets[b].requests_per_s for b in unserved) / asked.request_rate
    kept = without(asked, unserved)
    if not kept.buckets:
        problem = "no type serves any of the requests within the SLO"
        return Seen(Observed(None, traffic.coverage, problem), traffic, lost)
    return Seen(Observed(kept, traffic.coverage), traffic, lost)
