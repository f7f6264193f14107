"""What a node is, and what speaks against using it."""

from collections.abc import Iterator, Mapping
from typing import Any

from cluster.objects import conditions

ACCELERATOR_HEALTHY = "AcceleratorHealthy"
"""Type of the condition by which `diagnose cluster` says whether a node's accelerators work."""
TAINT = {"key": "aibrixctl/accelerator", "value": "unhealthy", "effect": "NoSchedule"}
"""Keeps new pods off a node whose accelerators failed."""
PRODUCT_LABELS = (
    "nvidia.com/gpu.product",
    "amd.com/gpu.product-name",
    "beta.amd.com/gpu.product-name",
    "node.kubernetes.io/npu.chip.name",
    "cloud.google.com/gke-accelerator",
    "machine.cluster.vke.volcengine.com/gpu-name",
    "accelerator",
)
"""Where NVIDIA's, AMD's and Ascend's node labellers, and clouds, say what a node's GPUs are."""


def product(node: Mapping[str, Any]) -> str | None:
    """Return what a node's labels call its accelerators; None where they don't."""
    labels = node["metadata"].get("labels") or {}
    return next((labels[name] for name in PRODUCT_LABELS if name in labels), None)


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
