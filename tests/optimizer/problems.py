"""Small problems, tables and configurations for the tests of the optimizer."""

from collections.abc import Sequence
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from optimizer.errors import OptimizerUsageError
from optimizer.limits import Limits, apply
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


@st.composite
def limited_problems(draw: st.DrawFn) -> Problem:
    """A problem under limits of every kind, often too tight, over replicas of 1 to 4 GPUs."""
    rates = draw(st.lists(st.floats(0.05, 10), min_size=1, max_size=3))
    names = [f"t{i}" for i in range(draw(st.integers(1, 3)))]
    throughput = st.one_of(st.just(0.0), st.floats(0.5, 30))
    types = tuple(
        GpuType(
            name,
            draw(st.floats(0.3, 9)),
            tuple(Service(draw(throughput)) for _ in rates),
            gpus_per_replica=draw(st.sampled_from([1, 2, 4])),
            accelerator=draw(st.sampled_from([None, "shared"])),
        )
        for name in names
    )
    pools = names + ["shared"] * any(kind.accelerator for kind in types)
    some = st.lists(st.sampled_from(names), unique=True, max_size=2)
    limits = Limits(
        headroom=draw(st.sampled_from([0.0, 0.2])),
        available={
            name: draw(st.integers(0, 8))
            for name in draw(st.lists(st.sampled_from(pools), unique=True, max_size=2))
        },
        minimum={name: draw(st.integers(0, 1)) for name in draw(some)},
        maximum={name: draw(st.integers(0, 4)) for name in draw(some)},
        budget_usd_per_hour=draw(st.one_of(st.none(), st.floats(1, 25))),
    )
    buckets = tuple(Bucket(f"b{i}", None, None, rate) for i, rate in enumerate(rates))
    try:
        return apply(Problem(buckets=buckets, types=types), limits)
    except OptimizerUsageError:
        assume(False)
        raise


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
