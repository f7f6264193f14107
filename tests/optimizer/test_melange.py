"""Mélange's configurations, taken as they are."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from accelerators.errors import UsageError
from optimizer import melange
from optimizer.errors import OptimizerUsageError
from optimizer.limits import Limits, apply
from optimizer.planner import make_plan
from optimizer.solver import Solver
from optimizer.verify import verify
from tests.optimizer.problems import MELANGE


def test_its_example_costs_4_68_at_full_utilisation(solver: Solver) -> None:
    """Mélange itself answers $6.70, $5.69 or $4.68, as its slice factor has it."""
    problem = melange.parse(MELANGE, "example")
    plan = make_plan(problem, solver=solver)
    assert plan.replicas == {"A10G": 1, "A100-80GB": 1}
    assert (plan.cost_usd_per_hour, plan.gap) == (pytest.approx(4.68), pytest.approx(0, abs=1e-9))
    assert plan.lp_bound_usd_per_hour == pytest.approx(4.12875)
    assert plan.savings.best_single == "A100-80GB"
    assert verify(plan, problem) == []


def test_headroom_is_kept(solver: Solver) -> None:
    problem = apply(melange.parse(MELANGE, "example"), Limits(headroom=0.1))
    plan = make_plan(problem, solver=solver)
    assert max(plan.utilization.values()) <= 0.9 * (1 + 1e-6)
    assert verify(plan, problem) == []


def test_zero_throughput_is_a_forbidden_route(solver: Solver) -> None:
    config = copy.deepcopy(MELANGE)
    config["gpu_info"]["A100-80GB"]["tputs"][1][0] = 0  # type: ignore[index]
    plan = make_plan(melange.parse(config, "example"), solver=solver)
    assert {route.type for route in plan.routing if route.bucket == "1,0"} == {"A10G"}


def test_buckets_without_demand_are_left_out(solver: Solver) -> None:
    config = MELANGE | {"workload_distribution": [[0.5, 0], [0.5, 0]]}
    problem = melange.parse(config, "example")
    assert [bucket.name for bucket in problem.buckets] == ["0,0", "1,0"]


def test_a_file_is_recorded_with_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(json.dumps(MELANGE))
    recorded = melange.load(path, request_rate=5).inputs["problem"]
    assert recorded["digest"].startswith("sha256:")
    assert recorded["request_rate"] == 5


def test_shares_off_by_rounding_are_scaled_with_a_warning() -> None:
    config = MELANGE | {"workload_distribution": [[0.2, 0.1], [0.5, 0.1999]]}
    problem = melange.parse(config, "example")
    assert problem.request_rate == pytest.approx(30)
    assert "scaled to 1" in problem.warnings[0]


def _with(path: tuple[Any, ...], value: Any) -> Any:
    config: Any = copy.deepcopy(MELANGE)
    at = config
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return config


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ([], "not a JSON object"),
        ({"gpu_info": {}}, "lacks workload_distribution"),
        (_with(("workload_distribution", 0, 0), 0.5), "sums to 1.3; expected 1"),
        (_with(("workload_distribution", 0, 0), -0.2), "[0][0] is -0.2; expected 0 or more"),
        (_with(("total_request_rate",), 0), "total_request_rate 0; expected more than 0"),
        (_with(("total_request_rate",), True), "total_request_rate True"),
        (_with(("gpu_info", "A10G", "cost"), -1), "gpu_info.A10G.cost is -1"),
        (_with(("gpu_info", "A10G", "tputs", 0, 0), -3), "tputs[0][0] is -3"),
        (_with(("gpu_info", "A10G", "tputs", 0, 0), "x"), "tputs[0][0] is 'x'"),
        (_with(("gpu_info", "A10G", "tputs"), [[1, 2]]), "workload_distribution has [2, 2]"),
        (_with(("gpu_info", "A10G"), {"cost": 1}), "gpu_info.A10G lacks cost or tputs"),
        (_with(("gpu_info",), {}), "no GPU types"),
    ],
)
def test_senseless_configurations_are_refused(config: Any, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        melange.parse(config, "m.json")
    assert words in caught.value.message


def test_rates_beyond_any_fleet_are_refused_and_absurd_routes_forbidden(solver: Solver) -> None:
    slow: dict[str, Any] = {
        "gpu_info": {"a": {"cost": 1, "tputs": [[1e-300]]}},
        "workload_distribution": [[1]],
    }
    with pytest.raises(OptimizerUsageError, match="over 10,000,000 replicas"):
        melange.parse(slow | {"total_request_rate": 1}, "x")
    slow["gpu_info"]["b"] = {"cost": 2, "tputs": [[1]]}
    plan = make_plan(melange.parse(slow | {"total_request_rate": 3}, "x"), solver=solver)
    assert plan.replicas == {"a": 0, "b": 3}
