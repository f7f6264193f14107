"""Ask the API server for the cache pools that there are."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from cluster.api import Api, Where
from cluster.errors import NotFoundError
from cluster.kinds import KV_CACHE, POD, SERVICE
from cluster.labels import KV_POOL, KV_ROLE
from cluster.namespaces import require_namespace
from kvpool.k8s.pods import PoolPod, parse_pod
from kvpool.k8s.resources import CachePool, parse_pool

_ETCD_MEMBER = "kvcache.orchestration.aibrix.ai/etcd-index"
_Named = tuple[str, str]


def list_pools(api: Api, namespace: Where = None) -> tuple[CachePool, ...]:
    """Return every KVCache resource with its pods, sorted by namespace and name.

    Args:
        api: of the cluster.
        namespace: one, ALL, or that of the connection.

    Raises:
        NotFoundError: the cluster does not know such resources, or has no such namespace.
        ClusterError: the server refuses or fails.
    """
    resources = list(api.list(KV_CACHE, namespace))
    if not resources:
        require_namespace(api, namespace)
        return ()
    pods = _by_pool(api.list(POD, namespace, labels=KV_POOL))
    services = _by_pool(api.list(SERVICE, namespace, labels=_in_front()))
    pools = [
        parse_pool(resource, map(parse_pod, pods[name]), services[name])
        for resource in resources
        for name in [_name_of(resource)]
    ]
    return tuple(sorted(pools, key=lambda pool: (pool.namespace, pool.name)))


def find_pool(api: Api, name: str, namespace: str | None = None) -> CachePool:
    """Return one KVCache resource with its pods.

    Raises:
        NotFoundError: there is none of that name, or the cluster does not know such resources.
        ClusterError: the server refuses or fails.
    """
    within = namespace or api.namespace
    resource = api.find(KV_CACHE, name, within)
    if resource is None:
        raise NotFoundError(
            "kv.k8s.no_pool",
            f"there is no KVCache resource {name!r} in namespace {within}",
            hint="`aibrixctl kv pools -A` lists those that there are",
            target=f"{within}/{name}",
        )
    pods = api.list(POD, within, labels=f"{KV_POOL}={name}")
    services = api.list(SERVICE, within, labels=f"{KV_POOL}={name},{_in_front()}")
    return parse_pool(resource, map(parse_pod, pods), services)


def list_cache_pods(api: Api, namespace: Where = None) -> tuple[PoolPod, ...]:
    """Return the pods of every pool that hold blocks."""
    labels = f"{KV_POOL},{KV_ROLE}=cache"
    return tuple(map(parse_pod, api.list(POD, namespace, labels=labels)))


def _in_front() -> str:
    """Select the Services in front of all members of a metadata store."""
    return f"{KV_POOL},{KV_ROLE}=metadata,!{_ETCD_MEMBER}"


def _name_of(obj: Mapping[str, Any]) -> _Named:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def _by_pool(objects: Iterable[Mapping[str, Any]]) -> dict[_Named, list[Mapping[str, Any]]]:
    found: dict[_Named, list[Mapping[str, Any]]] = defaultdict(list)
    for obj in objects:
        head = obj["metadata"]
        found[head["namespace"], head["labels"][KV_POOL]].append(obj)
    return found
