"""Small tables to read and write."""

import pytest

from profiler.samples import Stats
from profiler.slo import parse_slos
from profiler.table import Cell, Provenance, ThroughputTable


def fast(mean_ms: float) -> Stats:
    return Stats(mean_ms, mean_ms, mean_ms, mean_ms, mean_ms * 2)


@pytest.fixture
def table() -> ThroughputTable:
    def cell(i: int, o: int, rate: float) -> Cell:
        latency = {"e2e": fast(o * 20.0), "ttft": fast(i / 10), "tpot": fast(20.0)}
        return Cell(i, o, "measured" if rate else "infeasible", rate, latency=dict(latency))

    return ThroughputTable(
        model="m",
        target="a10",
        accelerator="a10",
        gpus_per_replica=1,
        cost_usd_per_hour=0.9,
        slos=parse_slos(["ttft_p99<=2s", "tpot_p99<=50ms"]),
        input_tokens=(128, 512, 2048),
        output_tokens=(32, 128),
        cells=(
            cell(128, 32, 10.0),
            cell(128, 128, 4.0),
            cell(512, 32, 5.0),
            cell(512, 128, 2.0),
            cell(2048, 32, 1.0),
            cell(2048, 128, 0.0),
        ),
        provenance=Provenance(source="measured", engine="vllm"),
    )
