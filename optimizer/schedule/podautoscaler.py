"""A schedule as AIBrix's PodAutoscaler takes it: ``spec.schedules[]``, one object per type.

AIBrix takes a schedule's end as exclusive, wants its start before its end on the same day, no two
that overlap, one time zone for all, and a maximum above 0, so that 0 replicas are 0 to 1. A day's
last minute can't be in a schedule, since an end is 23:59 at most: there the autoscaler's own bounds
hold.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from optimizer.fleet.names import DeploymentName
from optimizer.schedule.hours import DAY_HOURS
from optimizer.schedule.schedule import DAYS, Schedule

API_VERSION = "autoscaling.aibrix.ai/v1alpha1"
OPTIMIZER = "aibrix-gpu-optimizer.aibrix-system.svc.cluster.local:8080"
_DAY = 24 * 60
_LAST = _DAY - 1


def pod_autoscaler(
    schedule: Schedule, kind: str, deployment: DeploymentName, *, lead_s: float = 0.0
) -> dict[str, Any]:
    """Return the PodAutoscaler of the deployment that a type is.

    Args:
        schedule: for every hour.
        kind: name of the type.
        deployment: that runs it.
        lead_s: how long before an hour the replicas that it adds are started.
    """
    minutes = by_minute([hour.replicas[kind] for hour in schedule.hours], lead_s)
    at_midnight = max(minutes[_LAST::_DAY])
    return {
        "apiVersion": API_VERSION,
        "kind": "PodAutoscaler",
        "metadata": {
            "name": deployment.autoscaler,
            "namespace": deployment.namespace,
            "labels": {"app.kubernetes.io/name": "aibrix"},
        },
        "spec": {
            "scaleTargetRef": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": deployment.name,
            },
            "scalingStrategy": "KPA",
            "minReplicas": at_midnight,
            "maxReplicas": max(*minutes, 1),
            "metricsSources": [
                {
                    "metricSourceType": "domain",
                    "protocolType": "http",
                    "endpoint": OPTIMIZER,
                    "path": f"/metrics/{deployment}",
                    "targetMetric": "vllm:deployment_replicas",
                    "targetValue": "100",
                }
            ],
            "schedules": schedules(minutes, schedule.timezone),
        },
    }


def by_minute(hourly: list[int], lead_s: float = 0.0) -> list[int]:
    """Return replicas per minute of the ring: what an hour adds is there ``lead_s`` before it."""
    lead = -int(-lead_s // 60)
    ring = len(hourly) * 60
    steady = [hourly[minute // 60] for minute in range(ring)]
    ahead = [min(lead, 60 * step) for step in range(lead // 60 + 2)]
    return [max(steady[(minute + each) % ring] for each in ahead) for minute in range(ring)]


def schedules(minutes: list[int], timezone: str) -> list[dict[str, Any]]:
    """Return ``schedules[]`` for replicas per minute of a day or a week."""
    weekly = len(minutes) > DAY_HOURS * 60
    days: dict[tuple[int, int, int], list[str]] = defaultdict(list)
    for day in range(len(minutes) // _DAY):
        for start, end, replicas in _runs(minutes[day * _DAY : (day + 1) * _DAY]):
            days[start, end, replicas].append(DAYS[day])
    return [
        _entry(start, end, replicas, names if weekly and len(names) < len(DAYS) else None, timezone)
        for (start, end, replicas), names in sorted(
            days.items(), key=lambda item: (item[0], DAYS.index(item[1][0]))
        )
    ]


def _runs(minutes: list[int]) -> Iterable[tuple[int, int, int]]:
    """Yield start, end and value of equal stretches of a day, its last minute left out."""
    start = 0
    for minute in range(1, _LAST + 1):
        if minute == _LAST or minutes[minute] != minutes[start]:
            yield start, minute, minutes[start]
            start = minute


def _entry(
    start: int, end: int, replicas: int, days: list[str] | None, timezone: str
) -> dict[str, Any]:
    begin, until = (f"{minute // 60:02d}:{minute % 60:02d}" for minute in (start, end))
    when = "-".join(days) if days else "daily"
    entry: dict[str, Any] = {
        "name": f"{when}-{begin}-{until}".replace(":", ""),
        "startTime": begin,
        "endTime": until,
        "minReplicas": replicas,
        "maxReplicas": max(replicas, 1),
    }
    if days:
        entry["daysOfWeek"] = days
    if timezone != "UTC":
        entry["timezone"] = timezone
    return entry
