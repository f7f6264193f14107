"""Options of ``profile load`` that are more than a number."""

import json
from collections.abc import Iterable
from typing import Any, cast, get_args

from accelerators.errors import UsageError
from accelerators.units import parse_duration
from profiler.load.config import Arrival
from profiler.slo import METRICS, Slo


def parse_arrival(text: str | None, burstiness: float) -> Arrival:
    """Return the arrivals; a burstiness other than 1 means gamma where nothing else is said.

    Raises:
        UsageError: an unknown name.
    """
    if text is None:
        return "poisson" if burstiness == 1.0 else "gamma"
    if text not in get_args(Arrival):
        expected = ", ".join(get_args(Arrival))
        raise UsageError(
            "load.arrival", f"{text!r} is not a spread of arrivals; expected {expected}"
        )
    return cast(Arrival, text)


def parse_goodput(texts: Iterable[str]) -> tuple[Slo, ...]:
    """Return limits per request from texts such as ``ttft:200`` (milliseconds) or ``e2e:5s``.

    Raises:
        UsageError: an unknown metric or no positive number.
    """
    limits = []
    for text in (word for group in texts for word in group.replace(",", " ").split()):
        name, _, number = text.partition(":")
        metric = {"e2el": "e2e"}.get(name, name)
        try:
            limit_ms = parse_duration(number, default_unit="ms") * 1e3
        except UsageError:
            limit_ms = 0.0
        if metric not in METRICS or metric == "itl" or not 0 < limit_ms < float("inf"):
            raise UsageError(
                "load.goodput",
                f"{text!r} is not a limit for a request",
                hint="write METRIC:LIMIT in milliseconds or with a unit, e.g. ttft:200 or e2e:5s",
            )
        limits.append(Slo(metric, "p99", limit_ms / 1e3))
    return tuple(limits)


def parse_body(text: str | None) -> dict[str, Any]:
    """Return the fields of a JSON object.

    Raises:
        UsageError: not a JSON object.
    """
    if text is None:
        return {}
    try:
        body = json.loads(text)
    except ValueError as error:
        raise UsageError("load.extra_body", f"--extra-body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise UsageError("load.extra_body", "--extra-body is not a JSON object")
    return body
