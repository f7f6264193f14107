"""Mélange's ``gpu_info``: one entry per type, rows of input sizes, columns of output sizes."""

from collections.abc import Sequence

from profiler.errors import ProfilerUsageError
from profiler.interop.aibrix import Exported
from profiler.interop.checks import refuse_missing
from profiler.table import ThroughputTable


def to_gpu_info(tables: Sequence[ThroughputTable], *, allow_missing: bool = False) -> Exported:
    """Return ``{"gpu_info": {name: {cost, tputs}}}`` for tables over the same buckets.

    The workload's part of a Mélange config (``workload_distribution``, ``total_request_rate``,
    ``slice_factor``) is left to whoever knows the workload.

    Raises:
        ProfilerUsageError: buckets differ, a name occurs twice, a cost is missing, or cells were
            not measured and ``allow_missing`` is False.
    """
    first = tables[0]
    info: dict[str, dict[str, object]] = {}
    warnings: list[str] = []
    for table in tables:
        axes = (table.input_tokens, table.output_tokens)
        if axes != (first.input_tokens, first.output_tokens):
            raise ProfilerUsageError(
                "export.buckets", f"{table.target} and {first.target} have different buckets"
            )
        if table.target in info:
            raise ProfilerUsageError("export.twice", f"two tables are named {table.target!r}")
        if table.cost_usd_per_hour is None:
            raise ProfilerUsageError(
                "export.cost",
                f"{table.target} has no cost, and Mélange needs one",
                hint="give it with --cost, US dollars per hour and replica",
                target=table.target,
            )
        warnings += refuse_missing(table, "Mélange", allow_missing)
        rates = [
            [round(table.cell(i, o).max_request_rate or 0.0, 6) for o in table.output_tokens]
            for i in table.input_tokens
        ]
        if any(rate == 0 for row in rates for rate in row):
            warnings.append(
                f"{table.target} has cells of throughput 0, by which Mélange divides; "
                "`aibrixctl optimize plan --problem` reads them as forbidden"
            )
        info[table.target] = {"cost": table.cost_usd_per_hour, "tputs": rates}
    return Exported({"gpu_info": info}, tuple(warnings))
