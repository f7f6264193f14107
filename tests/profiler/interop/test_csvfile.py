import csv
import io
from dataclasses import replace

import pytest

from profiler.interop.csvfile import to_csv
from profiler.table import Cell, ThroughputTable


def test_one_line_per_cell_with_units_in_the_names(table: ThroughputTable) -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv([table, replace(table, target="l20")]))))
    assert len(lines) == 12
    first = lines[0]
    assert (first["target"], first["input_tokens"], first["output_tokens"]) == ("a10", "128", "32")
    assert float(first["max_request_rate"]) == 10
    assert float(first["usd_per_1000_requests"]) == pytest.approx(0.9 / 36000 * 1000, rel=1e-4)
    assert float(first["ttft_p99_ms"]) == pytest.approx(25.6)
    assert first["itl_mean_ms"] == ""


def test_infeasible_is_zero_and_not_measured_is_empty(table: ThroughputTable) -> None:
    partial = replace(table, cells=(Cell(128, 32), *table.cells[1:]))
    lines = list(csv.DictReader(io.StringIO(to_csv([partial]))))
    assert (lines[0]["status"], lines[0]["max_request_rate"]) == ("not_measured", "")
    assert (lines[-1]["status"], lines[-1]["max_request_rate"]) == ("infeasible", "0.0")
    assert lines[-1]["usd_per_1000_requests"] == ""
