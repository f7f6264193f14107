"""Small problems, tables and configurations for the tests of the optimizer."""

from collections.abc import Sequence
from typing import Any

from optimizer.problem import Bucket, GpuType, Problem, Service
from profiler.samples import Stats
from profiler.slo import parse_slos
from profiler.table import Cell, Provenance, ThroughputTable

MELANGE = {
    "gpu_info": {
        "A10G": {"cost": 1.01, "tputs": [[2, 1], [5, 2]]},
        "A100-80GB": {"cost": 3.67, "tputs": [[20, 20], [40, 20]]},
    },
    "workload_distribution": [[0.2, 0.1], [0.5, 0.2]],
    "total_request_rate": 30,
    "slice_factor": 4,
}


def make_problem(
    rates: Sequence[float], types: dict[str, tuple[float, Sequence[float]]], **options: Any
) -> Problem:
    """Return a problem from demand per bucket, and cost and throughputs per type."""
    return Problem(
        buckets=tuple(Bucket(f"b{i}", None, None, rate) for i, rate in enumerate(rates)),
        types=tuple(
            GpuType(name, cost, tuple(Service(float(rate)) for rate in throughputs))
            for name, (cost, throughputs) in sorted(types.items())
        ),
        **options,
    )


def make_table(
    target: str,
    rates: Sequence[Sequence[float | None]],
    *,
    cost: float | None = 1.0,
    slos: Sequence[str] = ("ttft_p99<=2s",),
    inputs: Sequence[int] = (128, 512),
    outputs: Sequence[int] = (32, 128),
    source: str = "measured",
    lower_bound: bool = False,
) -> ThroughputTable:
    """Return a table; a rate of 0 is infeasible, None was not measured."""

    def cell(i: int, o: int) -> Cell:
        rate = rates[i][o]
        status: Any = {None: "not_measured", 0: "infeasible"}.get(
            rate, "client_limited" if lower_bound else "measured"
        )
        latency = {} if rate is None else {"ttft": Stats(900.0, 800.0, 1500.0, 1700.0, 2600.0)}
        limited = None if rate is None else "ttft_p99"
        return Cell(inputs[i], outputs[o], status, rate, None, latency, None, limited)

    return ThroughputTable(
        model="m",
        target=target,
        accelerator=target,
        gpus_per_replica=1,
        cost_usd_per_hour=cost,
        slos=parse_slos(slos),
        input_tokens=tuple(inputs),
        output_tokens=tuple(outputs),
        cells=tuple(cell(i, o) for i in range(len(inputs)) for o in range(len(outputs))),
        provenance=Provenance(source=source, engine="vllm"),  # type: ignore[arg-type]
    )
