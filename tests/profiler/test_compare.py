from dataclasses import replace

import pytest
from hypothesis import given

from profiler.compare import compare
from profiler.errors import ProfilerUsageError
from profiler.slo import parse_slos
from profiler.table import Cell, Provenance, ThroughputTable
from tests.profiler.interop import strategies


def table(target: str, rates: list[float | None], cost: float | None = 1.0) -> ThroughputTable:
    def cell(size: int, rate: float | None) -> Cell:
        status = "not_measured" if rate is None else "measured" if rate else "infeasible"
        return Cell(size, 32, status, rate)  # type: ignore[arg-type]

    sizes = [128 * 2**n for n in range(len(rates))]
    return ThroughputTable(
        model="m",
        target=target,
        accelerator=None,
        gpus_per_replica=1,
        cost_usd_per_hour=cost,
        slos=parse_slos(["ttft_p99<=1s"]),
        input_tokens=tuple(sizes),
        output_tokens=(32,),
        cells=tuple(cell(size, rate) for size, rate in zip(sizes, rates, strict=True)),
        provenance=Provenance(source="measured", engine="vllm", tolerance=0.05),
    )


def test_rates_and_costs_are_compared_cell_by_cell() -> None:
    found = compare(table("a10", [10.0, 4.0], 1.0), table("l20", [20.0, 5.0], 1.5))
    first, second = found.cells
    assert (first.ratio, first.faster, first.cheaper) == (2.0, "b", "b")
    assert (second.ratio, second.faster, second.cheaper) == (1.25, "b", "a")
    assert found.ratio == pytest.approx((2 * 1.25) ** 0.5, rel=1e-5)
    assert found.to_json()["cheaper_cells"] == {"a": 1, "b": 1}
    assert second.usd_per_1000_a == pytest.approx(1000 / 4 / 3600, rel=1e-4)


def test_rates_within_both_tolerances_are_the_same() -> None:
    (cell,) = compare(table("a", [10.0]), table("b", [10.8])).cells
    assert (cell.faster, cell.cheaper) == ("same", "same")


def test_what_only_one_can_serve_has_no_ratio() -> None:
    infeasible, unknown = compare(table("a", [0.0, None]), table("b", [3.0, 3.0])).cells
    assert (infeasible.ratio, infeasible.faster, infeasible.cheaper) == (None, "b", "b")
    assert (unknown.ratio, unknown.faster) == (None, None)


def test_a_lower_bound_is_not_called_slower() -> None:
    a, b = table("a", [10.0]), table("b", [20.0])
    bound = replace(a, cells=(replace(a.cells[0], status="client_limited"),))
    assert compare(bound, b).cells[0].faster is None
    assert compare(b, bound).cells[0].faster is None
    higher = replace(bound, cells=(replace(bound.cells[0], max_request_rate=40.0),))
    assert compare(higher, b).cells[0].faster == "a"


def test_tables_that_measure_different_things_are_refused() -> None:
    a = table("a", [10.0])
    for other, message in (
        (replace(a, slos=parse_slos(["ttft_p99<=2s"])), "ttft_p99<=1s against ttft_p99<=2s"),
        (table("b", [1.0, 2.0]), r"input_tokens: \[128\] against \[128, 256\]"),
        (replace(a, model="other"), "model: m against other"),
    ):
        with pytest.raises(ProfilerUsageError, match=message):
            compare(a, other)


def test_measured_against_simulated_is_told() -> None:
    a = table("a", [10.0])
    b = replace(a, target="b", provenance=replace(a.provenance, source="simulated"))
    assert "b is simulated" in compare(a, b).warnings[0]


@given(strategies.tables())
def test_a_table_equals_itself(one: ThroughputTable) -> None:
    found = compare(one, one)
    assert {cell.faster for cell in found.cells} <= {"same"}
    assert found.ratio in (None, 1.0)
