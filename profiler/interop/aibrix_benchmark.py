"""AIBrix's benchmark rows, read into a throughput table.

One JSON object a line and metric: ``input_tokens, output_tokens, request_rate, seed, model,
samples, metric, mean, P50, P90, P99`` with ``metric`` one of TPUT (requests/s), TT (tokens/s),
E2E, TTFT, TPOT (seconds). The script that writes them appends to a file that may hold rows of an
earlier run, counts error bodies as successes, and measures whole rates only; what can be seen of
that in the rows is refused or told.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from profiler.errors import ProfilerUsageError
from profiler.interop.checks import Imported
from profiler.samples import Stats
from profiler.slo import Slo
from profiler.table import Cell, Provenance, ThroughputTable

_METRIC_OF = {"ttft": "TTFT", "tpot": "TPOT", "itl": "TPOT", "e2e": "E2E"}
_STATISTIC_OF = {"mean": "mean", "p50": "P50", "p90": "P90", "p99": "P99"}
_METRICS = ("TPUT", "TT", "E2E", "TTFT", "TPOT")
# AIBrix's own limit: below this share of the offered rate, requests pile up.
_SUSTAINED_SHARE = 0.9
# No engine answers over a network this fast; error bodies that were counted as successes do.
_IMPLAUSIBLE_S = 1e-3
_Run = dict[str, dict[str, Any]]
_Cells = dict[tuple[int, int], dict[float, _Run]]


def is_benchmark(text: str) -> bool:
    """Return whether a file's text looks like benchmark rows."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    return '"metric"' in first and '"request_rate"' in first


def from_benchmark(
    text: str,
    source: str,
    slos: Sequence[Slo],
    *,
    target: str,
    cost_usd_per_hour: float | None = None,
    accelerator: str | None = None,
    gpus: int = 1,
    seed: int | None = None,
) -> Imported:
    """Return the table of the highest benchmarked rates that meet the SLO.

    Args:
        text: the file's text.
        source: names it in errors and in the provenance.
        slos: objectives; AIBrix has mean, P50, P90 and P99 of TTFT, TPOT and E2E.
        target: name of the GPU type or deployment; the rows don't say.
        cost_usd_per_hour: of one replica.
        accelerator: catalogue name of the GPU type, if known.
        gpus: accelerators per replica.
        seed: take rows with this seed only, where a file holds several runs.

    Raises:
        ProfilerUsageError: a malformed row (with its line), rows of several runs or models, or
            an objective that AIBrix doesn't measure.
    """
    if not slos:
        raise ProfilerUsageError(
            "import.slo",
            f"{source} holds latencies at several rates; which rate counts depends on the SLO",
            hint="e.g. --slo 'ttft_p99<=2s'",
        )
    for slo in slos:
        if slo.metric not in _METRIC_OF or slo.statistic not in _STATISTIC_OF:
            raise ProfilerUsageError(
                "import.slo",
                f"AIBrix's rows can't tell {slo.name}",
                hint="they hold mean, p50, p90 and p99 of ttft, tpot and e2e",
            )
    runs, model = _group(_rows(text, source, seed), source)
    warnings = [
        "AIBrix's script counts failed requests as successes and its clock starts after the "
        "response headers; measure again where it matters"
    ]
    if any(slo.metric in ("itl", "tpot") for slo in slos):
        warnings.append("AIBrix's TPOT pools the gaps between socket reads, not between tokens")
    inputs = sorted({size_in for size_in, _ in runs})
    outputs = sorted({size_out for _, size_out in runs})
    cells = [_cell(i, o, runs.get((i, o), {}), slos) for i in inputs for o in outputs]
    table = ThroughputTable(
        model=model,
        target=target,
        accelerator=accelerator,
        gpus_per_replica=gpus,
        cost_usd_per_hour=cost_usd_per_hour,
        slos=tuple(sorted(slos)),
        input_tokens=tuple(inputs),
        output_tokens=tuple(outputs),
        cells=tuple(cells),
        provenance=Provenance(source="imported", engine="unknown", where=source),
    )
    return Imported(table, tuple(warnings))


def _refuse(source: str, line: int, problem: str) -> ProfilerUsageError:
    return ProfilerUsageError(
        "import.benchmark",
        f"line {line} of {source} {problem}",
        hint="a row has input_tokens, output_tokens, request_rate, seed, model, metric and mean",
        target=source,
    )


def _rows(text: str, source: str, seed: int | None) -> list[tuple[int, dict[str, Any]]]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise _refuse(source, number, f"is not JSON: {error}") from error
        problem = _problem(row)
        if problem:
            raise _refuse(source, number, problem)
        if seed is None or row.get("seed") == seed:
            rows.append((number, row))
    if not rows:
        what = "no row" if seed is None else f"no row with seed {seed}"
        raise ProfilerUsageError("import.empty", f"{source} has {what}", target=source)
    return rows


def _problem(row: Any) -> str | None:
    """Return what is wrong with a row, or None."""
    if not isinstance(row, dict):
        return "is not an object"
    for name in ("input_tokens", "output_tokens"):
        size = row.get(name)
        if isinstance(size, bool) or not isinstance(size, int) or not 0 < size <= 10_000_000:
            return f"has {name} {size!r}; expected a whole number from 1"
    if row.get("metric") not in _METRICS:
        return f"has metric {row.get('metric')!r}; expected one of {', '.join(_METRICS)}"
    for name in ("request_rate", "mean", "P50", "P90", "P99"):
        value = row.get(name)
        if value is None and name.startswith("P"):
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        # All requests at once is a rate that vLLM's script knows; no other figure is infinite.
        if not number or (value == math.inf and name != "request_rate"):
            return f"has {name} {value!r}; expected a number from 0"
    if row["request_rate"] == 0:
        return "has request_rate 0; expected a number above 0"
    return None


def _group(rows: Sequence[tuple[int, dict[str, Any]]], source: str) -> tuple[_Cells, str]:
    """Return cell to rate to metric to row, and the model; refuses rows of several runs."""
    models = sorted({str(row.get("model")) for _, row in rows})
    if len(models) > 1:
        raise ProfilerUsageError(
            "import.models", f"{source} holds rows of several models: {', '.join(models)}"
        )
    cells: _Cells = {}
    lines: dict[int, int] = {}
    for number, row in rows:
        runs = cells.setdefault((row["input_tokens"], row["output_tokens"]), {})
        run = runs.setdefault(float(row["request_rate"]), {})
        known = run.get(row["metric"])
        if known is not None:
            raise _stale(source, lines[id(known)], number, known, row)
        run[row["metric"]] = row
        lines[id(row)] = number
    return cells, models[0]


def _stale(
    source: str, before: int, now: int, known: Mapping[str, Any], row: Mapping[str, Any]
) -> ProfilerUsageError:
    seeds = sorted({str(known.get("seed")), str(row.get("seed"))})
    bucket = f"{row['input_tokens']}x{row['output_tokens']} at {row['request_rate']:g} requests/s"
    return ProfilerUsageError(
        "import.stale",
        f"lines {before} and {now} of {source} both give {row['metric']} of {bucket} "
        f"(seed {' and '.join(seeds)}): the file holds rows of an earlier run",
        hint="choose a run with --seed, or remove the earlier rows"
        if len(seeds) > 1
        else "remove the earlier rows",
        target=source,
    )


def _cell(size_in: int, size_out: int, runs: Mapping[float, _Run], slos: Sequence[Slo]) -> Cell:
    """Return the highest rate below the first that misses the SLO."""
    best: float | None = None
    notes = []
    for rate in sorted(runs):
        if math.isinf(rate):
            notes.append("a run without a rate, all requests at once, left out")
            continue
        missed = _missed(runs[rate], rate, slos)
        if missed == "implausible":
            notes.append(f"{rate:g} requests/s left out: answers faster than 1 ms are error bodies")
        elif missed:
            return _capped(size_in, size_out, runs, best, rate, missed, notes)
        else:
            best = rate
    return _capped(size_in, size_out, runs, best, None, None, notes)


def _missed(run: _Run, rate: float, slos: Sequence[Slo]) -> str | None:
    """Return the first reason why a run doesn't count, or None when it passes."""
    e2e = run.get("E2E")
    if e2e is not None and e2e["mean"] < _IMPLAUSIBLE_S:
        return "implausible"
    for slo in slos:
        value = run.get(_METRIC_OF[slo.metric], {}).get(_STATISTIC_OF[slo.statistic])
        if not isinstance(value, int | float) or not value <= slo.limit_s:
            return slo.name
    tput = run.get("TPUT")
    if tput is None or tput["mean"] < rate * _SUSTAINED_SHARE:
        return "backlog"
    return None


def _capped(
    size_in: int,
    size_out: int,
    runs: Mapping[float, _Run],
    best: float | None,
    failing: float | None,
    missed: str | None,
    notes: list[str],
) -> Cell:
    if best is not None:
        run = runs[best]
        if failing is None:
            notes.append(f"no benchmarked rate missed the SLO; {best:g} was the highest")
        tokens = run.get("TT")
        return Cell(
            size_in,
            size_out,
            status="measured",
            max_request_rate=min(best, float(run["TPUT"]["mean"])),
            failing_request_rate=failing,
            latency=_latency(run),
            output_tokens_per_s=float(tokens["mean"]) if tokens else None,
            limited_by=missed,
            probes=len(runs),
            notes=tuple(notes),
        )
    if failing is None:
        return Cell(size_in, size_out, notes=(*notes, "no benchmark row"))
    e2e = runs[failing].get("E2E")
    if e2e is not None and failing * e2e["mean"] <= 1:
        # By Little's law at most one request was in flight on average: slower won't help.
        return Cell(
            size_in,
            size_out,
            status="infeasible",
            max_request_rate=0.0,
            failing_request_rate=failing,
            latency=_latency(runs[failing]),
            limited_by=missed,
            probes=len(runs),
            notes=tuple(notes),
        )
    why = f"the lowest benchmarked rate, {failing:g}, misses {missed}; lower ones were not tried"
    return Cell(size_in, size_out, probes=len(runs), notes=(*notes, why))


def _latency(run: _Run) -> dict[str, Stats | None]:
    """Return the statistics that AIBrix has, in milliseconds; p95 is absent."""
    found: dict[str, Stats | None] = {}
    for metric, name in (("ttft", "TTFT"), ("tpot", "TPOT"), ("e2e", "E2E")):
        row = run.get(name)
        if row is not None:
            values = [row["mean"], row.get("P50"), row.get("P90"), None, row.get("P99")]
            found[metric] = Stats(
                *(value * 1e3 if isinstance(value, int | float) else math.inf for value in values)
            )
    return found
