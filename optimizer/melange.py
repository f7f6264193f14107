"""Read a Mélange configuration as it is.

Source: Mélange (arXiv:2404.14527), ``melange/config``. ``tputs`` and ``workload_distribution``
are matrices of the same shape, rows by input size and columns by output size. The file gives no
sizes, so a bucket is named by its row and column: ``0,1``. ``slice_factor`` has no meaning when
routing is fractional, and is ignored.
"""

import math
import os
from typing import Any

from accelerators import documents
from optimizer.errors import OptimizerUsageError
from optimizer.problem import Bucket, GpuType, Problem, Service, check

ROUNDING = 1e-3


def load(path: str | os.PathLike[str], *, request_rate: float | None = None) -> Problem:
    """Return the problem that a Mélange configuration states.

    Raises:
        UsageError: unreadable or not JSON.
        OptimizerUsageError: a key is missing, shapes differ, or shares or rates make no sense.
    """
    from optimizer.workload.collect import digest

    problem = parse(documents.read_json(path), str(path), request_rate=request_rate)
    recorded = {"path": str(path), "digest": digest(path), "format": "melange"}
    problem.inputs["problem"] = recorded | {"request_rate": round(problem.request_rate, 6)}
    return problem


def parse(document: Any, source: str, *, request_rate: float | None = None) -> Problem:
    """Return the problem of a parsed configuration; ``source`` names it in errors."""
    if not isinstance(document, dict):
        raise _bad("is not a JSON object", source)
    for key in ("gpu_info", "workload_distribution", "total_request_rate"):
        if key not in document and not (key == "total_request_rate" and request_rate):
            raise _bad(f"lacks {key}", source)
    shares = _matrix(document["workload_distribution"], "workload_distribution", source)
    warnings = _check_shares(shares, source)
    total = math.fsum(share for row in shares for share in row)
    rate = request_rate if request_rate is not None else document["total_request_rate"]
    if not _is_number(rate) or not 0 < rate < math.inf:
        raise _bad(f"has total_request_rate {rate!r}; expected more than 0", source)
    chosen = [(r, c) for r, row in enumerate(shares) for c, share in enumerate(row) if share > 0]
    buckets = tuple(Bucket(f"{r},{c}", None, None, rate * shares[r][c] / total) for r, c in chosen)
    info = document["gpu_info"]
    if not isinstance(info, dict) or not info:
        raise _bad("has no GPU types in gpu_info", source)
    shape = [len(row) for row in shares]
    types = tuple(_type(name, info[name], shape, chosen, source) for name in sorted(info))
    return check(Problem(buckets=buckets, types=types, warnings=warnings))


def _type(
    name: str, value: Any, shape: list[int], chosen: list[tuple[int, int]], source: str
) -> GpuType:
    if not isinstance(value, dict) or "cost" not in value or "tputs" not in value:
        raise _bad(f"gpu_info.{name} lacks cost or tputs", source)
    if not _is_number(value["cost"]) or not 0 < value["cost"] < math.inf:
        raise _bad(f"gpu_info.{name}.cost is {value['cost']!r}; expected more than 0", source)
    rates = _matrix(value["tputs"], f"gpu_info.{name}.tputs", source)
    if [len(row) for row in rates] != shape:
        found = f"gpu_info.{name}.tputs has rows of {[len(row) for row in rates]} numbers"
        raise _bad(f"{found}; workload_distribution has {shape}", source)
    services = (rates[r][c] for r, c in chosen)
    return GpuType(
        name,
        float(value["cost"]),
        tuple(Service(rate, "measured" if rate else "infeasible") for rate in services),
    )


def _matrix(value: Any, name: str, source: str) -> list[list[float]]:
    if not isinstance(value, list) or not value or not all(isinstance(row, list) for row in value):
        raise _bad(f"{name} is not a list of rows", source)
    for r, row in enumerate(value):
        for c, number in enumerate(row):
            if not _is_number(number) or not 0 <= number < math.inf:
                raise _bad(f"{name}[{r}][{c}] is {number!r}; expected 0 or more", source)
    return [[float(number) for number in row] for row in value]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_shares(shares: list[list[float]], source: str) -> tuple[str, ...]:
    total = math.fsum(share for row in shares for share in row)
    if abs(total - 1) > ROUNDING:
        raise _bad(f"workload_distribution sums to {total:.6g}; expected 1", source)
    if abs(total - 1) > 1e-9:
        return (f"workload_distribution summed to {total:.6g} and was scaled to 1",)
    return ()


def _bad(message: str, source: str) -> OptimizerUsageError:
    return OptimizerUsageError(
        "problem.melange",
        f"{source}: {message}" if message.startswith(("gpu", "work")) else f"{source} {message}",
        hint="expected {gpu_info: {NAME: {cost, tputs}}, workload_distribution, "
        "total_request_rate}",
        target=source,
    )
