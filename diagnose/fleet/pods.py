"""The pods of workloads: the few fields that matter, by the group they belong to."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cluster.api import Object
from cluster.jobs import pod_trouble

_ROLE_SET, _ROLE = "roleset-name", "role-name"
_POD_SET = "stormservice.orchestration.aibrix.ai/podset-name"
_NUMBER = "stormservice.orchestration.aibrix.ai/pod-group-index"
_RAY, _RAY_TYPE, _RAY_GROUP = "ray.io/cluster", "ray.io/node-type", "ray.io/group"
_KV, _KV_ROLE = (f"kvcache.orchestration.aibrix.ai/{name}" for name in ("name", "role"))


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
    metadata, status = obj["metadata"], obj.get("status", {})
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    ready = conditions.get("Ready", {})
    leaving = bool(metadata.get("deletionTimestamp"))
    number = (metadata.get("labels") or {}).get(_NUMBER, "")
    whole = ready.get("status") == "True" and not leaving
    return Pod(
        metadata["name"],
        whole,
        obj.get("spec", {}).get("nodeName"),
        None if whole else "it is being deleted" if leaving else _why(obj, status, ready),
        int(number) if number.isdigit() else None,
    )


def _why(obj: Object, status: Mapping[str, Any], ready: Mapping[str, Any]) -> str:
    said = pod_trouble(obj)
    if said is None and ready.get("reason"):
        said = f"{ready['reason']}: {ready.get('message', 'no message')}"
    return said or f"phase {status.get('phase', 'unknown')}"


def _keys(metadata: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the keys of the groups that a pod is in, by its labels and its owner."""
    labels: Mapping[str, str] = metadata.get("labels") or {}
    namespace = metadata["namespace"]
    if _ROLE_SET in labels and _ROLE in labels:
        yield "role", namespace, labels[_ROLE_SET], labels[_ROLE]
    if _POD_SET in labels:
        yield "podset", namespace, labels[_POD_SET]
    if _RAY in labels:
        head = labels.get(_RAY_TYPE) == "head"
        yield "ray", namespace, labels[_RAY], "head" if head else labels.get(_RAY_GROUP, "")
    if _KV in labels:
        yield "kv", namespace, labels[_KV], labels.get(_KV_ROLE, "")
    template = labels.get("pod-template-hash")
    for owner in metadata.get("ownerReferences") or ():
        if template and owner.get("kind") == "ReplicaSet":
            yield "deployment", namespace, owner["name"].removesuffix(f"-{template}")
