"""AIBrix's GPU profile: written for its optimizer and gateway, and read back.

The format is the JSON that AIBrix's ``gen_profile`` stores under
``aibrix:profile_{model}_{deployment}``: ``tputs`` and the latency matrices have a row per output
size and a column per input size, ``indexes`` is ``[output ticks, input ticks]``, latencies are
mean seconds, and ``slos`` has one percentile (0 = mean) for all objectives.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from profiler.errors import ProfilerUsageError
from profiler.interop.checks import Imported, imported_on, refuse_missing, unix_seconds
from profiler.samples import Stats
from profiler.slo import Slo
from profiler.table import Cell, Provenance, ThroughputTable

_PERCENTILES = {"mean": 0, "p50": 50, "p90": 90, "p95": 90, "p99": 99}
_STATISTICS = {0: "mean", 50: "p50", 90: "p90", 99: "p99"}
_OBJECTIVES = ("e2e", "ttft", "tpot")
_ONLY_THEIRS = ("tput", "tt", "tpat")
_LONGEST = 10_000_000
Matrix = list[list[float]]


@dataclass(frozen=True)
class Exported:
    """A document for another tool, and what it can't say."""

    document: dict[str, Any]
    warnings: tuple[str, ...]


def to_profile(
    table: ThroughputTable,
    *,
    created: str,
    deployment: str | None = None,
    allow_missing: bool = False,
) -> Exported:
    """Return the profile of a table.

    Infeasible cells have throughput 0, as AIBrix's own have. The format has no word for a cell
    that was not measured: such a table is refused, or the cell written as 0 with a warning.

    Args:
        table: the table.
        created: ISO 8601; a reader replaces an older profile only.
        deployment: AIBrix's name of what serves, ``deployment`` or ``namespace/deployment``; the
            table's target by default.
        allow_missing: write cells that were not measured as 0.

    Raises:
        ProfilerUsageError: no cost, no objective that AIBrix has, or cells not measured.
    """
    if table.cost_usd_per_hour is None:
        raise ProfilerUsageError(
            "export.cost",
            f"{table.target} has no cost, and AIBrix's optimizer needs one",
            hint="give it with --cost, US dollars per hour and replica",
            target=table.target,
        )
    warnings = refuse_missing(table, "AIBrix", allow_missing)
    slos, left_out = _slos(table.slos)
    document: dict[str, Any] = {
        "gpu": deployment or table.target,
        "cost": table.cost_usd_per_hour,
        "tputs": _matrix(table, lambda cell: round(cell.max_request_rate or 0.0, 6)),
        "indexes": [list(table.output_tokens), list(table.input_tokens)],
        "created": unix_seconds(created),
        "slos": slos,
    }
    for metric in ("e2e", *(("ttft",) if "ttft" in slos else ()), "tpot"):
        lacking = [c for c in table.cells if c.max_request_rate and _mean_s(c, metric) is None]
        if lacking:
            warnings.append(_lacking(metric, lacking))
        else:
            document[metric] = _latency_matrix(table, metric)
    limited = sum(cell.status == "client_limited" for cell in table.cells)
    if limited:
        warnings.append(f"{limited} cells are lower bounds (client-limited); AIBrix can't tell")
    if table.provenance.source == "simulated":
        warnings.append("the table is simulated; AIBrix can't tell")
    return Exported(document, (*warnings, *left_out))


def _lacking(metric: str, cells: Sequence[Cell]) -> str:
    what = f"{len(cells)} cells have no {metric} latency, so the {metric} matrix is left out"
    return f"{what}; the gateway needs it to tell pending load" if metric == "e2e" else what


def _mean_s(cell: Cell, metric: str) -> float | None:
    stats = cell.latency.get(metric)
    return stats.mean / 1e3 if stats is not None and math.isfinite(stats.mean) else None


def _latency_matrix(table: ThroughputTable, metric: str) -> Matrix:
    """Return mean seconds; 0 where no rate meets the SLO and no lone request was measured."""
    return _matrix(table, lambda cell: round(_mean_s(cell, metric) or 0.0, 9))


def _matrix(table: ThroughputTable, value: Callable[[Cell], float]) -> Matrix:
    """Return rows of output sizes, columns of input sizes."""
    return [
        [value(table.cell(size_in, size_out)) for size_in in table.input_tokens]
        for size_out in table.output_tokens
    ]


def _slos(slos: Sequence[Slo]) -> tuple[dict[str, float], list[str]]:
    """Return AIBrix's objectives, all at one percentile, and what they leave out.

    A p99 within a limit means a p90 within it, so the lowest percentile is true of all; a mean
    follows from none.
    """
    known = [slo for slo in slos if slo.metric in _OBJECTIVES]
    ranked = [slo for slo in known if slo.statistic != "mean"]
    kept = ranked or known
    if not kept:
        found = ", ".join(map(str, slos)) or "none"
        raise ProfilerUsageError(
            "export.slo",
            f"the objectives are {found}; AIBrix needs one on {', '.join(_OBJECTIVES)}",
            hint="profile with such an objective, e.g. --slo 'ttft_p99<=2s'",
        )
    percentile = min(_PERCENTILES[slo.statistic] for slo in kept)
    warnings = [f"AIBrix has no place for {slo}; left out" for slo in slos if slo not in kept]
    exact = [slo for slo in kept if _STATISTICS[percentile] == slo.statistic]
    warnings += [
        f"{slo} is written at percentile {percentile}, the one for all"
        for slo in kept
        if slo not in exact
    ]
    limits: dict[str, float] = {}
    for slo in kept:
        limits[slo.metric] = min(limits.get(slo.metric, math.inf), slo.limit_s)
    return {"percentile": percentile} | dict(sorted(limits.items())), warnings


def is_profile(document: Any) -> bool:
    """Return whether a parsed file looks like AIBrix's profile."""
    return isinstance(document, dict) and {"gpu", "tputs", "indexes"} <= document.keys()


def from_profile(
    document: Any, source: str, *, model: str, accelerator: str | None = None, gpus: int = 1
) -> Imported:
    """Return the table of AIBrix's profile.

    Args:
        document: parsed JSON.
        source: names it in errors and in the provenance.
        model: the profile doesn't name it.
        accelerator: catalogue name of the GPU type, if known.
        gpus: accelerators per replica.

    Raises:
        ProfilerUsageError: what is missing, of the wrong shape or absurd.
    """
    if not is_profile(document):
        raise _refuse(source, "lacks gpu, tputs or indexes")
    output_ticks, input_ticks = _ticks(document["indexes"], source)
    rates = _read_matrix(document, "tputs", (len(output_ticks), len(input_ticks)), source)
    means = {
        metric: _read_matrix(document, metric, (len(output_ticks), len(input_ticks)), source)
        for metric in _OBJECTIVES
        if metric in document
    }
    cells = [
        _cell(size_in, size_out, rates[o][i], {m: rows[o][i] for m, rows in means.items()})
        for i, size_in in enumerate(input_ticks)
        for o, size_out in enumerate(output_ticks)
    ]
    slos, warnings = _read_slos(document.get("slos", {}), source)
    table = ThroughputTable(
        model=model,
        target=str(document["gpu"]).rpartition("/")[2],
        accelerator=accelerator,
        gpus_per_replica=gpus,
        cost_usd_per_hour=_cost(document, source),
        slos=slos,
        input_tokens=tuple(input_ticks),
        output_tokens=tuple(output_ticks),
        cells=tuple(cells),
        provenance=Provenance(
            source="imported",
            engine="unknown",
            where=source,
            created=imported_on(document.get("created")),
        ),
    )
    return Imported(table, tuple(warnings))


def _refuse(source: str, problem: str) -> ProfilerUsageError:
    return ProfilerUsageError(
        "import.aibrix",
        f"{source} {problem}",
        hint="an AIBrix profile has gpu, cost, tputs [output][input], indexes and slos",
        target=source,
    )


def _ticks(indexes: Any, source: str) -> tuple[list[int], list[int]]:
    good = isinstance(indexes, list) and len(indexes) == 2
    for ticks in indexes if good else ():
        whole = isinstance(ticks, list) and all(
            isinstance(tick, int | float) and 0 < tick <= _LONGEST and tick == int(tick)
            for tick in ticks
        )
        good = good and whole and bool(ticks) and ticks == sorted(set(ticks))
    if not good:
        raise _refuse(
            source, f"has indexes {indexes!r}; expected [output ticks, input ticks], ascending"
        )
    return [int(tick) for tick in indexes[0]], [int(tick) for tick in indexes[1]]


def _read_matrix(
    document: Mapping[str, Any], name: str, shape: tuple[int, int], source: str
) -> Matrix:
    rows, (height, width) = document[name], shape
    listed = isinstance(rows, list) and all(isinstance(row, list) for row in rows)
    if not listed or len(rows) != height or any(len(row) != width for row in rows):
        found = f"{len(rows)} rows of {sorted({len(r) for r in rows})}" if listed else "no matrix"
        raise _refuse(
            source,
            f"has {name} of {found}; expected {height} rows (output) of {width} (input)",
        )
    for row in rows:
        for value in row:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 <= value < 1e9:
                raise _refuse(source, f"has {value!r} in {name}; expected a number from 0")
    return [[float(value) for value in row] for row in rows]


def _cell(size_in: int, size_out: int, rate: float, means: Mapping[str, float]) -> Cell:
    """Return a cell; only means are known, so the percentiles are absent."""
    unknown = math.inf
    return Cell(
        size_in,
        size_out,
        status="measured" if rate > 0 else "infeasible",
        max_request_rate=rate,
        latency={
            metric: Stats(mean * 1e3, unknown, unknown, unknown, unknown)
            for metric, mean in sorted(means.items())
            if mean > 0
        },
    )


def _cost(document: Mapping[str, Any], source: str) -> float | None:
    cost = document.get("cost")
    if cost is None:
        return None
    if isinstance(cost, bool) or not isinstance(cost, int | float) or not 0 < cost < 1e6:
        raise _refuse(source, f"has cost {cost!r}; expected more than 0")
    return float(cost)


def _read_slos(value: Any, source: str) -> tuple[tuple[Slo, ...], list[str]]:
    percentile = value.get("percentile", 0) if isinstance(value, dict) else None
    if not isinstance(percentile, int) or percentile not in _STATISTICS:
        raise _refuse(source, f"has slos {value!r}; expected percentile 0, 50, 90 or 99")
    statistic = _STATISTICS[percentile]
    slos = []
    for metric in _names(value, _OBJECTIVES):
        limit = value[metric]
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit < 1e6:
            raise _refuse(source, f"has slos.{metric} {limit!r}; expected seconds above 0")
        slos.append(Slo(metric, statistic, float(limit)))
    warnings = [
        f"{source} also demands {name} of {value[name]}; a table has no such objective"
        for name in _names(value, _ONLY_THEIRS)
    ]
    return tuple(sorted(slos)), warnings


def _names(value: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    return [name for name in names if value.get(name) is not None]
