"""GPUs and NPUs in objects of the API: the type of a node, and the devices that a pod holds."""

import re
from collections.abc import Mapping
from typing import Any

from accelerators.errors import UsageError
from accelerators.names import resolve

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
_WHOLE_DEVICE = re.compile(r"(nvidia|amd)\.com/gpu|huawei\.com/(Ascend\w+|npu)")
"""Resources that count whole devices; parts (MIG, vNPU) have other names."""


def product_of(node: Mapping[str, Any]) -> str | None:
    """Return what a node's labels call its GPUs; None without such a label."""
    labels = node["metadata"].get("labels") or {}
    return next((labels[name] for name in PRODUCT_LABELS if name in labels), None)


def accelerator_of(product: str) -> str | None:
    """Return the accelerator that a product label means; None for an unknown one."""
    try:
        return resolve(product).name
    except UsageError:
        return None


def whole_devices(amounts: Mapping[str, Any]) -> int:
    """Return how many whole devices resource amounts count."""
    return sum(int(count) for name, count in amounts.items() if _WHOLE_DEVICE.fullmatch(name))


def requested(spec: Mapping[str, Any]) -> int:
    """Return the whole devices that a pod holds.

    Containers run together, and so do init containers that never end; others come before them.
    """
    initial = spec.get("initContainers") or []
    lasting = [one for one in initial if one.get("restartPolicy") == "Always"]
    passing = [one for one in initial if one.get("restartPolicy") != "Always"]
    together = sum(map(_of_container, [*spec.get("containers", ()), *lasting]))
    return max([together, *map(_of_container, passing)])


def _of_container(container: Mapping[str, Any]) -> int:
    resources = container.get("resources") or {}
    return whole_devices((resources.get("limits") or {}) | (resources.get("requests") or {}))
