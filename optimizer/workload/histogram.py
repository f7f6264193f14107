"""A workload as a histogram: document ``aibrixctl/workload-histogram/v1``.

    {"schema": "aibrixctl/workload-histogram/v1", "request_rate": 12.5,
     "buckets": [{"input_tokens": 512, "output_tokens": 128, "share": 0.6}, ...]}

A bucket may give ``requests_per_s`` in place of ``share``; their sum is then the rate.
"""

import math
import os
from typing import Any

import numpy as np

from accelerators import documents
from optimizer.workload.collect import MAX_TOKENS, digest, refuse
from optimizer.workload.model import Workload

SCHEMA = "aibrixctl/workload-histogram/v1"
FORMAT = "histogram"
ROUNDING = 1e-3


def read_histogram(path: str, request_rate: float | None) -> Workload:
    """Return the workload of a histogram document.

    Raises:
        UsageError: unreadable, another document or another version.
        OptimizerUsageError: shares or rates that are negative, missing or do not sum to 1.
    """
    body = documents.check_schema(documents.read_json(path), "workload-histogram", 1, path)
    buckets = body.get("buckets")
    if not isinstance(buckets, list) or not buckets:
        raise refuse("empty", f"{path} has no buckets", path)
    by_rate = all(isinstance(b, dict) and "requests_per_s" in b for b in buckets)
    key = "requests_per_s" if by_rate else "share"
    inputs, outputs = (
        np.array([_tokens(b, name, i, path) for i, b in enumerate(buckets)], dtype=np.int64)
        for name in ("input_tokens", "output_tokens")
    )
    weights = np.array([_weight(b, key, i, path) for i, b in enumerate(buckets)])
    notes: tuple[str, ...] = ()
    total = float(weights.sum())
    if total <= 0:
        raise refuse("bad_number", f"{path}: every {key} is 0", path)
    if not by_rate:
        if abs(total - 1) > ROUNDING:
            raise refuse(
                "shares", f"{path}: the shares sum to {total:.6g}; expected 1", path, "mend them"
            )
        if abs(total - 1) > 1e-9:
            notes = (f"shares summed to {total:.6g} and were scaled to 1",)
    rate = request_rate if request_rate is not None else (total if by_rate else _rate(body, path))
    order = np.lexsort((outputs, inputs))
    return Workload(
        source=path,
        format=FORMAT,
        digest=digest(path),
        input_tokens=inputs[order],
        output_tokens=outputs[order],
        count=weights[order] / total,
        request_rate=rate,
        notes=notes,
    )


def write_histogram(workload: Workload, path: str | os.PathLike[str]) -> None:
    """Write a workload's sizes as a histogram document; arrivals are not kept."""
    buckets = [
        {"input_tokens": int(i), "output_tokens": int(o), "share": float(c) / workload.total}
        for i, o, c in zip(
            workload.input_tokens, workload.output_tokens, workload.count, strict=True
        )
    ]
    documents.write_json(
        path, {"schema": SCHEMA, "request_rate": workload.request_rate, "buckets": buckets}
    )


def _rate(body: dict[str, Any], path: str) -> float:
    rate = body.get("request_rate")
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < math.inf:
        raise refuse(
            "rate", f"{path}: request_rate is {rate!r}; expected more than 0", path, "or use --rate"
        )
    return float(rate)


def _tokens(bucket: Any, name: str, index: int, path: str) -> int:
    value = bucket.get(name) if isinstance(bucket, dict) else None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_TOKENS:
        raise refuse(
            "bad_number",
            f"{path} buckets[{index}].{name} is {value!r}; expected a whole number from 1 to "
            f"{MAX_TOKENS:,}",
            path,
        )
    return value


def _weight(bucket: dict[str, Any], key: str, index: int, path: str) -> float:
    value = bucket.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise refuse(
            "bad_number",
            f"{path} buckets[{index}].{key} is {value!r}; expected 0 or more",
            path,
            "give every bucket a share, or every bucket requests_per_s",
        )
    return float(value)
