"""A KVCache resource with its pods: what it wants, what it has, and where its metadata is.

No controller writes the resource's status, so everything is told by the pods. Source: AIBrix 0.7,
``pkg/controller/kvcache``.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from kvpool.k8s.pods import ROLES, PoolPod, Role
from kvpool.url import PoolUrl

MAP_KEYS: Mapping[str, str] = {
    "infinistore": "kvcache_nodes",
    "hpkv": "hpkv_cluster_metadata",
}
"""Under which key of Redis the watcher of a backend keeps the slot map."""
_BACKEND = "kvcache.orchestration.aibrix.ai/backend"
_OLD_MODE = "kvcache.orchestration.aibrix.ai/mode"
_DEFAULT_BACKEND = "vineyard"
_REDIS_PORT = 6379
_SERVICE_NAME = re.compile(r"([^.]+)\.([^.]+)\.svc(\..*)?")
Store = Literal["redis", "etcd"]


@dataclass(frozen=True)
class Metadata:
    """Where a pool keeps its metadata.

    Attributes:
        store: what keeps it.
        external: whether it belongs to others, so that no pod of the pool runs it.
        host, port: as clients in the cluster reach it; empty and 0 where they are not known.
        database: number, for Redis.
        service_address: of the pool's own Service in front of it, which needs no name server.
    """

    store: Store
    external: bool
    host: str = ""
    port: int = 0
    database: int = 0
    service_address: str = ""

    @property
    def address(self) -> str | None:
        """Return ``host:port``; None where it is not known."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.host else None

    @property
    def service(self) -> tuple[str, str] | None:
        """Return namespace and name of the Service that the host names; None for others."""
        named = _SERVICE_NAME.fullmatch(self.host)
        return (named[2], named[1]) if named else None


@dataclass(frozen=True)
class Count:
    """Pods of one role: asked for, there (neither ended nor being deleted), and ready."""

    wanted: int
    present: int
    ready: int


@dataclass(frozen=True)
class CachePool:
    """A KVCache resource and the pods that carry its label.

    Attributes:
        mode: ``distributed`` or ``centralized``.
        backend: by its annotation.
        wanted: pods by role.
        metadata: None where the resource names none.
        pods: all that carry the label, sorted by name.
    """

    namespace: str
    name: str
    mode: str
    backend: str
    wanted: Mapping[Role, int]
    metadata: Metadata | None
    pods: tuple[PoolPod, ...] = ()

    @property
    def full_name(self) -> str:
        """Return ``namespace/name``."""
        return f"{self.namespace}/{self.name}"

    @property
    def map_url(self) -> PoolUrl | None:
        """Return the address of the slot map; None where there is none, or nobody knows it."""
        key, at = MAP_KEYS.get(self.backend), self.metadata
        if key is None or at is None or at.store != "redis" or not at.host:
            return None
        return PoolUrl("aibrix+redis", at.host, at.port, database=at.database, options={"key": key})

    @property
    def url(self) -> str | None:
        """Return what other commands take for this pool; None where there is no such thing."""
        if self.backend == _DEFAULT_BACKEND:
            # The controller mounts this folder of the node at /var/run of its pods.
            folder = f"/var/run/vineyard-kubernetes/{self.namespace}/{self.name}"
            return str(PoolUrl("vineyard", path=f"{folder}/vineyard.sock"))
        return str(self.map_url) if self.map_url else None

    @property
    def data(self) -> str:
        """Return how its blocks can be reached, as a sentence's end."""
        if self.backend in MAP_KEYS:
            return "over RDMA only: commands see which node has which slots, and no blocks"
        if self.backend == _DEFAULT_BACKEND:
            return "on a node that runs one of its pods, by the socket there"
        return f"not known for a backend named {self.backend!r}"

    def of(self, role: Role) -> tuple[PoolPod, ...]:
        """Return the pods of a role."""
        return tuple(pod for pod in self.pods if pod.role == role)

    def count(self, role: Role) -> Count:
        """Return how many pods of a role are wanted, there and ready."""
        pods = [pod for pod in self.of(role) if pod.is_there]
        return Count(self.wanted[role], len(pods), sum(pod.ready for pod in pods))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        at = self.metadata
        return {
            "namespace": self.namespace,
            "name": self.name,
            "mode": self.mode,
            "backend": self.backend,
            **{role: vars(self.count(role)) for role in ROLES},
            "metadata_store": at.store if at else None,
            "metadata_address": at.address if at else None,
            "metadata_external": at.external if at else None,
            "url": self.url,
            "data": self.data,
        }


def parse_pool(
    resource: Mapping[str, Any],
    pods: Iterable[PoolPod] = (),
    services: Iterable[Mapping[str, Any]] = (),
) -> CachePool:
    """Return a KVCache resource with its pods.

    Args:
        resource: the object.
        pods: that carry its label, in its namespace.
        services: in front of its metadata.
    """
    head, spec = resource["metadata"], resource.get("spec") or {}
    annotations = head.get("annotations") or {}
    backend = annotations.get(_BACKEND) or (
        "infinistore" if annotations.get(_OLD_MODE) == "distributed" else _DEFAULT_BACKEND
    )
    metadata = _metadata(head["namespace"], spec, list(services))
    return CachePool(
        head["namespace"],
        head["name"],
        spec.get("mode", "distributed"),
        backend,
        _wanted(spec, backend, metadata),
        metadata,
        tuple(sorted(pods, key=lambda pod: pod.name)),
    )


def _wanted(spec: Mapping[str, Any], backend: str, metadata: Metadata | None) -> dict[Role, int]:
    """Return how many pods the controller makes, which for Redis and watcher is one at most."""
    own = metadata is not None and not metadata.external
    etcd = ((spec.get("metadata") or {}).get("etcd") or {}).get("runtime") or {}
    etcd_pods = int(etcd.get("replicas", 1))
    watched = backend in MAP_KEYS and spec.get("watcher") is not None
    return {
        "cache": int((spec.get("cache") or {}).get("replicas", 1)),
        "metadata": (1 if metadata.store == "redis" else etcd_pods) if metadata and own else 0,
        "kvwatcher": int(watched),
    }


def _metadata(
    namespace: str, spec: Mapping[str, Any], services: list[Mapping[str, Any]]
) -> Metadata | None:
    stores: tuple[Store, ...] = ("redis", "etcd")
    stated = spec.get("metadata") or {}
    store = next((name for name in stores if stated.get(name) is not None), None)
    if store is None:
        return None
    watcher = (spec.get("watcher") or {}).get("env") or ()
    settings = {one["name"]: one.get("value") for one in watcher} if store == "redis" else {}
    number = settings.get("REDIS_DATABASE") or "0"
    database = int(number) if number.isdecimal() else 0
    external = (stated[store].get("externalConnection") or {}).get("address")
    own = {f"{one['metadata']['name']}.{namespace}.svc": one["spec"] for one in services}
    # The watcher's own variable comes last in its pod, and the last one holds.
    given = settings.get("REDIS_ADDR") or external
    if given:
        host, port = _host_and_port(given, namespace)
    else:
        host = min(own, default="")
        ports: list[Mapping[str, Any]] = own.get(host, {}).get("ports") or [{}]
        port = int(ports[0].get("port", _REDIS_PORT)) if host else 0
    address = own.get(host, {}).get("clusterIP") or ""
    return Metadata(
        store,
        external=stated[store].get("runtime") is None,
        host=host,
        port=port,
        database=database,
        service_address="" if address == "None" else address,
    )


def _host_and_port(text: str, namespace: str) -> tuple[str, int]:
    """Return an address taken apart, a Service's name in its one form; empty where it is none."""
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        host, port = parts.hostname or "", parts.port or _REDIS_PORT
    except ValueError:
        return "", 0
    service = _SERVICE_NAME.fullmatch(host.rstrip("."))
    if service:
        return f"{service[1]}.{service[2]}.svc", port
    is_short = host and "." not in host and ":" not in host and host != "localhost"
    return (f"{host}.{namespace}.svc" if is_short else host), port
