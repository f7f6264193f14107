"""The node condition and the Events that a report comes to."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from cluster.api import FIELD_MANAGER, Api, Object
from cluster.errors import NotFoundError
from cluster.kinds import EVENT
from cluster.nodes import ACCELERATOR_HEALTHY
from diagnose.findings import SEVERITIES, Finding
from diagnose.nodes.report import NO_ANSWER, NodeReport

HEALTHY = "AcceleratorsHealthy"
_EVENT_NAMESPACE = "default"
"""Where the API keeps the Events of what has no namespace."""
_LONGEST = 1000
"""Characters of a message; an Event may have 1024."""


def condition_for(report: NodeReport, before: Mapping[str, Any] | None, now: str) -> Object:
    """Return the AcceleratorHealthy condition of a report.

    False for what is degraded or fatal; True without such faults, with a warning's code as the
    reason where there is one; Unknown where a node did not answer or left something open.

    Args:
        report: of the node.
        before: the condition that is there.
        now: time of the writing.
    """
    status, reason, message = _verdict(report)
    same = before is not None and before.get("status") == status
    since = before.get("lastTransitionTime", now) if same and before else now
    return {
        "type": ACCELERATOR_HEALTHY,
        "status": status,
        "reason": reason,
        "message": ("(simulated) " if report.simulated else "") + message[:_LONGEST],
        "lastHeartbeatTime": now,
        "lastTransitionTime": since,
    }


def says_the_same(one: Mapping[str, Any] | None, other: Mapping[str, Any]) -> bool:
    """Tell whether two conditions differ at most in their times."""
    said = ("status", "reason", "message")
    return one is not None and all(one.get(name) == other.get(name) for name in said)


def _verdict(report: NodeReport) -> tuple[str, str, str]:
    worst = report.faults[0] if report.faults else None
    if worst is not None and SEVERITIES.index(worst.severity) >= SEVERITIES.index("degraded"):
        return "False", worst.code, _message(report, worst)
    if report.why is not None:
        return "Unknown", NO_ANSWER if not report.devices else "NotAllChecked", report.why
    if worst is not None:
        return "True", worst.code, _message(report, worst)
    return "True", HEALTHY, f"{len(report.devices)} devices, no fault found"


def _message(report: NodeReport, finding: Finding) -> str:
    more = len(report.faults) - 1
    others = f" (and {more} more)" if more else ""
    return f"{place(finding)}: {finding.action}{others}"


def place(finding: Finding) -> str:
    """Return what a finding is about, in a few words: ``GPU 3``, ``node``."""
    device = finding.device
    return device.kind if device.index is None else f"{device.kind.upper()} {device.index}"


def write_events(api: Api, report: NodeReport, now: str, *, dry_run: bool) -> None:
    """Write an Event on the node for each code, or count an earlier one up.

    Raises:
        ClusterError: the server refuses or fails.
    """
    for event in _events(report, now):
        name = event["metadata"]["name"]
        earlier = api.find(EVENT, name, _EVENT_NAMESPACE)
        if earlier is None:
            api.create(event, dry_run=dry_run)
            continue
        again = {
            "count": int(earlier.get("count", 1)) + 1,
            "lastTimestamp": now,
            "message": event["message"],
        }
        try:
            api.patch(EVENT, name, again, _EVENT_NAMESPACE, dry_run=dry_run)
        except NotFoundError:  # it has expired in between
            api.create(event, dry_run=dry_run)


def _events(report: NodeReport, now: str) -> Iterator[Object]:
    seen: set[str] = set()
    faults = report.faults or report.findings if report.why else report.faults
    for finding in faults:
        if finding.code in seen:
            continue
        seen.add(finding.code)
        where = ", ".join(place(f) for f in faults if f.code == finding.code)
        digest = hashlib.sha256(f"{report.node} {finding.code}".encode()).hexdigest()[:16]
        yield {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {"name": f"{report.node[:200]}.{digest}", "namespace": _EVENT_NAMESPACE},
            # The kubelet names a node by its name in place of its uid, and so `kubectl describe`
            # looks for it.
            "involvedObject": {"kind": "Node", "name": report.node, "uid": report.node},
            "type": "Warning",
            "reason": finding.code,
            "message": f"{where}: {finding.action}"[:_LONGEST],
            "source": {"component": FIELD_MANAGER, "host": report.node},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
