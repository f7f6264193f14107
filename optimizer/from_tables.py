"""Make a problem from throughput tables and a workload."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from optimizer.errors import OptimizerUsageError
from optimizer.problem import Bucket, GpuType, Problem, Service, check, check_names
from profiler import slo as slos
from profiler import table as tables
from profiler.slo import Slo
from profiler.table import Cell, ThroughputTable
from profiler.table_files import files_of

if TYPE_CHECKING:
    from optimizer.workload import Demand, OutOfRange, Workload


@dataclass(frozen=True)
class Source:
    """A throughput table and where it came from.

    Attributes:
        table: the table.
        path: of the file, or the key in Redis.
        digest: of what was read there.
        warnings: what a reader must know.
        deployment: ``[NAMESPACE/]NAME`` of what was measured; None where that isn't known.
    """

    table: ThroughputTable
    path: str
    digest: str
    warnings: tuple[str, ...] = ()
    deployment: str | None = None


def load_tables(paths: Iterable[str | os.PathLike[str]]) -> tuple[Source, ...]:
    """Read tables from files, and from folders of ``*.table.json``, in order of target.

    Raises:
        UsageError: unreadable, another document or another version.
        OptimizerUsageError: a folder without tables, or two tables of one target.
    """
    return one_per_target([_from_file(file) for file in files_of(paths)])


def _from_file(file: str | os.PathLike[str]) -> Source:
    from optimizer.workload.collect import digest
    from profiler.in_cluster.place import deployment_of

    table = tables.load(file)
    deployment = deployment_of(table.provenance.where)
    return Source(table, str(file), digest(file), deployment=deployment)


def one_per_target(found: Iterable[Source]) -> tuple[Source, ...]:
    """Return sources in order of target; raises OptimizerUsageError where two are of one."""
    by_target: dict[str, Source] = {}
    for source in found:
        other = by_target.setdefault(source.table.target, source)
        if other is not source:
            raise OptimizerUsageError(
                "tables.duplicate",
                f"{other.path} and {source.path} are both of target {source.table.target!r}",
                hint="give one table per target",
                target=source.path,
            )
    return tuple(by_target[name] for name in sorted(by_target))


def build(
    sources: Sequence[Source],
    workload: "Workload",
    *,
    out_of_range: "OutOfRange" = "refuse",
    request_rate: float | None = None,
    costs: Mapping[str, float] | None = None,
    expected_slos: Sequence[Slo] = (),
) -> Problem:
    """Return the problem of serving a workload on the types that the tables describe.

    Args:
        sources: tables of one model, one SLO and one set of buckets.
        workload: what is asked for.
        out_of_range: what to do with requests beyond the largest bucket.
        request_rate: requests/s in place of the workload's own.
        costs: $/h of one replica by target, in place of the tables'.
        expected_slos: refuse tables that were measured under others; empty takes theirs.

    Raises:
        OptimizerUsageError: tables that do not belong together (says what differs), a cost that
            is missing, or requests beyond the table that are to be refused.
    """
    if not sources:
        raise OptimizerUsageError("tables.none", "no throughput tables were given")
    _check_alike(sources, expected_slos)
    given = dict(costs or {})
    check_names("--cost", given, [source.table.target for source in sources])
    first = sources[0].table
    demand = workload.bucketize(
        first.input_tokens,
        first.output_tokens,
        out_of_range=out_of_range,
        request_rate=request_rate,
    )
    cells = [
        (i, o, tokens_in, tokens_out)
        for i, tokens_in in enumerate(first.input_tokens)
        for o, tokens_out in enumerate(first.output_tokens)
        if demand.requests_per_s[i, o] > 0
    ]
    buckets = tuple(
        Bucket(
            f"{tokens_in}x{tokens_out}",
            tokens_in,
            tokens_out,
            float(demand.requests_per_s[i, o]),
            float(demand.work[i, o]),
        )
        for i, o, tokens_in, tokens_out in cells
    )
    types = tuple(_type(source, buckets, given) for source in sources)
    problem = Problem(
        buckets=buckets,
        types=types,
        model=first.model,
        slos=first.slos,
        inputs=_inputs(sources, workload, demand, buckets),
    )
    warnings = [line for source in sources for line in source.warnings]
    return check(replace(problem, warnings=(*warnings, *_warnings(problem, demand, workload))))


def _check_alike(sources: Sequence[Source], expected: Sequence[Slo]) -> None:
    first = sources[0]
    for source in sources:
        ours, theirs = first.table, source.table
        pairs = [
            (name, getattr(ours, name), getattr(theirs, name))
            for name in ("model", "input_tokens", "output_tokens")
        ]
        found = [
            f"{name}: {_shown(a)} against {_shown(b)}" for name, a, b in pairs if a != b
        ] + slos.differences(ours.slos, theirs.slos)
        if found:
            raise OptimizerUsageError(
                "tables.differ",
                f"{first.path} and {source.path} differ in {'; '.join(found)}",
                hint="profile the targets again with the same model, buckets and --slo",
                target=source.path,
            )
    found = slos.differences(expected, first.table.slos) if expected else []
    if found:
        raise OptimizerUsageError(
            "tables.slo",
            f"--slo is not what the tables were measured under: {'; '.join(found)}",
            hint="profile again with this --slo, or leave it out",
            target=first.path,
        )


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _type(source: Source, buckets: Sequence[Bucket], costs: Mapping[str, float]) -> GpuType:
    table = source.table
    cost = costs.get(table.target, table.cost_usd_per_hour)
    if cost is None:
        raise OptimizerUsageError(
            "problem.no_cost",
            f"{source.path} gives no cost for {table.target}",
            hint=f"add --cost {table.target}=DOLLARS_PER_HOUR",
            target=table.target,
        )
    cells = (table.cell(b.input_tokens or 0, b.output_tokens or 0) for b in buckets)
    return GpuType(
        name=table.target,
        cost_usd_per_hour=cost,
        services=tuple(_service(cell) for cell in cells),
        gpus_per_replica=table.gpus_per_replica,
        accelerator=table.accelerator,
        source=table.provenance.source,
    )


def _service(cell: Cell) -> Service:
    latency = {f"{name}_ms": stats.to_json() for name, stats in cell.latency.items() if stats}
    return Service(cell.max_request_rate or 0.0, cell.status, latency, cell.limited_by)


def _inputs(
    sources: Sequence[Source], workload: "Workload", demand: "Demand", buckets: Sequence[Bucket]
) -> dict[str, Any]:
    return {
        "tables": [
            {
                "target": source.table.target,
                "path": source.path,
                "digest": source.digest,
                "source": source.table.provenance.source,
                "engine": source.table.provenance.engine,
                "created": source.table.provenance.created,
            }
            | ({"deployment": source.deployment} if source.deployment else {})
            for source in sources
        ],
        "workload": {
            "path": workload.source,
            "format": workload.format,
            "digest": workload.digest,
            "request_rate": round(sum(bucket.requests_per_s for bucket in buckets), 6),
        },
        "out_of_range": {
            "handling": demand.out_of_range,
            "share": round(demand.outside_share, 6),
            "largest_input_tokens": demand.largest_input_tokens,
            "largest_output_tokens": demand.largest_output_tokens,
        },
    }


def _warnings(problem: Problem, demand: "Demand", workload: "Workload") -> tuple[str, ...]:
    warnings = list(workload.notes)
    simulated = [kind.name for kind in problem.types if kind.source == "simulated"]
    if simulated:
        warnings.append(f"simulated, not measured: {', '.join(simulated)}")
    if demand.outside_share and demand.out_of_range != "refuse":
        done = "extrapolated" if demand.out_of_range == "extrapolate" else "dropped"
        warnings.append(f"{demand.outside_share:.2%} of requests lie beyond the tables: {done}")
    texts = {
        "not_measured": "not measured, so not used",
        "client_limited": "a lower bound, the load generator was the bottleneck",
    }
    for status, text in texts.items():
        for kind in problem.types:
            names = [
                bucket.name
                for bucket, service in zip(problem.buckets, kind.services, strict=True)
                if service.status == status
            ]
            if names:
                shown = ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
                warnings.append(f"{kind.name}, {len(names)} buckets ({shown}): {text}")
    return tuple(warnings)
