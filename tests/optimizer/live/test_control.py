"""The rules of the control loop, on a planner that is plain enough to check by hand."""

import itertools
import json
import math
from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from optimizer.live.control import (
    HOUR_S,
    Counts,
    Decision,
    Observed,
    Policy,
    Proposal,
    State,
    step,
)

POLICY = Policy(cooldown_s=600, max_changes_per_hour=6, min_saving=0.05)


@dataclass(frozen=True)
class Linear:
    """Types that serve so many requests/s a replica, any mix of them; at most so many."""

    speed: tuple[float, ...] = (1.0, 4.0)
    cost: tuple[float, ...] = (1.0, 3.0)
    most: tuple[int, ...] = (20, 20)

    def propose(self, demand: float, *, at_least: Counts, factor: float = 1.0) -> Proposal:
        low = [min(at_least.get(f"t{g}", 0), self.most[g]) for g in range(2)]
        best, least = None, math.inf
        for n1 in range(low[1], self.most[1] + 1):
            n0 = max(math.ceil((demand * factor - n1 * self.speed[1]) / self.speed[0]), low[0])
            price = n0 * self.cost[0] + n1 * self.cost[1]
            if n0 <= self.most[0] and price < least:
                best, least = {"t0": n0, "t1": n1}, price
        if best is None:
            whole = {"t0": self.most[0], "t1": self.most[1]}
            return Proposal(whole, self._capacity(whole) / demand)
        return Proposal(best)

    def _capacity(self, replicas: Counts) -> float:
        return sum(self.speed[g] * replicas.get(f"t{g}", 0) for g in range(2))

    def serves(self, demand: float, replicas: Counts) -> bool:
        return self._capacity(replicas) >= demand

    def cost_usd_per_hour(self, replicas: Counts) -> float:
        return sum(self.cost[g] * replicas.get(f"t{g}", 0) for g in range(2))


def run(
    demands: list[float | None], *, every_s: float = 60, policy: Policy = POLICY,
    state: State | None = None, start_s: float = 0.0, coverage: float = 1.0,
) -> list[tuple[float, State, Decision]]:  # fmt: skip
    state, history = state or State(), []
    for n, demand in enumerate(demands):
        now_s = start_s + n * every_s
        observed = Observed(demand, coverage, "redis is away" if demand is None else None)
        state, decision = step(policy, Linear(), state, now_s, observed)
        history.append((now_s, state, decision))
    return history


def directions(history: list[tuple[float, State, Decision]]) -> list[tuple[float, str]]:
    return [(t, d.direction) for t, _, d in history if d.direction != "none"]


def test_more_at_once_less_after_the_cool_down() -> None:
    history = run([4, 12] + [4] * 12)
    assert directions(history) == [(0, "first"), (60, "up"), (720, "down")]
    wanted = [state.replicas for _, state, _ in history]
    assert wanted[0] == {"t0": 0, "t1": 1}
    assert wanted[1:12] == [{"t0": 0, "t1": 3}] * 11
    assert wanted[12] == {"t0": 0, "t1": 1}


def test_a_dip_that_does_not_hold_changes_nothing() -> None:
    demands: list[float | None] = [12, *([4.0] * 8 + [12.0]) * 5]
    assert directions(run(demands)) == [(0, "first")]


def test_another_mix_starts_before_the_old_one_stops() -> None:
    state = State(replicas={"t0": 8, "t1": 0}, changed_s=-9000)
    history = run([8] * 30, state=state)
    assert directions(history) == [(600, "up"), (1200, "down")]
    assert history[10][1].replicas == {"t0": 8, "t1": 2}
    assert history[20][1].replicas == {"t0": 0, "t1": 2}


def test_without_data_nothing_changes_and_it_says_so() -> None:
    history = run([12, *[None] * 200, *[4] * 11])
    assert {json.dumps(state.replicas) for _, state, _ in history[:-1]} == {'{"t0": 0, "t1": 3}'}
    _, stale, decision = history[100]
    assert (stale.problem, decision.reason) == ("redis is away", "kept: redis is away")
    assert stale.planned_s == 0
    _, fresh, last = history[-1]
    assert (fresh.problem, last.direction) == (None, "down")  # ten minutes of data, not of silence
    assert run([None])[0][1].replicas is None


def test_few_slots_are_enough_to_want_more_not_less() -> None:
    state = State(replicas={"t0": 0, "t1": 2}, changed_s=-9000)
    assert directions(run([0.5] * 60, coverage=0.4, state=state)) == []
    assert directions(run([12], coverage=0.4, state=state)) == [(0, "up")]


def test_no_traffic_at_all_is_served_by_none() -> None:
    history = run([4] + [0] * 12)
    assert history[-1][1].replicas == {"t0": 0, "t1": 0}


def test_beyond_the_limits_as_much_as_there_is() -> None:
    history = run([10, 1000, 1000])
    assert history[1][2].replicas == {"t0": 20, "t1": 20}
    assert history[1][2].served == 0.1
    assert history[2][2].direction == "none"
    assert "90.0% of the demand is beyond the limits" in history[2][2].reason


def test_the_fewer_changes_are_left_the_further_a_scale_up_reaches() -> None:
    history = run([4 + 3.9 * n for n in range(12)], every_s=300)
    ups = [d for _, _, d in history if d.direction == "up"]
    assert [d.reason for d in ups][:3] == ["the demand needs more"] * 2 + [
        "the demand needs more, 25% ahead"
    ]
    assert not any(d.over_limit for d in ups)
    assert len(directions(history)) <= POLICY.max_changes_per_hour


DEMANDS = st.lists(
    st.one_of(st.none(), st.floats(0, 60), st.sampled_from([0.0, 5.0, 50.0])),
    min_size=5,
    max_size=150,
)
POLICIES = st.builds(
    Policy,
    cooldown_s=st.sampled_from([60.0, 300.0, 900.0]),
    max_changes_per_hour=st.integers(2, 12),
    min_saving=st.sampled_from([0.0, 0.05, 0.3]),
)


@given(DEMANDS, POLICIES, st.sampled_from([10.0, 60.0, 250.0]))
def test_what_always_holds(demands: list[float | None], policy: Policy, every_s: float) -> None:
    """Whatever comes: the demand is served, data that is missing changes nothing, and the number
    of changes is bounded, but for what the demand needs.
    """
    history = run(demands, policy=policy, every_s=every_s)
    before: dict[str, int] | None = None
    changes: list[tuple[float, Decision]] = []
    for demand, (now_s, state, decision) in zip(demands, history, strict=True):
        if demand is None:
            assert state.replicas == before
        elif decision.served == 1:
            assert state.replicas is not None
            assert Linear().serves(demand, state.replicas)
        if decision.direction == "up":
            assert before is not None
            assert state.replicas is not None
            assert all(state.replicas[name] >= n for name, n in before.items())
        if decision.direction == "down":
            assert before is not None
            assert state.replicas is not None
            assert all(state.replicas[name] <= n for name, n in before.items())
            assert all(now_s - t >= policy.cooldown_s for t, _ in changes)
        assert (decision.direction == "none") == (state.replicas == before)
        if decision.direction != "none":
            needed = before is None or (demand is not None and not Linear().serves(demand, before))
            last = [d for t, d in changes if now_s - t < HOUR_S]
            if len(last) >= policy.max_changes_per_hour:
                assert decision.over_limit
                assert needed
            if not needed:
                assert len(last) < max(policy.max_changes_per_hour // 2, 1)
            changes.append((now_s, decision))
        before = state.replicas


@given(DEMANDS, st.integers(0, 60))
def test_a_restart_forgets_nothing(demands: list[float | None], cut: int) -> None:
    whole = run(demands)
    head = run(demands[:cut])
    state = head[-1][1] if head else State()
    state = state_from(json.loads(json.dumps(state.to_json())))
    tail = run(demands[cut:], state=state, start_s=len(head) * 60)
    assert [d for _, _, d in head + tail] == [d for _, _, d in whole]


def state_from(body: dict[str, object]) -> State:
    from optimizer.live.state import parse_state

    return parse_state(body)


def test_demand_that_swings_every_interval_is_bounded() -> None:
    """The worst swing, a day long: up and down each minute."""
    history = run([5.0 if n % 2 else 40.0 for n in range(1440)])
    assert directions(history) == [(0, "first")]
    slow = run([5.0 if n // 20 % 2 else 40.0 for n in range(1440)])
    changes = [t for t, _ in directions(slow)]
    worst = max(sum(t <= other < t + HOUR_S for other in changes) for t in changes)
    assert worst <= POLICY.max_changes_per_hour
    assert len(list(itertools.pairwise(changes))) > 20


def test_a_smaller_limit_than_what_runs_is_kept_to() -> None:
    state = State(replicas={"t0": 30, "t1": 0}, changed_s=0)
    observed = Observed(70.0)
    _, decision = step(POLICY, replace(Linear(), most=(10, 20)), state, 60.0, observed)
    assert decision.replicas == {"t0": 10, "t1": 15}
