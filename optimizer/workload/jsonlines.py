"""Traces in JSON Lines: Mooncake's and AIBrix's workload files (versions 1 and 2).

Sources: Mooncake FAST'25 trace release; AIBrix ``benchmarks/workload``.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from optimizer.workload.collect import Collector, opened, refuse

BATCH_LINES = 50_000
Row = tuple[int, float, float, float]  # line, input, output, time in ms; NaN where null


def collect_jsonl(path: str, format_name: str) -> Collector:
    """Return the requests of a JSON Lines trace, gathered.

    Raises:
        OptimizerUsageError: a line is not JSON, lacks a key or is absurd; names the line and key.
    """
    rows, columns = {
        "mooncake": (_mooncake, ("input_length", "output_length", "timestamp")),
        "aibrix-v2": (_aibrix_v2, ("prompt_length", "output_length", "timestamp")),
        "aibrix-v1": (_aibrix_v1, ("Prompt Length", "Output Length", "Timestamp")),
    }[format_name]
    collector = Collector(path, columns, output_may_miss=True)
    stream = _rows(path, rows)
    while batch := list(islice(stream, BATCH_LINES)):
        lines, inputs, outputs, times_ms = zip(*batch, strict=True)
        collector.add(
            np.array(inputs), np.array(outputs), np.array(times_ms) / 1e3, lines.__getitem__
        )
    return collector


def _rows(path: str, rows_of: Any) -> Iterator[Row]:
    import orjson

    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            if line.isspace():
                continue
            try:
                for size_in, size_out, time_ms in rows_of(orjson.loads(line)):
                    yield number, _number(size_in), _number(size_out), _number(time_ms)
            except orjson.JSONDecodeError as error:
                cut = "" if line.endswith(b"\n") else "; the file is cut short there"
                raise refuse(
                    "not_json",
                    f"{path} line {number} is not JSON: {error}{cut}",
                    path,
                    "get the file again or delete the line",
                ) from error
            except (KeyError, TypeError, ValueError) as error:
                what = f"lacks {error}" if isinstance(error, KeyError) else f"has {error}"
                raise refuse("columns", f"{path} line {number} {what}", path) from error


def _number(value: Any) -> float:
    if value is None:
        return float("nan")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} where a number is expected")
    return float(value)


def _mooncake(row: Any) -> Iterator[tuple[Any, Any, Any]]:
    yield row["input_length"], row["output_length"], row["timestamp"]


def _aibrix_v2(row: Any) -> Iterator[tuple[Any, Any, Any]]:
    for request in row["requests"]:
        yield request["prompt_length"], request.get("output_length"), row["timestamp"]


def _aibrix_v1(row: Any) -> Iterator[tuple[Any, Any, Any]]:
    for request in row["Requests"]:
        yield request["Prompt Length"], request.get("Output Length"), row["Timestamp"]
