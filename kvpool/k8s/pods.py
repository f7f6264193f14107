"""One pod of a cache pool: which part it plays, where it is, and whether it can work.

Source of labels and annotations: AIBrix 0.7, ``pkg/constants/kvcache.go`` and
``cmd/kvcache-watcher``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

POOL_LABEL = "kvcache.orchestration.aibrix.ai/name"
ROLE_LABEL = "kvcache.orchestration.aibrix.ai/role"
Role = Literal["cache", "metadata", "kvwatcher"]
ROLES: tuple[Role, ...] = ("cache", "metadata", "kvwatcher")
_RDMA_NETWORKS = "k8s.volcengine.com/network-status"
_ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True)
class PoolPod:
    """A pod that carries the label of a cache pool.

    Attributes:
        pool: name of its pool, which is in its namespace.
        role: its part there; one of ``ROLES``, or what a stranger wrote.
        node: where it runs; empty before it is placed.
        phase: as Kubernetes has it.
        terminating: whether it is being deleted.
        ready: whether its Ready condition holds.
        trouble: why it is not ready; empty where it is.
        addresses: of the pod network.
        rdma_addresses: of the RDMA network, as far as its annotations tell.
    """

    namespace: str
    name: str
    pool: str
    role: str
    node: str
    phase: str
    terminating: bool
    ready: bool
    trouble: str
    addresses: tuple[str, ...]
    rdma_addresses: tuple[str, ...]

    @property
    def full_name(self) -> str:
        """Return ``namespace/name``."""
        return f"{self.namespace}/{self.name}"

    @property
    def is_there(self) -> bool:
        """True unless it has ended or is being deleted."""
        return not self.terminating and self.phase not in _ENDED

    def places(self, backend: str) -> tuple[str, ...]:
        """Return the addresses under which a backend's watcher may list it; empty: not known.

        HPKV is listed by its RDMA address, which only an annotation tells from outside.
        """
        return self.rdma_addresses if backend == "hpkv" else self.addresses


def parse_pod(pod: Mapping[str, Any]) -> PoolPod:
    """Return what a pod object says; it must carry the label of a pool."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    terminating = bool(metadata.get("deletionTimestamp"))
    phase = str(status.get("phase", "Unknown"))
    is_ready = conditions.get("Ready", {}).get("status") == "True"
    ready = is_ready and not terminating and phase == "Running"
    addresses = [one.get("ip") for one in status.get("podIPs") or ()] or [status.get("podIP")]
    return PoolPod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        pool=metadata["labels"][POOL_LABEL],
        role=metadata["labels"].get(ROLE_LABEL, ""),
        node=(pod.get("spec") or {}).get("nodeName", ""),
        phase=phase,
        terminating=terminating,
        ready=ready,
        trouble="" if ready else _trouble(status, conditions, phase, terminating=terminating),
        addresses=tuple(address for address in addresses if address),
        rdma_addresses=_rdma(metadata.get("annotations") or {}),
    )


def _trouble(
    status: Mapping[str, Any],
    conditions: Mapping[str, Mapping[str, Any]],
    phase: str,
    *,
    terminating: bool,
) -> str:
    """Return why a pod is not ready, in the words that are nearest to the cause."""
    if terminating:
        return "being deleted"
    if phase in _ENDED:
        return _joined(phase, status.get("reason"))
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting")
        if waiting:
            return _joined(waiting.get("reason"), waiting.get("message"))
    for name in ("PodScheduled", "Ready"):
        condition = conditions.get(name)
        if condition and condition.get("status") != "True" and condition.get("reason"):
            return _joined(condition["reason"], condition.get("message"))
    return "not ready" if phase == "Running" else phase


def _joined(*parts: str | None) -> str:
    return ": ".join(part for part in parts if part) or "not ready"


def _rdma(annotations: Mapping[str, str]) -> tuple[str, ...]:
    """Return the addresses on networks named ``rdma``; empty where none can be read."""
    try:
        networks = json.loads(annotations.get(_RDMA_NETWORKS) or "[]")
        return tuple(
            str(address).strip()
            for network in networks
            if network.get("cniName") == "rdma"
            for address in (network.get("deviceInfo") or {}).get("ips") or ()
        )
    except (ValueError, TypeError, AttributeError):
        return ()
