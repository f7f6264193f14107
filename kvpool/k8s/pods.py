"""One pod of a cache pool: which part it plays, where it is, and whether it can work.

Source of labels and annotations: AIBrix 0.7, ``pkg/constants/kvcache.go`` and
``cmd/kvcache-watcher``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cluster.labels import KV_POOL, KV_ROLE
from cluster.pods import ENDED, is_leaving, is_ready, why_not_ready

Role = Literal["cache", "metadata", "kvwatcher"]
ROLES: tuple[Role, ...] = ("cache", "metadata", "kvwatcher")
_RDMA_NETWORKS = "k8s.volcengine.com/network-status"


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
        return not self.terminating and self.phase not in ENDED

    def places(self, backend: str) -> tuple[str, ...]:
        """Return the addresses under which a backend's watcher may list it; empty: not known.

        HPKV is listed by its RDMA address, which only an annotation tells from outside.
        """
        return self.rdma_addresses if backend == "hpkv" else self.addresses


def parse_pod(pod: Mapping[str, Any]) -> PoolPod:
    """Return what a pod object says; it must carry the label of a pool."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    ready = is_ready(pod)
    addresses = [one.get("ip") for one in status.get("podIPs") or ()] or [status.get("podIP")]
    return PoolPod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        pool=metadata["labels"][KV_POOL],
        role=metadata["labels"].get(KV_ROLE, ""),
        node=(pod.get("spec") or {}).get("nodeName", ""),
        phase=str(status.get("phase", "Unknown")),
        terminating=is_leaving(pod),
        ready=ready,
        trouble="" if ready else why_not_ready(pod),
        addresses=tuple(address for address in addresses if address),
        rdma_addresses=_rdma(metadata.get("annotations") or {}),
    )


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
