import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from accelerators.documents import dump_json
from profiler import table as tables
from profiler.errors import ProfilerUsageError
from profiler.interop.aibrix import from_profile, to_profile
from profiler.slo import Slo, parse_slos
from profiler.table import Cell, Provenance, ThroughputTable
from tests.profiler.interop import strategies

NOW = "2026-01-01T00:00:00Z"


def read_as_aibrix_does(text: str, deployments: set[str]) -> dict[tuple[int, int], float]:
    """Apply the rules of AIBrix's loaders; return (input, output) to requests/s."""
    profile = json.loads(text)
    assert profile["gpu"].rpartition("/")[2] in deployments
    assert isinstance(profile["cost"], float)
    assert isinstance(profile["created"], float)
    outputs, inputs = profile["indexes"]
    for ticks in (outputs, inputs):
        assert all(isinstance(tick, int) for tick in ticks)
        assert ticks == sorted(set(ticks))
    for name in ("tputs", "e2e", "ttft", "tpot"):
        if name in profile:
            assert [len(row) for row in profile[name]] == [len(inputs)] * len(outputs)
            assert all(isinstance(v, float) and v >= 0 for row in profile[name] for v in row)
    assert profile["slos"]["percentile"] in (0, 50, 90, 99)
    assert profile["slos"].keys() & {"tpot", "ttft", "tpat", "e2e"}
    if "ttft" in profile["slos"]:
        assert "ttft" in profile
    return {
        (size_in, size_out): profile["tputs"][row][column]
        for row, size_out in enumerate(outputs)
        for column, size_in in enumerate(inputs)
    }


@given(strategies.tables())
def test_what_we_write_aibrix_reads(table: ThroughputTable) -> None:
    text = dump_json(to_profile(table, created=NOW).document)
    assert read_as_aibrix_does(text, {table.target}) == {
        (cell.input_tokens, cell.output_tokens): cell.max_request_rate for cell in table.cells
    }


@given(strategies.tables())
def test_a_round_trip_keeps_all_that_the_format_holds(table: ThroughputTable) -> None:
    document = json.loads(dump_json(to_profile(table, created=NOW).document))
    back = from_profile(document, "a.json", model="m", accelerator="a10").table
    for name in ("model", "target", "accelerator", "slos", "input_tokens", "output_tokens"):
        assert getattr(back, name) == getattr(table, name)
    assert back.cost_usd_per_hour == table.cost_usd_per_hour
    assert back.provenance == Provenance(
        source="imported", engine="unknown", where="a.json", created=NOW
    )
    for ours, theirs in zip(table.cells, back.cells, strict=True):
        assert (theirs.status, theirs.max_request_rate) == (ours.status, ours.max_request_rate)
        for metric in ("e2e", *(("ttft",) if any(s.metric == "ttft" for s in table.slos) else ())):
            mean, again = ours.latency[metric], theirs.latency[metric]
            assert mean is not None
            assert again is not None
            assert again.mean == pytest.approx(mean.mean, abs=1e-3)
    again_text = dump_json(to_profile(back, created=NOW).document)
    assert again_text == dump_json(document)


@given(strategies.tables())
def test_an_imported_table_survives_our_own_format(table: ThroughputTable) -> None:
    document = to_profile(table, created=NOW).document
    imported = from_profile(document, "a.json", model="m").table
    stored = json.loads(dump_json(imported.to_json()))
    assert tables.parse(stored, "a.table.json").to_json() == imported.to_json()


def test_a_later_export_is_newer(table: ThroughputTable) -> None:
    first = to_profile(table, created=NOW).document
    later = to_profile(table, created="2026-01-01T00:00:01Z").document
    assert later["created"] > first["created"] == 1767225600.0


def test_rows_are_output_sizes(table: ThroughputTable) -> None:
    document = to_profile(table, created=NOW, deployment="default/a10-vllm").document
    assert document["indexes"] == [[32, 128], [128, 512, 2048]]
    assert document["tputs"] == [[10.0, 5.0, 1.0], [4.0, 2.0, 0.0]]
    assert document["slos"] == {"percentile": 99, "tpot": 0.05, "ttft": 2.0}
    assert document["gpu"] == "default/a10-vllm"


def test_a_lower_percentile_is_claimed_where_objectives_differ(table: ThroughputTable) -> None:
    mixed = replace(table, slos=parse_slos(["ttft_p99<=2s", "tpot_p50<=50ms", "e2e_mean<=9s"]))
    exported = to_profile(mixed, created=NOW)
    assert exported.document["slos"] == {"percentile": 50, "tpot": 0.05, "ttft": 2.0}
    assert any("ttft_p99" in line and "percentile 50" in line for line in exported.warnings)
    assert any("no place for e2e_mean" in line for line in exported.warnings)


def test_a_p95_becomes_the_p90_that_it_implies(table: ThroughputTable) -> None:
    exported = to_profile(replace(table, slos=parse_slos(["e2e_p95<=5s"])), created=NOW)
    assert exported.document["slos"] == {"percentile": 90, "e2e": 5.0}
    assert any("e2e_p95" in line for line in exported.warnings)


def test_objectives_that_aibrix_has_not_are_refused(table: ThroughputTable) -> None:
    with pytest.raises(ProfilerUsageError, match="itl_p99"):
        to_profile(replace(table, slos=(Slo("itl", "p99", 0.05),)), created=NOW)


def test_cells_not_measured_are_refused_or_written_as_zero(table: ThroughputTable) -> None:
    partial = replace(table, cells=(*table.cells[:-1], Cell(2048, 128)))
    with pytest.raises(ProfilerUsageError, match="2048x128") as caught:
        to_profile(partial, created=NOW)
    assert "--allow-missing" in caught.value.hint
    exported = to_profile(partial, created=NOW, allow_missing=True)
    assert exported.document["tputs"][1][2] == 0
    assert any("2048x128" in line for line in exported.warnings)


def test_a_table_without_a_cost_is_refused(table: ThroughputTable) -> None:
    with pytest.raises(ProfilerUsageError, match="no cost"):
        to_profile(replace(table, cost_usd_per_hour=None), created=NOW)


def test_lower_bounds_and_simulation_are_told(table: ThroughputTable) -> None:
    limited = replace(table.cells[0], status="client_limited")
    told = to_profile(
        replace(
            table,
            cells=(limited, *table.cells[1:]),
            provenance=replace(table.provenance, source="simulated"),
        ),
        created=NOW,
    ).warnings
    assert any("lower bounds" in line for line in told)
    assert any("simulated" in line for line in told)


def test_objectives_beyond_ours_are_told_on_import(table: ThroughputTable) -> None:
    document = to_profile(table, created=NOW).document
    document["slos"]["tput"] = 3.0
    imported = from_profile(document, "a.json", model="m")
    assert any("tput" in line for line in imported.warnings)


def with_value(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document.update({name: value})


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda document: document.pop("tputs"), "lacks"),
        (with_value("indexes", [[32, 128]]), "indexes"),
        (with_value("indexes", [[128, 32], [128, 512, 2048]]), "ascending"),
        (with_value("indexes", [[0, 32], [128, 512, 2048]]), "indexes"),
        (with_value("indexes", [[32, 128], [128, 512, math.nan]]), "indexes"),
        (with_value("indexes", [[32, 128], [128, 512, math.inf]]), "indexes"),
        (with_value("slos", {"percentile": [99], "e2e": 1}), "percentile"),
        (with_value("tputs", [[1, 2, 3]]), "1 rows of"),
        (with_value("tputs", [[1, 2], [3, 4], [5, 6]]), "expected 2 rows"),
        (with_value("tputs", [[1, 2, -3], [1, 2, 3]]), "-3 in tputs"),
        (with_value("tputs", [[1, 2, math.nan], [1, 2, 3]]), "nan in tputs"),
        (with_value("tputs", [[1, 2, "3"], [1, 2, 3]]), "'3' in tputs"),
        (with_value("e2e", [[1.0]]), "e2e"),
        (with_value("cost", -1), "cost -1"),
        (with_value("slos", {"percentile": 95, "e2e": 1}), "percentile"),
        (with_value("slos", {"percentile": 99, "e2e": "1s"}), "slos.e2e"),
    ],
)
def test_malformed_profiles_are_refused_with_what_is_wrong(
    break_it: Callable[[dict[str, Any]], object], message: str, table: ThroughputTable
) -> None:
    document = to_profile(table, created=NOW).document
    break_it(document)
    with pytest.raises(ProfilerUsageError, match=message):
        from_profile(document, "a.json", model="m")
