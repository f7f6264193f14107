"""What speaks against using a node."""

from collections.abc import Iterator, Mapping
from typing import Any

from cluster.objects import conditions

ACCELERATOR_HEALTHY = "AcceleratorHealthy"
"""Type of the condition by which `diagnose cluster` says whether a node's accelerators work."""
TAINT = {"key": "aibrixctl/accelerator", "value": "unhealthy", "effect": "NoSchedule"}
"""Keeps new pods off a node whose accelerators failed."""


def is_tainted(node: Mapping[str, Any]) -> bool:
    """Return whether our taint is on a node."""
    taints = (node.get("spec") or {}).get("taints") or ()
    return any(taint.get("key") == TAINT["key"] for taint in taints)


def complaints(node: Mapping[str, Any]) -> tuple[str, ...]:
    """Return all that speaks against using a node, its accelerators first; empty: nothing does."""
    return tuple(_complaints(node))


def _complaints(node: Mapping[str, Any]) -> Iterator[str]:
    found = conditions(node)
    health, ready = found.get(ACCELERATOR_HEALTHY, {}), found.get("Ready", {})
    if health.get("status") == "False":
        yield f"{ACCELERATOR_HEALTHY} is False" + _reason(health)
    if ready.get("status") != "True":
        yield "not ready" + _reason(ready)
    if (node.get("spec") or {}).get("unschedulable"):
        yield "cordoned"
    if is_tainted(node):
        yield "tainted {key}={value}:{effect}".format_map(TAINT)


def _reason(condition: Mapping[str, Any]) -> str:
    return f" ({condition['reason']})" if condition.get("reason") else ""
