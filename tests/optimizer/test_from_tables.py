"""Problems from throughput tables: what belongs together, what is refused, what is said."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from accelerators.errors import UsageError
from optimizer.errors import InfeasibleError, OptimizerUsageError
from optimizer.from_tables import build, load_tables
from optimizer.planner import make_plan
from optimizer.solver import Solver
from optimizer.verify import verify
from optimizer.workload import Workload
from profiler.slo import parse_slos
from tests.optimizer.problems import make_table

FAST = [[10.0, 8.0], [6.0, 4.0]]
SLOW = [[4.0, 3.0], [1.0, 0]]


def workload(rate: float = 20.0) -> Workload:
    return Workload(
        source="w",
        format="synthetic",
        digest=None,
        input_tokens=np.array([100, 300, 500]),
        output_tokens=np.array([20, 100, 128]),
        count=np.array([5.0, 3.0, 2.0]),
        request_rate=rate,
    )


def test_a_plan_from_tables_end_to_end(tables_in: Callable[..., Path], solver: Solver) -> None:
    folder = tables_in(
        make_table("slow", SLOW, cost=0.4, source="simulated"), make_table("fast", FAST, cost=1.5)
    )
    problem = build(load_tables([folder]), workload())
    assert [bucket.name for bucket in problem.buckets] == ["128x32", "512x128"]
    assert [bucket.requests_per_s for bucket in problem.buckets] == pytest.approx([10, 10])
    plan = make_plan(problem, solver=solver)
    assert verify(plan, problem) == []
    assert {route.type for route in plan.routing if route.bucket == "512x128"} == {"fast"}
    assert plan.routing[0].latency["ttft_ms"]["p99"] == 2600
    assert plan.provenance == "mixed"
    assert "simulated, not measured: slow" in plan.warnings
    assert [entry["digest"][:7] for entry in plan.inputs["tables"]] == ["sha256:"] * 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"slos": ["ttft_p99<=1s"]}, "ttft_p99: ttft_p99<=2s against ttft_p99<=1s"),
        ({"slos": ["ttft_p99<=2s", "tpot_p99<=50ms"]}, "tpot_p99: not set against tpot_p99<=50ms"),
        ({"inputs": (128, 1024)}, "input_tokens: 128,512 against 128,1024"),
    ],
)
def test_tables_that_differ_are_refused_with_what_differs(
    tables_in: Callable[..., Path], options: dict[str, tuple[int, ...]], words: str
) -> None:
    folder = tables_in(make_table("a", FAST), make_table("b", FAST, **options))  # type: ignore[arg-type]
    with pytest.raises(OptimizerUsageError) as caught:
        build(load_tables([folder]), workload())
    assert words in caught.value.message


def test_an_slo_other_than_the_tables_is_refused(tables_in: Callable[..., Path]) -> None:
    sources = load_tables([tables_in(make_table("a", FAST))])
    build(sources, workload(), expected_slos=parse_slos(["ttft_p99<=2s"]))
    with pytest.raises(OptimizerUsageError, match=r"ttft_p99<=3s against ttft_p99<=2s"):
        build(sources, workload(), expected_slos=parse_slos(["ttft_p99<=3s"]))


def test_a_missing_cost_is_asked_for(tables_in: Callable[..., Path]) -> None:
    sources = load_tables([tables_in(make_table("a", FAST, cost=None))])
    with pytest.raises(OptimizerUsageError) as caught:
        build(sources, workload())
    assert "--cost a=" in caught.value.hint
    assert build(sources, workload(), costs={"a": 2.5}).types[0].cost_usd_per_hour == 2.5
    with pytest.raises(OptimizerUsageError, match="known are a"):
        build(sources, workload(), costs={"b": 1})


def test_cells_not_measured_are_forbidden_and_told(
    tables_in: Callable[..., Path], solver: Solver
) -> None:
    folder = tables_in(
        make_table("a", [[9, 9], [9, None]], cost=0.1), make_table("b", FAST, lower_bound=True)
    )
    problem = build(load_tables([folder]), workload())
    plan = make_plan(problem, solver=solver)
    assert {route.type for route in plan.routing if route.bucket == "512x128"} == {"b"}
    assert any("a, 1 buckets (512x128): not measured" in w for w in plan.warnings)
    assert any("b, 2 buckets" in w and "lower bound" in w for w in plan.warnings)


def test_requests_beyond_the_table(tables_in: Callable[..., Path]) -> None:
    sources = load_tables([tables_in(make_table("a", [[9, 9], [9, 9]], inputs=(64, 250)))])
    with pytest.raises(OptimizerUsageError, match="5 requests"):
        build(sources, workload())
    dropped = build(sources, workload(), out_of_range="drop")
    assert dropped.request_rate == pytest.approx(10)
    assert "50.00% of requests lie beyond the tables: dropped" in dropped.warnings
    assert dropped.inputs["out_of_range"]["largest_input_tokens"] == 500
    stretched = build(sources, workload(), out_of_range="extrapolate")
    assert stretched.request_rate == pytest.approx(20)
    assert stretched.buckets[-1].work == pytest.approx((3 * 300 / 250 + 2 * 500 / 250) / 5)


def test_folders_without_tables_and_doubled_targets_are_refused(
    tmp_path: Path, tables_in: Callable[..., Path]
) -> None:
    with pytest.raises(UsageError, match=r"holds no \*\.table\.json"):
        load_tables([tmp_path])
    folder = tables_in(make_table("a", FAST))
    again = tmp_path / "other.json"
    again.write_bytes((folder / "a.table.json").read_bytes())
    assert len(load_tables([folder, folder / "a.table.json"])) == 1
    with pytest.raises(OptimizerUsageError, match="both of target 'a'"):
        load_tables([folder, again])


def test_the_slo_that_would_do_is_named(tables_in: Callable[..., Path], solver: Solver) -> None:
    """The table saw 2.6 s at one request at a time, against a limit of 2 s."""
    problem = build(load_tables([tables_in(make_table("slow", SLOW))]), workload())
    with pytest.raises(InfeasibleError) as caught:
        make_plan(problem, solver=solver)
    relaxation = next(r for r in caught.value.details["relaxations"] if r["kind"] == "slo")
    assert relaxation["buckets"] == ["512x128"]
    assert relaxation["limits_ms"] == {"ttft_p99": 2600}
    assert "ttft_p99<=2.6s" in caught.value.hint
