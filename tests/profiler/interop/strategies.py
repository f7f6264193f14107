"""Throughput tables for hypothesis."""

from hypothesis import strategies as st

from profiler.samples import Stats
from profiler.slo import Slo
from profiler.table import Cell, Provenance, ThroughputTable

sizes = st.lists(st.integers(1, 50_000), min_size=1, max_size=4, unique=True).map(sorted)
rates = st.floats(1e-3, 1e4).map(lambda rate: round(rate, 6))


@st.composite
def stats(draw: st.DrawFn) -> Stats:
    return Stats(*(round(draw(st.floats(0.1, 1e5)), 3) for _ in range(5)))


@st.composite
def cells(draw: st.DrawFn, size_in: int, size_out: int) -> Cell:
    latency = {name: draw(stats()) for name in ("e2e", "ttft", "tpot")}
    if draw(st.booleans()):
        return Cell(size_in, size_out, "measured", draw(rates), latency=dict(latency))
    return Cell(size_in, size_out, "infeasible", 0.0, latency=dict(latency))


@st.composite
def tables(draw: st.DrawFn) -> ThroughputTable:
    """Tables that AIBrix's profile can hold: one percentile, no cell without a measurement."""
    inputs, outputs = draw(sizes), draw(sizes)
    statistic = draw(st.sampled_from(["mean", "p50", "p90", "p99"]))
    metrics = draw(st.lists(st.sampled_from(["e2e", "ttft", "tpot"]), min_size=1, unique=True))
    limit = st.integers(1, 10_000).map(lambda ms: ms / 1000)
    return ThroughputTable(
        model="m",
        target=draw(st.sampled_from(["a10", "l20-deployment"])),
        accelerator="a10",
        gpus_per_replica=1,
        cost_usd_per_hour=draw(st.floats(0.01, 100)),
        slos=tuple(sorted(Slo(metric, statistic, draw(limit)) for metric in metrics)),
        input_tokens=tuple(inputs),
        output_tokens=tuple(outputs),
        cells=tuple(draw(cells(i, o)) for i in inputs for o in outputs),
        provenance=Provenance(source="measured", engine="vllm"),
    )
