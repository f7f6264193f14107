"""The control loop: from what is observed, when, and what was decided before, to what is wanted.

A pure function of time, observation and state. It asks a planner what would be cheapest, and keeps
to these rules:

- More is wanted at once, and added to what there is: a replica that serves is never stopped in
  the same step as another is started.
- Less is wanted once the smaller plan has held for the cool-down, counted from the last change.
  Of all plans in that time the largest of each type counts.
- A mix that serves is left as it is unless another saves ``min_saving`` of its cost.
- At most so many changes an hour. Half of them are kept for what the demand needs; the fewer are
  left, the further ahead a scale-up reaches. A scale-up that the demand needs is never refused:
  where it exceeds the limit, the decision says so.
- Without data nothing changes, and nothing that was seen before counts towards a cool-down.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, Protocol, TypeVar

HOUR_S = 3600.0
FURTHEST = 2.0
"""The most that a scale-up reaches beyond the demand, as a factor."""

Direction = Literal["none", "first", "up", "down"]
Counts = Mapping[str, int]
T = TypeVar("T")
D_contra = TypeVar("D_contra", contravariant=True)


@dataclass(frozen=True)
class Policy:
    """How the loop behaves.

    Attributes:
        cooldown_s: how long a smaller plan must hold, and how long after any change.
        max_changes_per_hour: at least 2.
        min_saving: share of the cost that a change of a mix that serves must save.
        min_coverage: share of the window's slots below which less is never wanted.
    """

    cooldown_s: float = 600.0
    max_changes_per_hour: int = 6
    min_saving: float = 0.05
    min_coverage: float = 0.5


@dataclass(frozen=True)
class Proposal:
    """What a planner would have: replicas by type, and the share of the demand they serve."""

    replicas: dict[str, int]
    served: float = 1.0


class Planner(Protocol[D_contra]):
    """Answers for one demand; what a demand is, only the planner knows."""

    def propose(self, demand: D_contra, *, at_least: Counts, factor: float = 1.0) -> Proposal:
        """Return the cheapest replicas for the demand times a factor, none below ``at_least``."""

    def serves(self, demand: D_contra, replicas: Counts) -> bool:
        """Return whether replicas serve the demand."""

    def cost_usd_per_hour(self, replicas: Counts) -> float:
        """Return what replicas cost."""


@dataclass(frozen=True)
class Observed(Generic[T]):
    """What was seen at one moment.

    Attributes:
        demand: None where it could not be read; ``problem`` says why.
        coverage: share of the window's slots that there were.
        problem: what failed.
    """

    demand: T | None
    coverage: float = 1.0
    problem: str | None = None


@dataclass(frozen=True)
class State:
    """What the loop remembers.

    Attributes:
        replicas: wanted, by type; None before the first plan.
        changed_s: when that was decided.
        planned_s: when the demand was last seen and planned for; None when never.
        proposals: time and replicas of the plans that count towards the cool-down.
        changes_s: when the changes of the last hour were decided.
        problem: why the plan is stale; None when it is not.
    """

    replicas: dict[str, int] | None = None
    changed_s: float = 0.0
    planned_s: float | None = None
    proposals: tuple[tuple[float, dict[str, int]], ...] = ()
    changes_s: tuple[float, ...] = ()
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "replicas": self.replicas,
            "changed_s": self.changed_s,
            "planned_s": self.planned_s,
            "proposals": [list(proposal) for proposal in self.proposals],
            "changes_s": list(self.changes_s),
            "problem": self.problem,
        }


@dataclass(frozen=True)
class Decision:
    """What one step decided.

    Attributes:
        direction: of the change; ``none`` without one.
        replicas: wanted from now on; None before the first plan.
        reason: in words.
        served: share of the demand that they serve; below 1 where limits leave too little.
        over_limit: whether the change is one more than the limit allows.
    """

    direction: Direction
    replicas: dict[str, int] | None
    reason: str
    served: float = 1.0
    over_limit: bool = False


@dataclass(frozen=True)
class _Moment(Generic[T]):
    """One step's surroundings."""

    policy: Policy
    planner: Planner[T]
    state: State
    now_s: float
    demand: T
    thin: bool
    changes_s: tuple[float, ...] = field(default=())

    @property
    def calm(self) -> bool:
        """Whether a change that the demand does not need is allowed now."""
        few = len(self.changes_s) < max(self.policy.max_changes_per_hour // 2, 1)
        return few and self.now_s - self.state.changed_s >= self.policy.cooldown_s

    @property
    def reach(self) -> float:
        """How far beyond the demand a scale-up reaches, so that the changes left last."""
        scarce = len(self.changes_s) - self.policy.max_changes_per_hour // 2
        return min(1 + 0.25 * 2**scarce, FURTHEST) if scarce >= 0 else 1.0


def step(
    policy: Policy, planner: Planner[T], state: State, now_s: float, observed: Observed[T]
) -> tuple[State, Decision]:
    """Return the state after one step, and what it decided.

    Args:
        policy: how the loop behaves.
        planner: answers what would be cheapest.
        state: from the step before.
        now_s: unix seconds, or any clock that runs on.
        observed: what was seen.
    """
    recent = tuple(t for t in state.changes_s if now_s - t < HOUR_S)
    if observed.demand is None:
        problem = observed.problem or "no data"
        kept = replace(state, proposals=(), changes_s=recent, problem=problem)
        return kept, Decision("none", state.replicas, f"kept: {problem}")
    thin = observed.coverage < policy.min_coverage
    moment = _Moment(policy, planner, state, now_s, observed.demand, thin, recent)
    proposal = planner.propose(observed.demand, at_least={})
    proposals = () if thin else _kept_proposals(moment, proposal)
    decision = _decide(moment, proposal, proposals)
    changed = decision.direction != "none"
    after = State(
        replicas=dict.fromkeys(proposal.replicas, 0) | (decision.replicas or {}),
        changed_s=now_s if changed else state.changed_s,
        planned_s=now_s,
        proposals=proposals,
        changes_s=(*recent, now_s) if changed else recent,
        problem=None,
    )
    return after, decision


def _kept_proposals(
    moment: _Moment[T], proposal: Proposal
) -> tuple[tuple[float, dict[str, int]], ...]:
    """Return the proposals of the cool-down, and the one before it that reaches into it."""
    now_s, window_s = moment.now_s, moment.policy.cooldown_s
    listed = [*moment.state.proposals, (now_s, proposal.replicas)]
    inside = [each for each in listed if now_s - each[0] < window_s]
    before = [each for each in listed if now_s - each[0] >= window_s]
    return (*before[-1:], *inside)


def _decide(
    moment: _Moment[T], proposal: Proposal, proposals: Iterable[tuple[float, Counts]]
) -> Decision:
    now = moment.state.replicas
    if now is None:
        return Decision("first", proposal.replicas, "the first plan", proposal.served)
    if not moment.planner.serves(moment.demand, now):
        return _grow(moment, now)
    listed = list(proposals)
    if moment.thin:
        return Decision("none", now, "kept: too few slots to want less")
    if not listed or moment.now_s - listed[0][0] < moment.policy.cooldown_s or not moment.calm:
        return Decision("none", now, "kept: serves the demand")
    return _shrink(moment, now, _largest(replicas for _, replicas in listed))


def _grow(moment: _Moment[T], now: dict[str, int]) -> Decision:
    proposal = moment.planner.propose(moment.demand, at_least=now, factor=moment.reach)
    if proposal.replicas == now:
        left = f"{1 - proposal.served:.1%} of the demand is beyond the limits"
        return Decision("none", now, f"kept: {left}", proposal.served)
    over = len(moment.changes_s) >= moment.policy.max_changes_per_hour
    ahead = f", {moment.reach - 1:.0%} ahead" if moment.reach > 1 else ""
    return Decision("up", proposal.replicas, f"the demand needs more{ahead}", proposal.served, over)


def _shrink(moment: _Moment[T], now: dict[str, int], smaller: dict[str, int]) -> Decision:
    cost = moment.planner.cost_usd_per_hour(now)
    saved = cost - moment.planner.cost_usd_per_hour(smaller)
    if saved <= moment.policy.min_saving * cost:
        return Decision("none", now, "kept: another plan saves too little")
    share = f"saves {saved / cost:.0%}"
    both = _largest([now, smaller])
    if both == now:
        return Decision("down", smaller, f"a smaller plan has held, {share}")
    return Decision("up", both, f"another mix {share}: its replicas first")


def _largest(fleets: Iterable[Counts]) -> dict[str, int]:
    """Return the most replicas of each type."""
    most: dict[str, int] = {}
    for fleet in fleets:
        for name, count in fleet.items():
            most[name] = max(count, most.get(name, 0))
    return most
