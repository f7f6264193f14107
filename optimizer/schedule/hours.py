"""Requests by hour: of the week where a trace covers one, else of the day.

An hour's demand is that of its busiest occurrence, at the rate over the part of it that the trace
covers. Hours that a trace does not cover have no data, which is not zero traffic: they are planned
like the busiest.
"""

import datetime
import zoneinfo
from dataclasses import dataclass

import numpy as np

from optimizer.errors import OptimizerUsageError
from optimizer.workload.collect import Requests
from optimizer.workload.model import Floats, Ints, Workload

HOUR_S = 3600
DAY_HOURS = 24
WEEK_HOURS = 168
_SHORTEST_S = 60.0
_DATED_S = 86_400 * 365
_MONDAY_S = 4 * 86_400  # 5 January 1970


@dataclass(frozen=True)
class HourlyTraffic:
    """One workload per hour of a ring.

    Attributes:
        hours: of the ring, the first is 00:00 (on Monday, of a week); None where nothing came.
        uncovered: hours without data, planned like the busiest.
        notes: what a reader must know.
    """

    hours: tuple[Workload | None, ...]
    uncovered: tuple[int, ...]
    notes: tuple[str, ...]

    @property
    def weekly(self) -> bool:
        """Whether the ring is a week."""
        return len(self.hours) == WEEK_HOURS


@dataclass(frozen=True)
class _Occurrence:
    """One hour that the trace covers, in part or whole; ``first`` and ``end`` index requests."""

    hour: int
    first: int
    end: int
    covered_s: float

    @property
    def rate(self) -> float:
        return (self.end - self.first) / self.covered_s


def by_hour(requests: Requests, source: str, timezone: str = "UTC") -> HourlyTraffic:
    """Return the demand of every hour of the week, or of the day for traces shorter than that.

    Args:
        requests: in order of arrival. Times that are no dates count from Monday, 00:00.
        source: names the trace.
        timezone: whose hours they are, as IANA names it.

    Raises:
        OptimizerUsageError: an unknown time zone, or a trace of less than a minute.
    """
    times, notes = _local(requests.times_s, timezone)
    first_s, last_s = float(times[0]), float(times[-1])
    if last_s - first_s < _SHORTEST_S:
        raise OptimizerUsageError(
            "schedule.short",
            f"{source} covers {last_s - first_s:.3g} s; expected a minute at least",
            target=source,
        )
    weekly = last_s - first_s >= (WEEK_HOURS - 1) * HOUR_S
    ring = WEEK_HOURS if weekly else DAY_HOURS
    busiest: dict[int, _Occurrence] = {}
    for each in _occurrences(times):
        known = busiest.get(each.hour % ring)
        if known is None or each.rate > known.rate:
            busiest[each.hour % ring] = each
    top = max(busiest.values(), key=lambda each: each.rate)
    uncovered = tuple(hour for hour in range(ring) if hour not in busiest)
    hours = [_workload(requests, busiest.get(hour, top), source, hour) for hour in range(ring)]
    return HourlyTraffic(
        tuple(hours), uncovered, (*requests.notes, *notes, *_said(weekly, uncovered, hours))
    )


def _said(weekly: bool, uncovered: tuple[int, ...], hours: list[Workload | None]) -> list[str]:
    notes = []
    if not weekly:
        notes.append("the trace is shorter than a week, so the plan is per hour of the day")
    if uncovered:
        notes.append(
            f"{len(uncovered)} of {len(hours)} hours have no data, which is not zero traffic: "
            "they are planned like the busiest hour"
        )
    return notes


def _local(times_s: Floats, timezone: str) -> tuple[Floats, list[str]]:
    """Return seconds since a Monday, 00:00, on the zone's clocks."""
    try:
        zone = zoneinfo.ZoneInfo(timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise OptimizerUsageError(
            "schedule.timezone",
            f"{timezone!r} is no time zone",
            hint="name it as IANA does, e.g. Europe/Berlin",
            target="--timezone",
        ) from error
    if times_s[0] < _DATED_S:
        note = "the trace has no dates: its first request is taken to come on Monday at 00:00"
        return times_s - times_s[0], [note]
    begin = datetime.datetime.fromtimestamp(float(times_s[0]), zone)
    offset = begin.utcoffset() or datetime.timedelta()
    return times_s + offset.total_seconds() - _MONDAY_S, []


def _occurrences(times: Floats) -> list[_Occurrence]:
    begin, end = int(times[0] // HOUR_S), int(times[-1] // HOUR_S)
    edges = np.searchsorted(times, np.arange(begin, end + 2) * HOUR_S)
    found = []
    for n, hour in enumerate(range(begin, end + 1)):
        start_s, stop_s = max(times[0], hour * HOUR_S), min(times[-1], (hour + 1) * HOUR_S)
        if stop_s - start_s >= _SHORTEST_S:
            found.append(
                _Occurrence(hour, int(edges[n]), int(edges[n + 1]), float(stop_s - start_s))
            )
    return found


def _workload(
    requests: Requests, occurrence: _Occurrence, source: str, hour: int
) -> Workload | None:
    part = slice(occurrence.first, occurrence.end)
    inputs, outputs = (
        tokens[part].astype(np.int64) for tokens in (requests.input_tokens, requests.output_tokens)
    )
    if not len(inputs):
        return None
    sizes, count = np.unique(inputs << 32 | outputs, return_counts=True)
    low: Ints = sizes & 0xFFFFFFFF
    return Workload(
        source=f"{source} hour {hour}",
        format="hour",
        digest=None,
        input_tokens=sizes >> 32,
        output_tokens=low,
        count=count.astype(np.float64),
        request_rate=occurrence.rate,
        duration_s=occurrence.covered_s,
    )
