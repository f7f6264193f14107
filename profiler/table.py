"""The throughput table: what one replica of one GPU type serves within the SLO, per bucket.

Document ``aibrixctl/throughput-table/v1``. A bucket is named by its upper bounds: at most
``input_tokens`` in and ``output_tokens`` out.
"""

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

from accelerators import documents
from profiler.errors import ProfilerUsageError
from profiler.samples import Stats
from profiler.slo import Slo

SCHEMA = "aibrixctl/throughput-table/v1"
Status = Literal["measured", "infeasible", "client_limited", "not_measured"]
Source = Literal["measured", "simulated", "imported"]
T = TypeVar("T")


@dataclass(frozen=True)
class Cell:
    """One bucket of a table.

    Attributes:
        input_tokens, output_tokens: upper bounds of the bucket.
        status: ``measured``; ``infeasible``, no rate meets the SLO; ``client_limited``, the rate
            is a lower bound because the load generator was the bottleneck; ``not_measured``.
        max_request_rate: requests/s within the SLO; 0 when infeasible, None when not measured.
        failing_request_rate: the lowest rate seen to miss the SLO; None when none was.
        latency: metric name to statistics (milliseconds) at the certified rate; of one request at
            a time when infeasible.
        output_tokens_per_s: at the certified rate.
        limited_by: the objective missed at the failing rate, or ``backlog``.
        probes: runs it took.
        notes: doubts a reader should know, such as probes that contradicted each other.
    """

    input_tokens: int
    output_tokens: int
    status: Status = "not_measured"
    max_request_rate: float | None = None
    failing_request_rate: float | None = None
    latency: dict[str, Stats | None] = field(default_factory=dict)
    output_tokens_per_s: float | None = None
    limited_by: str | None = None
    probes: int = 0
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        rate, failing = self.max_request_rate, self.failing_request_rate
        tokens = self.output_tokens_per_s
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "status": self.status,
            "max_request_rate": None if rate is None else round(rate, 6),
            "failing_request_rate": None if failing is None else round(failing, 6),
            "latency": {
                f"{name}_ms": stats and stats.to_json()
                for name, stats in sorted(self.latency.items())
            },
            "output_tokens_per_s": None if tokens is None else round(tokens, 3),
            "limited_by": self.limited_by,
            "probes": self.probes,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Provenance:
    """Where a table's figures come from.

    Attributes:
        source: ``measured`` on an engine, ``simulated``, or ``imported`` from another tool's file.
        engine, engine_version: what served, e.g. ``vllm`` and ``0.32.0``; all of them, joined by
            "and", where it was changed during the measurement.
        where: URL, ``sim:NAME`` or the imported file.
        tool_version: version of this tool.
        seed: of prompts, arrivals and simulator; None when imported.
        created: ISO 8601 UTC; when the last probe ended.
        tolerance: relative width at which the search for a rate stopped; None when imported.
        config_digest: hash of the configuration that the probes ran under; None when imported.
        via: how an engine in a cluster was measured: ``job``, from beside it, or ``port-forward``,
            whose latency is in the figures; None for others.
        notes: what a reader of the figures must know of the way they were measured.
    """

    source: Source
    engine: str
    engine_version: str | None = None
    where: str | None = None
    tool_version: str | None = None
    seed: int | None = None
    created: str | None = None
    tolerance: float | None = None
    config_digest: str | None = None
    via: str | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**vars(self), "notes": list(self.notes)}


@dataclass(frozen=True)
class ThroughputTable:
    """What one replica of a target serves, per bucket.

    Attributes:
        model: model that was served.
        target: name of the GPU type or deployment; unique within a plan.
        accelerator: name in ``accelerators``; None when unknown.
        gpus_per_replica: replica shape.
        cost_usd_per_hour: of one replica; None when unknown.
        slos: the objectives that the rates meet.
        input_tokens, output_tokens: ascending bucket bounds.
        cells: one per pair of bounds, ordered by input, then output.
        provenance: where the figures come from.
    """

    model: str
    target: str
    accelerator: str | None
    gpus_per_replica: int
    cost_usd_per_hour: float | None
    slos: tuple[Slo, ...]
    input_tokens: tuple[int, ...]
    output_tokens: tuple[int, ...]
    cells: tuple[Cell, ...]
    provenance: Provenance

    def cell(self, input_tokens: int, output_tokens: int) -> Cell:
        """Return the cell of a bucket given by its exact bounds; raises KeyError without one."""
        for cell in self.cells:
            if (cell.input_tokens, cell.output_tokens) == (input_tokens, output_tokens):
                return cell
        raise KeyError((input_tokens, output_tokens))

    def to_json(self) -> dict[str, Any]:
        """Return the document."""
        return {
            "schema": SCHEMA,
            "model": self.model,
            "target": self.target,
            "accelerator": self.accelerator,
            "gpus_per_replica": self.gpus_per_replica,
            "cost_usd_per_hour": self.cost_usd_per_hour,
            "slos": [slo.to_json() for slo in self.slos],
            "input_tokens": list(self.input_tokens),
            "output_tokens": list(self.output_tokens),
            "cells": [cell.to_json() for cell in self.cells],
            "provenance": self.provenance.to_json(),
        }


def save(table: ThroughputTable, path: str | os.PathLike[str]) -> None:
    """Write a table atomically."""
    documents.write_json(path, table.to_json())


def load(path: str | os.PathLike[str]) -> ThroughputTable:
    """Read a table that this tool wrote.

    Raises:
        UsageError: unreadable, another document or another version.
        ProfilerUsageError: a field is missing or absurd; names it.
    """
    return parse(documents.read_json(path), str(path))


def parse(document: Any, source: str) -> ThroughputTable:
    """Return the table that a parsed document holds; ``source`` names it in errors."""
    body = documents.check_schema(document, "throughput-table", 1, source)
    try:
        table = _parse(body)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProfilerUsageError(
            "table.malformed",
            f"{source} {documents.fault(error)}",
            hint="profile the target again, or see `aibrixctl schema show throughput-table`",
            target=source,
        ) from error
    problem = _problem(table)
    if problem:
        raise ProfilerUsageError("table.malformed", f"{source}: {problem}", target=source)
    return table


def _parse(body: dict[str, Any]) -> ThroughputTable:
    cost = body["cost_usd_per_hour"]
    return ThroughputTable(
        model=_text(body["model"]),
        target=_text(body["target"]),
        accelerator=_optional(_text, body["accelerator"]),
        gpus_per_replica=_whole(body["gpus_per_replica"]),
        cost_usd_per_hour=_optional(_number, cost),
        slos=tuple(sorted(Slo.from_json(slo) for slo in body["slos"])),
        input_tokens=tuple(_whole(n) for n in body["input_tokens"]),
        output_tokens=tuple(_whole(n) for n in body["output_tokens"]),
        cells=tuple(_parse_cell(cell) for cell in body["cells"]),
        provenance=_parse_provenance(body["provenance"]),
    )


def _parse_provenance(value: dict[str, Any]) -> Provenance:
    readers: dict[str, Callable[[Any], Any]] = {"seed": _whole, "tolerance": _number}
    read: dict[str, Any] = {
        name: _optional(readers.get(name, _text), value.get(name))
        for name in Provenance.__dataclass_fields__
        if name != "notes"
    }
    return Provenance(**read, notes=tuple(_text(note) for note in value.get("notes") or ()))


def _optional(read: Callable[[Any], T], value: Any) -> T | None:
    return None if value is None else read(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{value!r} is not a number")
    return float(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r} is not a whole number")
    return value


def _parse_cell(value: dict[str, Any]) -> Cell:
    return Cell(
        input_tokens=_whole(value["input_tokens"]),
        output_tokens=_whole(value["output_tokens"]),
        status=value["status"],
        max_request_rate=_optional(_number, value["max_request_rate"]),
        failing_request_rate=_optional(_number, value.get("failing_request_rate")),
        latency={
            name.removesuffix("_ms"): stats and Stats.from_json(stats)
            for name, stats in value.get("latency", {}).items()
        },
        output_tokens_per_s=_optional(_number, value.get("output_tokens_per_s")),
        limited_by=_optional(_text, value.get("limited_by")),
        probes=_whole(value.get("probes", 0)),
        notes=tuple(str(note) for note in value.get("notes", ())),
    )


def _ascending(values: Iterable[int]) -> bool:
    listed = list(values)
    return bool(listed) and listed[0] > 0 and listed == sorted(set(listed))


def _problem(table: ThroughputTable) -> str | None:
    """Return what makes a table unusable, or None."""
    for axis in ("input_tokens", "output_tokens"):
        if not _ascending(getattr(table, axis)):
            return f"{axis} is {list(getattr(table, axis))}; expected ascending numbers above 0"
    wanted = [(i, o) for i in table.input_tokens for o in table.output_tokens]
    found = [(cell.input_tokens, cell.output_tokens) for cell in table.cells]
    if found != wanted:
        return f"has {len(found)} cells, not one per bucket in order ({len(wanted)} expected)"
    if table.gpus_per_replica < 1:
        return f"gpus_per_replica is {table.gpus_per_replica}; expected 1 or more"
    if table.cost_usd_per_hour is not None and not 0 < table.cost_usd_per_hour < 1e6:
        return f"cost_usd_per_hour is {table.cost_usd_per_hour}; expected more than 0"
    if table.provenance.source not in get_args(Source):
        return f"provenance.source is {table.provenance.source!r}"
    for cell in table.cells:
        rate, where = cell.max_request_rate, f"cell {cell.input_tokens}x{cell.output_tokens}"
        if cell.status not in get_args(Status):
            return f"{where} has status {cell.status!r}"
        if (rate is None) != (cell.status == "not_measured"):
            return f"{where} is {cell.status} with max_request_rate {rate}"
        if rate is not None and not 0 <= rate < 1e9:
            return f"{where} has max_request_rate {rate}; expected 0 or more"
        if (rate == 0) != (cell.status == "infeasible"):
            return f"{where} is {cell.status} with max_request_rate {rate}"
    return None
