import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from accelerators.documents import dump_json
from accelerators.errors import ToolError, UsageError
from profiler import table as tables
from profiler.errors import ProfilerUsageError
from profiler.slo import parse_slos
from profiler.table import Cell, Provenance, ThroughputTable
from profiler.table_files import load_all, path_in, with_costs
from tests.profiler.interop import strategies

TABLE = ThroughputTable(
    model="m",
    target="a10",
    accelerator=None,
    gpus_per_replica=1,
    cost_usd_per_hour=0.9,
    slos=parse_slos(["ttft_p99<=2s"]),
    input_tokens=(128,),
    output_tokens=(32, 64),
    cells=(
        Cell(128, 32, "measured", 10.0, notes=("passed 1 of 2 probes",)),
        Cell(128, 64, "not_measured", None),
    ),
    provenance=Provenance(source="measured", engine="vllm"),
)


@given(strategies.tables())
def test_a_table_reads_back_as_it_was_written(table: ThroughputTable) -> None:
    assert tables.parse(json.loads(dump_json(table.to_json())), "t") == table


def test_notes_and_cells_without_a_rate_survive(tmp_path: Path) -> None:
    tables.save(TABLE, tmp_path / "t.json")
    assert tables.load(tmp_path / "t.json") == TABLE


def test_a_cell_is_found_by_its_bounds() -> None:
    assert TABLE.cell(128, 64).status == "not_measured"
    with pytest.raises(KeyError):
        TABLE.cell(128, 65)


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in TABLE.to_json().items() if key != name}


STATS = {"mean": 1.0, "p50": 1.0, "p90": 1.0, "p95": 1.0, "p99": 1.0}


def with_provenance(**changes: Any) -> dict[str, Any]:
    document = TABLE.to_json()
    document["provenance"] |= changes
    return document


def with_cell(**changes: Any) -> dict[str, Any]:
    document = TABLE.to_json()
    document["cells"][0] |= changes
    return document


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (without("model"), "lacks 'model'"),
        (without("provenance"), "lacks 'provenance'"),
        (TABLE.to_json() | {"cells": [1]}, "malformed"),
        (TABLE.to_json() | {"input_tokens": [0]}, "ascending"),
        (TABLE.to_json() | {"output_tokens": [64, 32]}, "ascending"),
        (TABLE.to_json() | {"cost_usd_per_hour": 0}, "cost_usd_per_hour"),
        (TABLE.to_json() | {"provenance": {"source": "guessed"}}, "provenance.source"),
        (with_cell(status="fine"), "status 'fine'"),
        (with_cell(max_request_rate=None), "measured with max_request_rate None"),
        (with_cell(max_request_rate=0), "measured with max_request_rate 0"),
        (with_cell(max_request_rate=-1), "expected 0 or more"),
        (with_cell(status="infeasible"), "infeasible with max_request_rate 10"),
        (with_cell(input_tokens=129), "not one per bucket"),
        (with_cell(max_request_rate="10"), "'10' is not a number"),
        (with_cell(max_request_rate=float("nan")), "nan is not a number"),
        (with_cell(probes=1.5), "1.5 is not a whole number"),
        (with_cell(latency={"ttft_ms": STATS | {"mean": float("nan")}}), "mean is nan"),
        (with_cell(latency={"ttft_ms": STATS | {"p99": -1}}), "p99 is -1"),
        (TABLE.to_json() | {"gpus_per_replica": 1.5}, "1.5 is not a whole number"),
        (TABLE.to_json() | {"accelerator": 7}, "7 is not text"),
        (with_provenance(tolerance="5%"), "'5%' is not a number"),
        (with_provenance(seed="x"), "'x' is not a whole number"),
    ],
)
def test_tables_that_contradict_themselves_are_refused(
    document: dict[str, Any], message: str
) -> None:
    with pytest.raises(ProfilerUsageError, match=message) as caught:
        tables.parse(document, "t.json")
    assert caught.value.target == "t.json"


def test_a_failed_write_leaves_the_old_table(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    tables.save(TABLE, path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="Out of range float"):
        tables.save(replace(TABLE, cost_usd_per_hour=float("nan")), path)
    assert path.read_bytes() == before
    with pytest.raises(ToolError):
        tables.save(TABLE, tmp_path / "missing" / "t.json")
    assert list(tmp_path.iterdir()) == [path]


def test_folders_give_their_tables_once_and_in_order(tmp_path: Path) -> None:
    for name in ("l20", "a10"):
        tables.save(replace(TABLE, target=name), path_in(tmp_path, name))
    (tmp_path / "notes.json").write_text("{}")
    found = load_all([tmp_path, path_in(tmp_path, "a10")])
    assert [table.target for table in found] == ["a10", "l20"]


def test_a_folder_without_tables_says_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no") as caught:
        load_all([tmp_path])
    assert "profile run" in caught.value.hint


def test_other_prices_go_to_the_table_they_name() -> None:
    tables_in = [TABLE, replace(TABLE, target="l20")]
    assert [t.cost_usd_per_hour for t in with_costs(tables_in, ["l20=2"])] == [0.9, 2.0]
    with pytest.raises(ProfilerUsageError, match="names 'l2'"):
        with_costs(tables_in, ["l2=2"])
