"""Whether a pod works, and why it does not."""

from collections.abc import Mapping
from typing import Any

from cluster.objects import conditions, said

ENDED = ("Succeeded", "Failed")
"""Phases of pods that have ended."""
_STARTING = (None, "ContainerCreating", "PodInitializing")


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Return whether a pod takes requests: it is ready, has not ended and is not being deleted."""
    held = conditions(pod).get("Ready", {}).get("status") == "True"
    return held and not is_leaving(pod) and _phase(pod) not in ENDED


def is_leaving(pod: Mapping[str, Any]) -> bool:
    """Return whether a pod is being deleted."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def trouble(pod: Mapping[str, Any]) -> str | None:
    """Return why a pod does not run or has failed; None when nothing is wrong."""
    status = pod.get("status") or {}
    if status.get("phase") == "Failed" and status.get("reason"):
        return said(status)
    containers = (
        *(status.get("initContainerStatuses") or ()),
        *(status.get("containerStatuses") or ()),
    )
    for container in containers:
        if found := _of_container(container.get("state") or {}):
            return found
    scheduled = conditions(pod).get("PodScheduled", {})
    return said(scheduled) or None if scheduled.get("status") == "False" else None


def why_not_ready(pod: Mapping[str, Any]) -> str:
    """Return why a pod that is not ready is not, in the words that are nearest to the cause."""
    if is_leaving(pod):
        return "being deleted"
    if found := trouble(pod):
        return found
    ready = conditions(pod).get("Ready", {})
    if ready.get("status") != "True" and (why := said(ready)):
        return why
    return "not ready" if _phase(pod) == "Running" else f"phase {_phase(pod)}"


def _of_container(state: Mapping[str, Any]) -> str | None:
    waiting, ended = state.get("waiting"), state.get("terminated")
    if waiting and waiting.get("reason") not in _STARTING:
        return said(waiting)
    if ended and ended.get("exitCode"):
        last = str(ended.get("message") or "").strip()[-500:]
        return f"exit code {ended['exitCode']}" + (f": {last}" if last else "")
    return None


def _phase(pod: Mapping[str, Any]) -> str:
    return str((pod.get("status") or {}).get("phase", "Unknown"))
