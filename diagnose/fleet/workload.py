"""One workload of AIBrix, taken from its object."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.api import Object

_NEGATIVE = frozenset({"ReplicaFailure", "MultiPodAutoscalerConflict"})
"""Conditions that are bad when they hold."""
_STALLED = "ProgressDeadlineExceeded"


@dataclass(frozen=True)
class Block:
    """What keeps a workload from being whole: a condition's type, reason and message."""

    condition: str
    reason: str
    message: str


@dataclass(frozen=True)
class Group:
    """Pods that belong together.

    Attributes:
        key: under which their pods are found.
        title: how people call it.
        size: how many there should be.
        numbered: whether its members have numbers from 0 on.
    """

    key: tuple[str, ...]
    title: str
    size: int
    numbered: bool = False


@dataclass(frozen=True)
class Workload:
    """One object.

    Attributes:
        kind, namespace, name, uid: of it.
        owner: uid of what controls it; None when it stands by itself.
        wanted, ready, updated: replicas, as its controller counts them; None where it does not.
        blocks: conditions that say why it is not whole.
        groups: its pods.
        counts_pods: its status is never written, so that its pods are counted.
    """

    kind: str
    namespace: str
    name: str
    uid: str
    owner: str | None
    wanted: int | None = None
    ready: int | None = None
    updated: int | None = None
    blocks: tuple[Block, ...] = ()
    groups: tuple[Group, ...] = ()
    counts_pods: bool = field(default=False, kw_only=True)


def workload_of(obj: Object) -> Workload:
    """Return the workload that an object is; its kind is one of those in ``READERS``."""
    metadata, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    owners = metadata.get("ownerReferences") or ()
    owner = next((one["uid"] for one in owners if one.get("controller")), None)
    kind, namespace, name = obj["kind"], metadata["namespace"], metadata["name"]
    counts, groups = READERS[kind](namespace, name, spec, status)
    wanted, ready, updated = counts
    judged = kind in _JUDGED_BY_CONDITIONS
    incomplete = wanted is not None and (ready or 0) < wanted
    found = tuple(_blocks(status.get("conditions") or (), positive=judged or incomplete))
    phase = status.get("phase")
    if not found and phase == "Failed":
        found = (Block("Phase", phase, "its controller gives no reason"),)
    if not found and incomplete and not judged and kind != "KVCache":
        found = (Block("Replicas", "NotReady", f"{ready or 0} of {wanted} are ready"),)
    return Workload(
        kind,
        namespace,
        name,
        metadata["uid"],
        owner,
        wanted,
        ready,
        updated,
        found,
        groups,
        counts_pods=kind == "KVCache",
    )


def _blocks(conditions: Iterable[Mapping[str, Any]], *, positive: bool) -> Iterator[Block]:
    for one in conditions:
        type_, status, reason = one["type"], one.get("status"), str(one.get("reason", ""))
        if type_ in _NEGATIVE:
            bad = status == "True"
        elif type_ == "Progressing":  # False also when there is nothing left to do
            bad = status == "False" and reason == _STALLED
        else:
            bad = positive and status == "False"
        if bad:
            yield Block(type_, reason, str(one.get("message", "")))


Counts = tuple[int | None, int | None, int | None]
_JUDGED_BY_CONDITIONS = frozenset({"PodAutoscaler", "ModelAdapter"})


def _replicas(spec: Mapping[str, Any], status: Mapping[str, Any]) -> Counts:
    ready, updated = status.get("readyReplicas", 0), status.get("updatedReplicas", 0)
    return spec.get("replicas", 1), ready, updated


def _storm_service(namespace: str, name: str, spec: Any, status: Any) -> Any:
    return _replicas(spec, status), ()


def _role_set(namespace: str, name: str, spec: Any, status: Any) -> Any:
    """Return counts over all roles; a role of several nodes has its pods in PodSets."""
    roles, found = spec.get("roles") or (), status.get("roles") or ()
    wanted = sum(role.get("replicas", 1) for role in roles)
    ready = sum(role.get("readyReplicas", 0) for role in found)
    updated = sum(role.get("updatedReplicas", 0) for role in found)
    groups = tuple(
        Group(("role", namespace, name, role["name"]), f"role {role['name']}",
              role.get("replicas", 1))
        for role in roles if role.get("podGroupSize", 1) <= 1
    )  # fmt: skip
    return (wanted, ready, updated), groups


def _pod_set(namespace: str, name: str, spec: Any, status: Any) -> Any:
    size = spec["podGroupSize"]
    group = Group(("podset", namespace, name), f"PodSet {name}", size, numbered=True)
    return (size, status.get("readyPods", 0), None), (group,)


def _ray_replica_set(namespace: str, name: str, spec: Any, status: Any) -> Any:
    return (spec.get("replicas", 1), status.get("readyReplicas", 0), None), ()


def _ray_cluster(namespace: str, name: str, spec: Any, status: Any) -> Any:
    """Return the groups of a Ray cluster, KubeRay's object below AIBrix's: a head, and workers."""
    if spec.get("suspend"):
        return (None, None, None), ()
    groups = [Group(("ray", namespace, name, "head"), f"RayCluster {name} head", 1)]
    for workers in spec.get("workerGroupSpecs") or ():
        size = workers.get("replicas", workers.get("minReplicas", 0)) * workers.get("numOfHosts", 1)
        title = f"RayCluster {name} {workers['groupName']}"
        groups.append(Group(("ray", namespace, name, workers["groupName"]), title, size))
    return (None, None, None), tuple(groups)


def _model_adapter(namespace: str, name: str, spec: Any, status: Any) -> Any:
    wanted = status.get("desiredReplicas") or spec.get("replicas", 1)
    return (wanted, status.get("readyReplicas", 0), None), ()


def _pod_autoscaler(namespace: str, name: str, spec: Any, status: Any) -> Any:
    return (status.get("desiredScale"), status.get("actualScale"), None), ()


def _kv_cache(namespace: str, name: str, spec: Any, status: Any) -> Any:
    """Return what is wanted; no controller writes the status of a KVCache."""
    wanted = (spec.get("cache") or {}).get("replicas", 1)
    return (wanted, None, None), (Group(("kv", namespace, name, "cache"), "cache", wanted),)


def _deployment(namespace: str, name: str, spec: Any, status: Any) -> Any:
    wanted = spec.get("replicas", 1)
    return _replicas(spec, status), (Group(("deployment", namespace, name), "pods", wanted),)


READERS: Mapping[str, Any] = {
    "StormService": _storm_service,
    "RoleSet": _role_set,
    "PodSet": _pod_set,
    "RayClusterFleet": lambda namespace, name, spec, status: (_replicas(spec, status), ()),
    "RayClusterReplicaSet": _ray_replica_set,
    "RayCluster": _ray_cluster,
    "ModelAdapter": _model_adapter,
    "PodAutoscaler": _pod_autoscaler,
    "KVCache": _kv_cache,
    "Deployment": _deployment,
}
"""By kind: from namespace, name, spec and status to the counts and the groups of pods."""
