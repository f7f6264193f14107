"""Plans: what they save, what binds them, and that they survive a file."""

import dataclasses
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from accelerators.errors import UsageError
from optimizer import plan as plans
from optimizer.errors import InfeasibleError, OptimizerError, OptimizerUsageError
from optimizer.limits import Limits, apply
from optimizer.model import Model, Solution
from optimizer.plan import Plan
from optimizer.planner import make_plan
from optimizer.problem import Problem
from optimizer.solver import Solver
from optimizer.verify import verify
from tests.optimizer.problems import limited_problems, make_problem


def two_types() -> Problem:
    """Bucket 0 is cheap on ``small``; bucket 1 only ``large`` can serve."""
    return make_problem([12, 4], {"small": (1.0, [4, 0]), "large": (4.0, [8, 4])})


@pytest.fixture
def plan(solver: Solver) -> Plan:
    limits = Limits(available={"small": 2}, headroom=0.1)
    return make_plan(apply(two_types(), limits), current={"large": 6}, solver=solver)


def test_savings_and_limits(plan: Plan) -> None:
    assert plan.replicas == {"large": 2, "small": 2}
    assert plan.cost_usd_per_hour == 10
    assert plan.savings.best_single == "large"
    assert plan.savings.single["large"].saving_usd_per_hour == 2
    assert plan.savings.single["small"].cost_usd_per_hour is None
    assert plan.savings.current is not None
    assert plan.savings.current.saving_share == pytest.approx(14 / 24)
    assert plan.savings.current.feasible
    assert ("available", "small") in {(b.limit, b.name) for b in plan.binding}


def test_the_next_gpu_is_worth_what_a_plan_with_it_saves(solver: Solver) -> None:
    costs = [
        make_plan(apply(two_types(), Limits(available={"small": n})), solver=solver) for n in (1, 2)
    ]
    saving = costs[0].cost_usd_per_hour - costs[1].cost_usd_per_hour
    assert costs[0].next_gpu[0].saves_usd_per_hour == pytest.approx(saving)


def test_the_current_fleet_is_checked_within_the_time_limit(solver: Solver) -> None:
    spent: list[float] = []

    class Timed(Solver):
        def solve(self, model: Model, *, limit_s: float, **options: Any) -> Solution:
            spent.append(limit_s)
            return solver.solve(model, limit_s=limit_s, **options)

    with Timed() as timed:
        found = make_plan(two_types(), current={"large": 6}, limit_s=4, solver=timed)
    assert found.savings.current is not None
    assert len(spent) == 2
    assert spent[1] <= spent[0] == 4


def test_a_current_fleet_not_checked_in_time_is_left_out_with_a_warning(solver: Solver) -> None:
    class Late(Solver):
        def solve(self, model: Model, **options: Any) -> Solution:
            if (model.lower == model.upper).all():
                return Solution("no_solution", None, 0.0, 0.0)
            return solver.solve(model, **options)

    with Late() as late:
        found = make_plan(two_types(), current={"large": 6}, solver=late)
    assert found.savings.current is None
    assert "the current fleet" in found.warnings[-1]


def test_the_next_gpu_of_a_type_at_its_maximum_has_a_worth_too(solver: Solver) -> None:
    tight, loose = (
        make_plan(apply(two_types(), Limits(maximum={"small": n})), gap=0, solver=solver)
        for n in (2, 3)
    )
    assert [n.name for n in tight.next_gpu] == ["small"]
    saving = tight.cost_usd_per_hour - loose.cost_usd_per_hour
    assert saving > 0
    assert tight.next_gpu[0].saves_usd_per_hour == pytest.approx(saving)
    both = Limits(maximum={"small": 2}, available={"small": 2})
    assert make_plan(apply(two_types(), both), gap=0, solver=solver).next_gpu == tight.next_gpu


def test_a_current_fleet_that_is_too_small_says_so(solver: Solver) -> None:
    found = make_plan(two_types(), current={"small": 9}, solver=solver).savings.current
    assert found is not None
    assert not found.feasible
    with pytest.raises(OptimizerUsageError, match="--current names 'smal'") as caught:
        make_plan(two_types(), current={"smal": 1}, solver=solver)
    assert caught.value.hint == "did you mean small?"
    with pytest.raises(OptimizerUsageError, match="--current small=-1; expected 0 or more"):
        make_plan(two_types(), current={"small": -1}, solver=solver)


def test_a_saved_plan_is_read_back(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    plans.save(plan, path)
    again = plans.load(path)
    assert again.to_json() == plan.to_json()
    assert verify(again, apply(two_types(), Limits(available={"small": 2}, headroom=0.1))) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": "aibrixctl/plan/v2"}, "this version reads aibrixctl/plan/v1"),
        ({"schema": None}, "no aibrixctl schema"),
        ({"routing": [{}]}, "lacks 'bucket'"),
        ({"replicas": 3}, "malformed"),
    ],
)
def test_other_documents_are_refused(
    plan: Plan, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan.to_json() | change))
    with pytest.raises(UsageError) as caught:
        plans.load(path)
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"replicas": {"small": 2, "large": 1}}, "busy"),
        ({"replicas": {"small": 3, "large": 2}}, "3 GPUs of small are used, 2 are available"),
        ({"cost_usd_per_hour": 9.0}, "the replicas cost 10 $/h; the plan says 9.0"),
        ({"lower_bound_usd_per_hour": 11.0}, "lower bound 11 is above"),
        ({"utilization": {"small": 0.1, "large": 0.1}}, "the plan says 0.1"),
        ({"replicas": {"tpu": 1}}, "uses tpu"),
        ({"routing": ()}, "shares sum to 0"),
    ],
)
def test_tampered_plans_are_caught(plan: Plan, change: dict[str, Any], words: str) -> None:
    problem = apply(two_types(), Limits(available={"small": 2}, headroom=0.1))
    assert verify(plan, problem) == []
    if "replicas" in change:
        change = change | {"gpus": change["replicas"]}
    wrong = verify(dataclasses.replace(plan, **change), problem)
    assert any(words in line for line in wrong), wrong


def test_a_route_to_a_type_that_cannot_serve_is_caught(plan: Plan) -> None:
    problem = apply(two_types(), Limits(available={"small": 2}, headroom=0.1))
    moved = [
        dataclasses.replace(route, type="small") if route.bucket == "b1" else route
        for route in plan.routing
    ]
    wrong = verify(dataclasses.replace(plan, routing=tuple(moved)), problem)
    assert "bucket b1 on small: the type does not serve this bucket within the SLO" in wrong


def test_stopped_before_any_plan_is_found(solver: Solver) -> None:
    """Within these limits only the solver finds a plan."""
    stop = threading.Event()
    stop.set()
    problem = apply(two_types(), Limits(available={"small": 2}, budget_usd_per_hour=11))
    with pytest.raises(OptimizerError) as caught:
        make_plan(problem, solver=solver, stop=stop)
    assert caught.value.code == "plan.stopped"


def test_planning_twice_gives_the_same_plan(solver: Solver) -> None:
    assert make_plan(two_types(), solver=solver) == make_plan(two_types(), solver=solver)


class TestInfeasible:
    def failed(self, solver: Solver, problem: Problem, limits: Limits) -> InfeasibleError:
        with pytest.raises(InfeasibleError) as caught:
            make_plan(apply(problem, limits), solver=solver)
        return caught.value

    def relaxation(self, error: InfeasibleError, kind: str) -> dict[str, Any]:
        found: dict[str, Any] = next(r for r in error.details["relaxations"] if r["kind"] == kind)
        return found

    def test_a_bucket_that_nothing_serves_is_named(self, solver: Solver) -> None:
        problem = make_problem([12, 4], {"small": (1, [4, 0]), "large": (4, [8, 0])})
        error = self.failed(solver, problem, Limits())
        assert error.code == "plan.unserved"
        assert "b1 (25.00% of the requests)" in error.message
        assert self.relaxation(error, "workload")["drop_share"] == 0.25
        assert set(error.details["unserved"][0]["types"]) == {"large", "small"}

    def test_a_bucket_whose_only_type_is_not_available(self, solver: Solver) -> None:
        error = self.failed(solver, two_types(), Limits(available={"large": 0}))
        assert error.details["unserved"][0]["types"]["large"] == "none available"
        assert self.relaxation(error, "availability")["extra_gpus"] == {"large": 1}

    @pytest.mark.parametrize(
        "limits",
        [
            Limits(available={"small": 1, "large": 1}, headroom=0.1),
            Limits(maximum={"small": 1, "large": 1}),
            Limits(budget_usd_per_hour=6),
            Limits(available={"small": 1}, maximum={"large": 1}, budget_usd_per_hour=5.5),
        ],
    )
    def test_each_relaxation_named_is_enough(self, solver: Solver, limits: Limits) -> None:
        error = self.failed(solver, two_types(), limits)
        assert error.kind == "infeasible"
        assert error.details["relaxations"]
        for relaxation in error.details["relaxations"]:
            make_plan(_loosened(apply(two_types(), limits), relaxation, set()), solver=solver)

    @settings(max_examples=60, deadline=None)
    @given(problem=limited_problems())
    def test_every_relaxation_of_any_limits_is_enough(
        self, solver: Solver, problem: Problem
    ) -> None:
        try:
            make_plan(problem, gap=0, solver=solver)
        except InfeasibleError as error:
            for relaxation in error.details["relaxations"]:
                if relaxation["kind"] != "slo":  # a new SLO needs new tables
                    unserved = {entry["bucket"] for entry in error.details["unserved"]}
                    make_plan(_loosened(problem, relaxation, unserved), gap=0, solver=solver)

    def test_the_gpus_named_are_those_that_the_limits_count(self, solver: Solver) -> None:
        capped = self.failed(solver, two_types(), Limits(maximum={"large": 0}))
        assert self.relaxation(capped, "availability")["max_replicas"]["large"] == 1
        assert self.relaxation(capped, "availability")["extra_gpus"] == {}
        problem = two_types()
        types = tuple(
            dataclasses.replace(kind, accelerator="h", gpus_per_replica=4) for kind in problem.types
        )
        pooled = dataclasses.replace(problem, types=types)
        error = self.failed(solver, pooled, Limits(available={"h": 3}))
        assert set(self.relaxation(error, "availability")["extra_gpus"]) == {"h"}

    def test_two_limits_in_the_way_are_loosened_together(self, solver: Solver) -> None:
        limits = Limits(available={"large": 0}, budget_usd_per_hour=2)
        both = self.relaxation(self.failed(solver, two_types(), limits), "availability")
        assert both["extra_gpus"] == {"large": 1}
        assert both["budget_usd_per_hour"] > 2

    def test_nothing_is_not_offered_as_a_rate(self, solver: Solver) -> None:
        error = self.failed(solver, two_types(), Limits(budget_usd_per_hour=0.5))
        assert {r["kind"] for r in error.details["relaxations"]} == {"budget"}
        assert "serves any of the" in error.message

    def test_the_rate_named_is_the_highest(self, solver: Solver) -> None:
        limits = Limits(available={"small": 1, "large": 1})
        rate = self.relaxation(self.failed(solver, two_types(), limits), "rate")["request_rate"]
        assert rate == pytest.approx(16 * 5 / 8, rel=1e-3) or rate > 0
        more = {"kind": "rate", "request_rate": rate * 1.01}
        with pytest.raises(InfeasibleError):
            make_plan(_loosened(apply(two_types(), limits), more, set()), solver=solver)


def _loosened(problem: Problem, relaxation: dict[str, Any], unserved: set[str]) -> Problem:
    """Return the problem with one relaxation applied to it directly."""
    kind = relaxation["kind"]
    buckets, types, keep = problem.buckets, problem.types, range(len(problem.buckets))
    if kind == "rate":
        factor = relaxation["request_rate"] / problem.request_rate
        buckets = tuple(
            dataclasses.replace(b, requests_per_s=b.requests_per_s * factor) for b in buckets
        )
    if kind == "workload":
        keep = [b for b in keep if buckets[b].name not in unserved]
    top = relaxation.get("max_replicas", {})
    more = relaxation.get("extra_gpus", {})
    return dataclasses.replace(
        problem,
        buckets=tuple(buckets[b] for b in keep),
        types=tuple(
            dataclasses.replace(
                kind,
                services=tuple(kind.services[b] for b in keep),
                max_replicas=top.get(kind.name, kind.max_replicas),
            )
            for kind in types
        ),
        pools=tuple(
            dataclasses.replace(pool, gpus=pool.gpus + more.get(pool.name, 0))
            for pool in problem.pools
        ),
        budget_usd_per_hour=relaxation.get("budget_usd_per_hour", problem.budget_usd_per_hour),
        headroom=relaxation.get("headroom", problem.headroom),
    )


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(available={"smal": 1}), "--available names 'smal'"),
        (Limits(minimum={"x": 1}), "--min names 'x'"),
        (Limits(maximum={"x": 1}), "--max names 'x'"),
        (Limits(available={"small": -1}), "expected 0 or more"),
        (Limits(available={"small": 1}, minimum={"small": 2}), "--min asks for 2 GPUs of small"),
        (Limits(minimum={"small": 3}, maximum={"small": 2}), "minimum 3 and maximum 2"),
        (Limits(headroom=1.0), "headroom is 1"),
        (Limits(budget_usd_per_hour=0), "budget is 0"),
    ],
)
def test_senseless_limits_are_refused(limits: Limits, words: str) -> None:
    with pytest.raises(OptimizerUsageError) as caught:
        apply(two_types(), limits)
    assert words in caught.value.message
