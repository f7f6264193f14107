"""One model's control loop at work: reads, decides, remembers, and answers what is wanted."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from accelerators.errors import ToolError
from optimizer.from_tables import Source
from optimizer.limits import Limits
from optimizer.live.control import Decision, Observed, Policy, State, step
from optimizer.live.demand import Seen, Terms, check_terms, see
from optimizer.live.replan import Replanner
from optimizer.live.state import Memory
from optimizer.live.traffic import Traffic
from optimizer.workload.model import OutOfRange

HUNDREDTHS = 100
"""AIBrix's metric counts hundredths of a replica, so its samples have ``targetValue: "100"``."""

NO_OVERRIDE = -1
"""The value by which AIBrix lifts all that was set by hand."""


@dataclass(frozen=True)
class Tables:
    """What the profiles say.

    Attributes:
        sources: throughput tables.
        deployments: ``namespace/name`` of the deployment to its table's target.
    """

    sources: Sequence[Source]
    deployments: Mapping[str, str]


@dataclass(frozen=True)
class Settings:
    """How one model is served.

    Attributes:
        policy: of the control loop.
        limits: of the operator.
        interval_s: between re-plans.
        out_of_range: what to do with requests beyond the largest bucket.
        costs: $/h of one replica by target, in place of the tables'.
        initial: replicas to report until the first plan; empty when not known.
    """

    policy: Policy
    limits: Limits
    interval_s: float = 60.0
    out_of_range: OutOfRange = "extrapolate"
    costs: Mapping[str, float] = field(default_factory=dict)
    initial: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Standing:
    """Where a model's loop stands, for those who ask.

    Attributes:
        model: as AIBrix names it.
        state: of the loop.
        decision: the latest; None before the first step.
        deployments: ``namespace/name`` to target.
        seen: the latest reading.
        usd_per_hour: what is wanted costs; None before the first plan of this run.
        counts: of steps, changes by direction and errors by code.
    """

    model: str
    state: State
    decision: Decision | None = None
    deployments: Mapping[str, str] = field(default_factory=dict)
    seen: Seen = field(default_factory=lambda: Seen(Observed(None)))
    usd_per_hour: float | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


class ModelLoop:
    """The loop of one model. One thread ticks it, others may ask and set at any time."""

    def __init__(
        self,
        model: str,
        read_tables: Callable[[], Tables],
        read_traffic: Callable[[], Traffic],
        planner: Replanner,
        settings: Settings,
        memory: Memory | None = None,
    ):
        """Take how to read what it needs; ``memory`` is from a run before."""
        self.model, self.settings = model, settings
        self._read_tables, self._read_traffic = read_tables, read_traffic
        self._planner = planner
        memory = memory or Memory()
        state = memory.state
        if state.replicas is None and settings.initial:
            state = replace(state, replicas=dict(settings.initial))
        self._overrides, self._stopped = dict(memory.overrides), set(memory.stopped)
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._standing = Standing(model, state, deployments=dict(memory.deployments))
        self.wake = threading.Event()

    @property
    def memory(self) -> Memory:
        """What is to outlive a restart."""
        with self._lock:
            return Memory(
                self._standing.state,
                dict(self._standing.deployments),
                dict(self._overrides),
                frozenset(self._stopped),
            )

    @property
    def standing(self) -> Standing:
        """Where the loop stands."""
        with self._lock:
            return self._standing

    def check(self) -> None:
        """Read the tables and lay the limits on them; raises ToolError for what is wrong."""
        tables = self._read_tables()
        check_terms(self._terms(tables))
        with self._lock:
            self._standing = replace(self._standing, deployments=dict(tables.deployments))

    def tick(self, now_s: float) -> Decision:
        """Take one step: read, plan and decide; what can't be read leaves the plan as it is."""
        before = self.standing
        tables: Tables | None = None
        try:
            tables = self._read_tables()
            self._require_known(before, tables)
            seen = see(self._read_traffic(), self._terms(tables), 2 * self.settings.interval_s + 60)
            after, decision = self._step(before.state, now_s, seen.observed)
        except ToolError as error:
            self._counts[f"error {error.code}"] += 1
            seen = Seen(Observed(None, 0.0, error.message))
            after, decision = self._step(before.state, now_s, seen.observed)
        self._counts["steps"] += 1
        if decision.direction != "none":
            self._counts[f"change {decision.direction}"] += 1
        self._counts["over_limit"] += decision.over_limit
        cost = before.usd_per_hour
        if seen.observed.demand is not None and after.replicas is not None:
            cost = self._planner.cost_usd_per_hour(after.replicas)
        with self._lock:
            self._standing = Standing(
                self.model,
                after,
                decision,
                dict(tables.deployments) if tables and not after.problem else before.deployments,
                seen,
                cost,
                dict(self._counts),
            )
        return decision

    def _step(
        self,
        state: State,
        now_s: float,
        observed: "Observed",  # type: ignore[type-arg]
    ) -> tuple[State, Decision]:
        return step(self.settings.policy, self._planner, state, now_s, observed)

    def _terms(self, tables: Tables) -> Terms:
        with self._lock:
            stopped = {tables.deployments[key] for key in self._stopped & tables.deployments.keys()}
        settings = self.settings
        return Terms(
            tables.sources, settings.limits, settings.out_of_range, settings.costs, stopped
        )

    def _require_known(self, before: Standing, tables: Tables) -> None:
        """Refuse to plan without a type that is in use: its profile is away, it is not idle."""
        with self._lock:
            stopped = {before.deployments.get(key) for key in self._stopped}
        used = {name for name, n in (before.state.replicas or {}).items() if n}
        gone = used - {source.table.target for source in tables.sources} - stopped
        if gone:
            raise ToolError(
                "serve.profile_gone", f"the profile of {', '.join(sorted(gone))} is gone"
            )

    def reload(self) -> None:
        """Read the tables again and plan soon; raises ToolError when they can't be read."""
        self.check()
        self.wake.set()

    def metric(self, key: str) -> int | None:
        """Return AIBrix's metric of ``namespace/name``; None before the first plan with it.

        Raises:
            KeyError: the deployment is not of this model, or not monitored.
        """
        with self._lock:
            target = self._standing.deployments[key]
            if key in self._stopped:
                raise KeyError(key)
            if key in self._overrides:
                return self._overrides[key]
            replicas = self._standing.state.replicas
        wanted = None if replicas is None else replicas.get(target)
        return None if wanted is None else wanted * HUNDREDTHS

    def override(self, key: str, value: int) -> None:
        """Report a value until it is lifted; NO_OVERRIDE lifts those of all deployments.

        Raises:
            KeyError: the deployment is not of this model, or not monitored.
        """
        self.metric(key)
        with self._lock:
            if value == NO_OVERRIDE:
                self._overrides.clear()
            else:
                self._overrides[key] = value

    def monitor(self, key: str, *, on: bool) -> bool:
        """Plan for a deployment or no longer; return whether that is a change.

        Raises:
            KeyError: the deployment is not of this model.
        """
        with self._lock:
            if key not in self._standing.deployments:
                raise KeyError(key)
            changed = on == (key in self._stopped)
            (self._stopped.discard if on else self._stopped.add)(key)
        if changed:
            self.wake.set()
        return changed

    def monitored(self) -> dict[str, str]:
        """Return the deployments that are planned for, with their targets."""
        with self._lock:
            return {
                key: target
                for key, target in self._standing.deployments.items()
                if key not in self._stopped
            }


def run(
    loops: Sequence[ModelLoop],
    stop: threading.Event,
    *,
    on_step: Callable[[ModelLoop, Decision], None],
    until_s: float | None = None,
) -> None:
    """Tick every loop at its interval until ``stop`` is set or ``until_s`` has passed.

    Args:
        loops: one per model.
        stop: set by whoever wants it to end.
        on_step: called after every step, to publish and to save.
        until_s: seconds to run; None for no end.
    """
    started_s = time.monotonic()
    due = {loop.model: started_s for loop in loops}
    while not stop.is_set():
        for loop in loops:
            if loop.wake.is_set() or time.monotonic() >= due[loop.model]:
                loop.wake.clear()
                due[loop.model] = time.monotonic() + loop.settings.interval_s
                on_step(loop, loop.tick(time.time()))
        if until_s is not None and time.monotonic() - started_s >= until_s:
            return
        stop.wait(0.1)
