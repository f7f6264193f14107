"""The schedule against simpler ways, and against every schedule there is on small cases."""

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from optimizer.model import PoolLimit
from optimizer.schedule.capacity import Capacity
from optimizer.schedule.model import ScheduleModel, ScheduleSolution
from optimizer.schedule.solve import kept_through, solve


def found(model: ScheduleModel, gap: float = 1e-6) -> ScheduleSolution:
    return solve(model, time.monotonic() + 30, gap, lambda _: None)


@st.composite
def models(draw: st.DrawFn, hours: int, most: int) -> ScheduleModel:
    """Up to two buckets and two types, demand for up to ``most`` replicas, hours without any."""
    buckets, kinds = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    rate = st.one_of(st.just(0.0), st.floats(0.1, most * 0.6))
    demand = np.array([[draw(rate) for _ in range(buckets)] for _ in range(hours)])
    speed = np.array(
        [
            [draw(st.sampled_from([0.0, 0.7, 1.0, 2.5])) for _ in range(kinds)]
            for _ in range(buckets)
        ]
    )
    speed[:, 0] = np.maximum(speed[:, 0], 0.7)
    with np.errstate(divide="ignore", invalid="ignore"):
        load = demand[:, :, None] / speed[None]
    load[np.broadcast_to(speed[None] == 0, load.shape)] = np.inf
    load[demand == 0] = 0.0
    return ScheduleModel(
        load=load,
        cost=np.array([draw(st.floats(0.5, 4)) for _ in range(kinds)]),
        start_cost=np.array([draw(st.sampled_from([0.0, 0.3, 2.0, 9.0])) for _ in range(kinds)]),
        gpus=np.ones(kinds),
        lower=np.array([float(draw(st.integers(0, 1))) for _ in range(kinds)]),
        upper=np.full(kinds, np.inf),
        usable=draw(st.sampled_from([0.8, 1.0])),
        pools=draw(st.sampled_from([(), (PoolLimit((0,), 2 * most + 2),)])),
        budget=math.inf,
    )


def serves(model: ScheduleModel, hour: int, fleet: np.ndarray) -> bool:
    """Whether a fleet serves an hour, by the greedy rule that is exact for two types."""
    load, usable = model.load[hour], model.usable
    if len(fleet) == 1:
        return bool(load[:, 0].sum() <= usable * fleet[0] + 1e-7)
    # Send to type 1 first what type 0 does worst, for as long as there is room.
    room = [usable * fleet[0], usable * fleet[1]]
    for row in sorted(load.tolist(), key=lambda row: row[1] / row[0] if row[0] else 0.0):
        share = 0.0 if math.isinf(row[1]) else min(1.0, room[1] / row[1] if row[1] else 1.0)
        room[1] -= 0.0 if math.isinf(row[1]) else share * row[1]
        room[0] -= (1 - share) * row[0]
    return room[0] >= -1e-7


@given(models(hours=6, most=4))
@settings(max_examples=40)
def test_never_dearer_than_simpler_ways_and_every_hour_is_served(model: ScheduleModel) -> None:
    answer = found(model)
    assert answer.replicas is not None
    assert answer.hourly is not None
    assert answer.constant is not None
    cost = model.total_usd(answer.replicas)
    assert cost <= model.total_usd(answer.hourly) + 1e-6
    assert cost <= model.total_usd(np.tile(answer.constant, (model.hours, 1))) + 1e-6
    assert answer.bound_usd <= cost + 1e-9
    assert model.allows(answer.replicas)
    for fleets in (answer.replicas, answer.hourly, np.tile(answer.constant, (model.hours, 1))):
        for hour, fleet in enumerate(fleets):
            assert serves(model, hour, fleet)


@given(models(hours=3, most=2))
@settings(max_examples=25)
def test_none_of_all_schedules_is_cheaper(model: ScheduleModel) -> None:
    answer = found(model)
    assert answer.status == "optimal"
    assert answer.replicas is not None
    cost = model.total_usd(answer.replicas)
    most = int(answer.replicas.max()) + 1
    fleets = list(itertools.product(range(most + 1), repeat=len(model.cost)))
    assume(len(fleets) ** model.hours < 200_000)
    allowed = [
        [np.array(f, dtype=float) for f in fleets if serves(model, h, np.array(f, dtype=float))]
        for h in range(model.hours)
    ]
    for choice in itertools.product(*allowed):
        replicas = np.array(choice)
        if model.allows(replicas):
            assert model.total_usd(replicas) >= cost - 1e-6


@given(models(hours=2, most=4), st.lists(st.integers(0, 6), min_size=2, max_size=2))
def test_shortage_is_told_with_a_reason_that_holds(model: ScheduleModel, fleet: list[int]) -> None:
    replicas = np.array(fleet[: len(model.cost)], dtype=float)
    prices = Capacity(model.load[0], model.usable).shortage(replicas)
    assert (prices is None) == serves(model, 0, replicas)


def test_a_start_that_costs_more_than_the_gap_is_saved() -> None:
    """Two peaks an hour apart: whether the replica runs through depends on its start's cost."""
    load = np.array([0.5, 1.5, 0.5, 1.5, 0.5, 0.5, 0.5, 0.5])[:, None, None]

    def answer(start: float) -> list[float]:
        one = np.ones(1)
        model = ScheduleModel(load, one, one * start, one, one * 0, one * np.inf, 1.0, (), math.inf)
        replicas = found(model).replicas
        assert replicas is not None
        assert np.array_equal(kept_through(model, np.ceil(load[:, :, 0])), replicas)
        return list(replicas[:, 0])

    assert answer(0.5) == [1, 2, 1, 2, 1, 1, 1, 1]
    assert answer(1.5) == [1, 2, 2, 2, 1, 1, 1, 1]
    assert answer(9.0) == [2] * 8


def test_limits_that_leave_too_little() -> None:
    one = np.ones(1)
    model = ScheduleModel(
        np.full((24, 1, 1), 3.0), one, one, one, one * 0, one * 2, 1.0, (), math.inf
    )
    assert found(model).status == "infeasible"


@pytest.mark.parametrize("hours", [24, 168])
def test_a_real_size_is_close_to_proven_soon(hours: int) -> None:
    random = np.random.default_rng(5)
    wave = 1 + 0.8 * np.sin(np.arange(hours) / 24 * 2 * np.pi)
    demand = 4 * wave[:, None] * random.uniform(0.9, 1.1, (hours, 9))
    speed = random.uniform(0.5, 4, (9, 3))
    cost = speed.mean(axis=0) * random.uniform(0.6, 1.2, 3)
    model = ScheduleModel(
        demand[:, :, None] / speed[None], cost, cost / 12, np.ones(3), np.zeros(3),
        np.full(3, np.inf), 0.9, (), math.inf,
    )  # fmt: skip
    answer = solve(model, time.monotonic() + 120, 1e-2, lambda _: None)
    assert answer.status == "optimal"
    assert answer.constant is not None
    assert answer.replicas is not None
    assert model.total_usd(answer.replicas) < 0.8 * hours * float(answer.constant @ cost)
