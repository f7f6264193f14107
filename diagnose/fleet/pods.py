"""The pods of workloads: the few fields that matter, by the group they belong to."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cluster import labels
from cluster.api import Object
from cluster.pods import is_ready, why_not_ready

_RAY, _RAY_TYPE, _RAY_GROUP = "ray.io/cluster", "ray.io/node-type", "ray.io/group"


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod.

    Attributes:
        name: of it.
        ready: whether it takes requests.
        node: where it runs; None before it is placed.
        why: what it waits for or died of; None when nothing says.
        number: within its group; None without one.
    """

    name: str
    ready: bool
    node: str | None
    why: str | None
    number: int | None


Pods = Mapping[tuple[str, ...], list[Pod]]
"""Pods by the key of their group."""


def by_group(objects: Iterable[Object]) -> Pods:
    """Return the pods of all groups; each object is let go before the next is taken."""
    found: dict[tuple[str, ...], list[Pod]] = defaultdict(list)
    for obj in objects:
        keys = list(_keys(obj["metadata"]))
        if keys and obj.get("status", {}).get("phase") != "Succeeded":
            pod = _pod(obj)
            for key in keys:
                found[key].append(pod)
    return found


def _pod(obj: Object) -> Pod:
    metadata = obj["metadata"]
    number = (metadata.get("labels") or {}).get(labels.POD_NUMBER, "")
    ready = is_ready(obj)
    return Pod(
        metadata["name"],
        ready,
        obj.get("spec", {}).get("nodeName"),
        None if ready else why_not_ready(obj),
        int(number) if number.isdigit() else None,
    )


def _keys(metadata: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the keys of the groups that a pod is in, by its labels and its owner."""
    own: Mapping[str, str] = metadata.get("labels") or {}
    namespace = metadata["namespace"]
    if labels.ROLE_SET in own and labels.ROLE in own:
        yield "role", namespace, own[labels.ROLE_SET], own[labels.ROLE]
    if labels.POD_SET in own:
        yield "podset", namespace, own[labels.POD_SET]
    if _RAY in own:
        head = own.get(_RAY_TYPE) == "head"
        yield "ray", namespace, own[_RAY], "head" if head else own.get(_RAY_GROUP, "")
    if labels.KV_POOL in own:
        yield "kv", namespace, own[labels.KV_POOL], own.get(labels.KV_ROLE, "")
    template = own.get("pod-template-hash")
    for owner in metadata.get("ownerReferences") or ():
        if template and owner.get("kind") == "ReplicaSet":
            yield "deployment", namespace, owner["name"].removesuffix(f"-{template}")
