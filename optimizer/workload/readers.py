"""Read a workload file, finding its format from its content."""

import math
import os

from optimizer.errors import OptimizerUsageError
from optimizer.workload import histogram
from optimizer.workload.collect import Collector, Requests, opened, refuse
from optimizer.workload.jsonlines import collect_jsonl
from optimizer.workload.model import Workload
from optimizer.workload.tabular import LAYOUTS, collect_csv

FORMATS = ("azure", "burstgpt", "mooncake", "aibrix-v1", "aibrix-v2", histogram.FORMAT)
_HEAD_BYTES = 1 << 16
_MARKS = (
    ("mooncake", (b'"input_length"', b'"output_length"')),
    ("aibrix-v2", (b'"requests"',)),
    ("aibrix-v1", (b'"Requests"',)),
)


def detect(path: str | os.PathLike[str]) -> str:
    """Return the format of a workload file, from its first bytes.

    Raises:
        OptimizerUsageError: unreadable, empty, or in no known format.
    """
    source = str(path)
    with opened(path) as file:
        text = file.read(_HEAD_BYTES).lstrip()
    if not text:
        raise refuse("empty", f"{source} is empty", source)
    if text.startswith(b"{"):
        return _detect_json(text, source)
    header = text.splitlines()[0].decode("utf-8", "replace")
    names = [name.strip().strip('"') for name in header.split(",")]
    for name, layout in LAYOUTS.items():
        if layout.time in names:
            return name
    wanted = "; ".join(
        f"{name}: {layout.time}, {layout.input}, {layout.output}"
        for name, layout in LAYOUTS.items()
    )
    raise refuse(
        "format",
        f"{source} line 1 is {header[:80]!r}, the header of no known trace",
        source,
        f"known columns: {wanted}; rename yours, or name the format",
    )


def _detect_json(text: bytes, source: str) -> str:
    first = text.splitlines()[0]
    if b"aibrixctl/" in text and b'"buckets"' in text:
        return histogram.FORMAT
    for name, marks in _MARKS:
        if all(mark in first for mark in marks):
            return name
    if b"aibrixctl/workload-histogram" in text:
        return histogram.FORMAT
    raise refuse(
        "format",
        f"{source} line 1 is JSON with the keys of no known trace",
        source,
        f"known formats: {', '.join(FORMATS)}",
    )


def read(
    path: str | os.PathLike[str],
    *,
    format_name: str | None = None,
    request_rate: float | None = None,
) -> Workload:
    """Return the workload that a file holds.

    Args:
        path: trace, which may be packed with gzip, or histogram.
        format_name: one of FORMATS; None finds it from the content.
        request_rate: requests/s in place of the file's own.

    Raises:
        OptimizerUsageError: unreadable, empty, damaged or absurd; names file, line and column.
    """
    if request_rate is not None and not 0 < request_rate < math.inf:
        raise OptimizerUsageError(
            "workload.rate", f"the rate is {request_rate:g} requests/s; expected more than 0"
        )
    chosen = _chosen(path, format_name)
    if chosen == histogram.FORMAT:
        return histogram.read_histogram(str(path), request_rate)
    return _collect(str(path), chosen).workload(chosen, request_rate)


def read_requests(path: str | os.PathLike[str], *, format_name: str | None = None) -> Requests:
    """Return the single requests of a trace.

    Raises:
        OptimizerUsageError: as ``read``, and a histogram, which has no times.
    """
    chosen = _chosen(path, format_name)
    if chosen == histogram.FORMAT:
        raise refuse("no_times", f"{path} is a histogram, which has no times", str(path),
                     "give the trace")  # fmt: skip
    return _collect(str(path), chosen).requests()


def _collect(path: str, format_name: str) -> Collector:
    if format_name in LAYOUTS:
        return collect_csv(path, format_name)
    return collect_jsonl(path, format_name)


def _chosen(path: str | os.PathLike[str], format_name: str | None) -> str:
    chosen = format_name or detect(path)
    if chosen not in FORMATS:
        raise OptimizerUsageError(
            "workload.format", f"unknown format {chosen!r}; expected one of {', '.join(FORMATS)}"
        )
    return chosen
