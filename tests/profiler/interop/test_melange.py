from dataclasses import replace

import pytest

from profiler.errors import ProfilerUsageError
from profiler.interop.melange import to_gpu_info
from profiler.table import Cell, ThroughputTable


def test_rows_are_input_sizes(table: ThroughputTable) -> None:
    exported = to_gpu_info([table, replace(table, target="l20", cost_usd_per_hour=1.5)])
    info = exported.document["gpu_info"]
    assert info["a10"] == {"cost": 0.9, "tputs": [[10.0, 4.0], [5.0, 2.0], [1.0, 0.0]]}
    assert info["l20"]["cost"] == 1.5
    assert "Mélange divides" in exported.warnings[0]


def test_tables_that_do_not_belong_together_are_refused(table: ThroughputTable) -> None:
    small = replace(
        table, target="l20", output_tokens=(32,), cells=tuple(table.cells[i] for i in (0, 2, 4))
    )
    with pytest.raises(ProfilerUsageError, match="different buckets"):
        to_gpu_info([table, small])
    with pytest.raises(ProfilerUsageError, match="two tables"):
        to_gpu_info([table, table])
    with pytest.raises(ProfilerUsageError, match="no cost"):
        to_gpu_info([replace(table, cost_usd_per_hour=None)])
    with pytest.raises(ProfilerUsageError, match="not measured"):
        to_gpu_info([replace(table, cells=(*table.cells[:-1], Cell(2048, 128)))])
