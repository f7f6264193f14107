"""A cache pool in a real API server, where tests play controller, kubelet and watcher."""

import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import redis

from cluster.api import Api, Object
from cluster.kinds import KV_CACHE, NODE, POD
from cluster.labels import KV_POOL, KV_ROLE

BACKEND = "kvcache.orchestration.aibrix.ai/backend"
SLOTS = ((0, 2047), (2048, 4095))


def network() -> str:
    """Return the start of addresses that no other pod of the server has."""
    return ".".join(["10", *(str(byte) for byte in secrets.token_bytes(2))])


@dataclass
class World:
    """One pool ``kv``: its resource, two cache pods, its Redis, its watcher, and the slot map.

    Attributes:
        net: its pods are at ``NET.1`` and ``NET.2``.
        client: of the Redis that plays the pool's own.
    """

    api: Api
    client: "redis.Redis"
    port: int
    backend: str = "infinistore"
    net: str = field(default_factory=network)
    name: str = "kv"
    nodes: list[str] = field(default_factory=list)

    @property
    def external(self) -> dict[str, Any]:
        """Return metadata that is kept in the test's Redis."""
        return {"redis": {"externalConnection": {"address": f"127.0.0.1:{self.port}"}}}

    @property
    def key(self) -> str:
        return {"infinistore": "kvcache_nodes", "hpkv": "hpkv_cluster_metadata"}[self.backend]

    def build(self, *, watcher: Any = None, metadata: Any = None) -> "World":
        """Make all of it, sound."""
        self.resource(watcher=watcher, metadata=metadata)
        self.service()
        for number in (0, 1):
            self.pod(f"{self.name}-{number}", "cache", f"{self.net}.{number + 1}")
        self.pod(f"{self.name}-redis", "metadata", f"{self.net}.3")
        self.pod(f"{self.name}-kvcache-watcher-pod", "kvwatcher", f"{self.net}.4")
        self.write_map()
        return self

    def resource(self, *, watcher: Any = None, metadata: Any = None, replicas: int = 2) -> None:
        spec = {
            "metadata": metadata or {"redis": {"runtime": {"image": "redis:7"}}},
            "cache": {"image": "infinistore", "replicas": replicas},
            **({"watcher": watcher or {"image": "watcher"}} if watcher is not False else {}),
        }
        self.api.create(
            {
                "apiVersion": "orchestration.aibrix.ai/v1alpha1",
                "kind": "KVCache",
                "metadata": {"name": self.name, "annotations": {BACKEND: self.backend}},
                "spec": spec,
            }
        )

    def service(self) -> None:
        """Make the Service of its Redis, as the controller does."""
        labels = {KV_POOL: self.name, KV_ROLE: "metadata"}
        self.api.create(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": f"{self.name}-redis", "labels": labels},
                "spec": {"selector": labels, "ports": [{"port": 6379}]},
            }
        )

    def pod(
        self,
        name: str,
        role: str,
        address: str | None,
        *,
        node: str = "",
        ready: bool = True,
        annotations: dict[str, str] | None = None,
        status: dict[str, Any] | None = None,
    ) -> Object:
        """Make a pod, and write its status as a kubelet would."""
        labels = {KV_POOL: self.name, KV_ROLE: role}
        spec: dict[str, Any] = {"containers": [{"name": "c", "image": "i"}]}
        spec["nodeName"] = node or "a-node"
        head = {"name": name, "labels": labels, "annotations": annotations or {}}
        self.api.create({"apiVersion": "v1", "kind": "Pod", "metadata": head, "spec": spec})
        return self.status(name, address, ready=ready, **(status or {}))

    def status(self, name: str, address: str | None, *, ready: bool = True, **more: Any) -> Object:
        reason = {} if ready else {"reason": "ContainersNotReady", "message": "probe failed"}
        status = {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}] if address else [],
            "conditions": [{"type": "Ready", "status": "True" if ready else "False", **reason}],
            **more,
        }
        return self.api.patch(POD, name, {"status": status}, subresource="status")

    def node(
        self, *conditions: tuple[str, str, str], cordoned: bool = False, name: str = ""
    ) -> str:
        """Make a node with conditions (type, status, reason); return its name."""
        name = name or f"gpu-{secrets.token_hex(4)}"
        self.nodes.append(name)
        api_conditions = [
            {"type": kind, "status": status, "reason": reason}
            for kind, status, reason in conditions
        ]
        head = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
        self.api.create({**head, "spec": {"unschedulable": cordoned}})
        self.api.patch(NODE, name, {"status": {"conditions": api_conditions}}, subresource="status")
        return name

    def write_map(
        self,
        hosts: Sequence[str] = (),
        slots: Sequence[Sequence[tuple[int, int]]] = tuple((one,) for one in SLOTS),
    ) -> None:
        """Write the slot map as the watcher does."""
        nodes = [
            {
                "name": f"{self.name}-{number}",
                "addr": host,
                "port": 12345,
                "slots": [{"start": start, "end": end} for start, end in ranges],
            }
            for number, (host, ranges) in enumerate(
                zip(hosts or (f"{self.net}.1", f"{self.net}.2"), slots, strict=True)
            )
        ]
        self.client.set(self.key, json.dumps({"nodes": nodes, "version": 1}))


@contextmanager
def world_of(api: Api, port: int) -> Iterator[World]:
    """Give a pool that is not built yet; at the end nothing is left that other tests see."""
    with redis.Redis(port=port) as client:
        client.flushall()
        made = World(api, client, port)
        made.node(("Ready", "True", "KubeletReady"), name="a-node")
        yield made
        for resource in list(api.list(KV_CACHE)):
            api.delete(KV_CACHE, resource["metadata"]["name"])
        for node in made.nodes:
            api.delete(NODE, node)
