"""The question a plan answers: demand per bucket, what each GPU type serves, and the limits."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from optimizer.errors import OptimizerUsageError
from profiler.slo import Slo

MAX_REPLICAS = 1e7
"""Of one type for one bucket: more is a slip of units, and beyond the solver's precision."""


@dataclass(frozen=True)
class Bucket:
    """Requests of one size.

    Attributes:
        name: e.g. ``512x128``; the index (``0,1``) where a file gives no sizes.
        input_tokens, output_tokens: upper bounds; None where a file gives none.
        requests_per_s: demand; more than 0.
        work: throughput a mean request takes, in requests of the bucket's size; 1 unless larger
            requests were extrapolated into it.
    """

    name: str
    input_tokens: int | None
    output_tokens: int | None
    requests_per_s: float
    work: float = 1.0


@dataclass(frozen=True)
class Service:
    """What one replica of a type does with one bucket.

    Attributes:
        requests_per_s: within the SLO; 0 forbids the route.
        status: status of the table's cell.
        latency: metric to statistics in milliseconds, at that rate; empty when unknown.
        limited_by: what stopped the rate from being higher, or above 0.
    """

    requests_per_s: float
    status: str = "measured"
    latency: dict[str, Any] = field(default_factory=dict)
    limited_by: str | None = None


@dataclass(frozen=True)
class GpuType:
    """One kind of replica that a plan may use.

    Attributes:
        name: of the throughput table's target.
        cost_usd_per_hour: of one replica.
        services: one per bucket of the problem.
        gpus_per_replica: replica shape.
        accelerator: name in ``accelerators``; None when unknown.
        source: ``measured``, ``simulated`` or ``imported``.
        min_replicas, max_replicas: limits; None for no maximum.
    """

    name: str
    cost_usd_per_hour: float
    services: tuple[Service, ...]
    gpus_per_replica: int = 1
    accelerator: str | None = None
    source: str = "imported"
    min_replicas: int = 0
    max_replicas: int | None = None


@dataclass(frozen=True)
class Pool:
    """GPUs that some types draw from.

    Attributes:
        name: the type or the accelerator that was named.
        types: names of the types that draw from it.
        gpus: how many there are.
    """

    name: str
    types: tuple[str, ...]
    gpus: int


@dataclass(frozen=True)
class Problem:
    """All that a plan is computed from.

    Attributes:
        buckets: those with demand.
        types: in order of name.
        headroom: share of every replica's throughput to keep free.
        pools: availability.
        budget_usd_per_hour: limit on the cost; None for none.
        model: served model; None when unknown.
        slos: objectives that the throughputs meet.
        inputs: what it was made from, recorded in the plan.
        warnings: what a reader of the plan must know.
    """

    buckets: tuple[Bucket, ...]
    types: tuple[GpuType, ...]
    headroom: float = 0.0
    pools: tuple[Pool, ...] = ()
    budget_usd_per_hour: float | None = None
    model: str | None = None
    slos: tuple[Slo, ...] = ()
    inputs: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def request_rate(self) -> float:
        """Requests/s over all buckets."""
        return math.fsum(bucket.requests_per_s for bucket in self.buckets)

    def load(self, bucket: int, kind: int) -> float:
        """Return replicas of a type that a bucket's whole demand keeps busy; inf if forbidden.

        A type that would need more than MAX_REPLICAS is forbidden too.
        """
        rate = self.types[kind].services[bucket].requests_per_s
        demand = self.buckets[bucket]
        needed = demand.requests_per_s * demand.work / rate if rate > 0 else math.inf
        return needed if needed <= MAX_REPLICAS else math.inf

    def replica_cap(self, kind: int) -> int | None:
        """Return the most replicas of a type that its own limits allow; None without a limit."""
        chosen = self.types[kind]
        caps = [pool.gpus // chosen.gpus_per_replica for pool in self.pools_of(chosen.name)]
        if chosen.max_replicas is not None:
            caps.append(chosen.max_replicas)
        return min(caps, default=None)

    def pools_of(self, name: str) -> tuple[Pool, ...]:
        """Return the pools that a type draws from."""
        return tuple(pool for pool in self.pools if name in pool.types)

    def unserved(self) -> tuple[int, ...]:
        """Return the indices of buckets that no available type serves within the SLO."""
        usable = [k for k in range(len(self.types)) if self.replica_cap(k) != 0]
        return tuple(
            b
            for b in range(len(self.buckets))
            if not any(math.isfinite(self.load(b, k)) for k in usable)
        )


def check(problem: Problem) -> Problem:
    """Return the problem when its numbers make sense.

    Raises:
        OptimizerUsageError: names the first that does not.
    """
    names = [kind.name for kind in problem.types]
    if not names:
        raise _bad("no_types", "there are no GPU types to choose from")
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise _bad("duplicate", f"GPU type {doubled[0]!r} occurs {names.count(doubled[0])} times")
    if not problem.buckets:
        raise _bad("no_demand", "no bucket has any demand")
    if not 0 <= problem.headroom < 1:
        raise _bad("headroom", f"headroom is {problem.headroom:.3g}; expected 0 or more, below 1")
    budget = problem.budget_usd_per_hour
    if budget is not None and not 0 < budget < math.inf:
        raise _bad("budget", f"budget is {budget} $/h; expected more than 0")
    for bucket in problem.buckets:
        if not 0 < bucket.requests_per_s < 1e9:
            raise _bad("rate", f"bucket {bucket.name} has {bucket.requests_per_s:g} requests/s")
    for kind in problem.types:
        _check_type(kind, len(problem.buckets))
    for b, bucket in enumerate(problem.buckets):
        best = max(kind.services[b].requests_per_s for kind in problem.types)
        if 0 < best * MAX_REPLICAS < bucket.requests_per_s * bucket.work:
            found = f"bucket {bucket.name} has {bucket.requests_per_s:g} requests/s"
            most = f"no type serves more than {best:g} a replica"
            raise _bad("rate", f"{found}, {most}: over {MAX_REPLICAS:,.0f} replicas")
    return problem


def _check_type(kind: GpuType, buckets: int) -> None:
    if not 0 < kind.cost_usd_per_hour < 1e6:
        found = f"{kind.name} costs {kind.cost_usd_per_hour} $/h"
        raise _bad("cost", f"{found}; expected more than 0", target=kind.name)
    if len(kind.services) != buckets:
        found = f"{kind.name} has throughputs for {len(kind.services)} buckets"
        raise _bad("shape", f"{found}; expected {buckets}", target=kind.name)
    rates = [service.requests_per_s for service in kind.services]
    if not all(0 <= rate < 1e9 for rate in rates):
        found = f"{kind.name} has throughput {next(r for r in rates if not 0 <= r < 1e9)}"
        raise _bad("throughput", f"{found}; expected 0 or more", target=kind.name)
    top = kind.max_replicas
    if kind.min_replicas < 0 or (top is not None and top < max(kind.min_replicas, 0)):
        found = f"{kind.name} has minimum {kind.min_replicas} and maximum {top}"
        raise _bad("limits", f"{found} replicas; expected 0 <= minimum <= maximum", kind.name)


def check_names(option: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise OptimizerUsageError when an option names a type that there is not."""
    import difflib

    choices = sorted(set(known))
    for name in given:
        if name not in choices:
            close = difflib.get_close_matches(name, choices, n=1)
            raise OptimizerUsageError(
                "problem.unknown_type",
                f"{option} names {name!r}; known are {', '.join(choices)}",
                hint=f"did you mean {close[0]}?" if close else "",
                target=name,
            )


def _bad(code: str, message: str, target: str | None = None) -> OptimizerUsageError:
    return OptimizerUsageError(f"problem.{code}", message, target=target)
