"""Look at everything that serves models in a cluster."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from cluster import kinds, labels
from cluster.api import Api, Where
from cluster.errors import ForbiddenError, NotFoundError
from cluster.namespaces import require_namespace
from diagnose.fleet.members import Member, members
from diagnose.fleet.pods import Pods, by_group
from diagnose.fleet.workload import Block, Workload, workload_of
from diagnose.nodes.node import Node
from diagnose.nodes.node import read as read_nodes

_SHOWN = (
    (kinds.STORM_SERVICE, ""),
    (kinds.ROLE_SET, ""),
    (kinds.POD_SET, ""),
    (kinds.RAY_CLUSTER_FLEET, ""),
    (kinds.RAY_CLUSTER_REPLICA_SET, ""),
    (kinds.RAY_CLUSTER, ""),
    (kinds.MODEL_ADAPTER, ""),
    (kinds.POD_AUTOSCALER, ""),
    (kinds.KV_CACHE, ""),
    (kinds.DEPLOYMENT, labels.MODEL),
)
"""Kinds in the order of the report, with the labels of those that are looked at."""


@dataclass(frozen=True)
class Surveyed:
    """A workload with its members that are missing, not ready or at risk.

    Attributes:
        workload: as its controller reports it.
        members: of all its groups, those of what it controls included.
        top: whether nothing else in the survey controls it.
    """

    workload: Workload
    members: tuple[Member, ...]
    top: bool


@dataclass(frozen=True)
class Fleet:
    """What there is.

    Attributes:
        workloads: in the order of kinds, then by namespace and name.
        notes: what could not be looked at, and why.
    """

    workloads: tuple[Surveyed, ...]
    notes: tuple[str, ...]

    @property
    def blocked(self) -> tuple[Workload, ...]:
        """The workloads that something keeps from being whole."""
        return tuple(one.workload for one in self.workloads if one.workload.blocks)


def survey(api: Api, namespace: Where = None) -> Fleet:
    """Return what serves models in a namespace, or in all.

    Types that the cluster does not know are left out with a note, nodes that may not be listed
    too. Pods are read a page at a time, and a few fields of each are kept.

    Raises:
        NotFoundError: there is no such namespace.
        ClusterError: the server refuses or fails.
    """
    unknown: list[str] = []
    found: list[Workload] = []
    for kind, selector in _SHOWN:
        try:
            objects = api.list(kind, namespace, labels=selector)
            found += sorted(map(workload_of, objects), key=lambda w: (w.namespace, w.name))
        except NotFoundError:
            unknown.append(kind.resource)
    if not found:
        require_namespace(api, namespace)
    notes = [f"the cluster has no {', '.join(unknown)}"] if unknown else []
    pods = by_group(api.list(kinds.POD, namespace)) if any(map(_has_pods, found)) else {}
    nodes: dict[str, Node] = {}
    try:
        nodes = {node.name: node for node in read_nodes(api)}
    except ForbiddenError as error:
        notes.append(f"nodes are not looked at: {error.message}")
    return Fleet(tuple(_surveyed(found, pods, nodes)), tuple(notes))


def _has_pods(workload: Workload) -> bool:
    return bool(workload.groups)


def _surveyed(
    found: Iterable[Workload], pods: Pods, nodes: Mapping[str, Node]
) -> Iterable[Surveyed]:
    by_owner: dict[str, list[Workload]] = defaultdict(list)
    known = set()
    for workload in found:
        known.add(workload.uid)
        if workload.owner is not None:
            by_owner[workload.owner].append(workload)
    for workload in found:
        if workload.kind == "RayCluster":  # KubeRay's; its groups count above it
            continue
        groups = [group for one in _with_controlled(workload, by_owner) for group in one.groups]
        counted = _counted(workload, pods) if workload.counts_pods else workload
        top = workload.owner not in known
        yield Surveyed(counted, tuple(members(groups, pods, nodes)), top)


def _with_controlled(
    workload: Workload, by_owner: Mapping[str, list[Workload]]
) -> Iterable[Workload]:
    yield workload
    for child in by_owner.get(workload.uid, ()):
        yield from _with_controlled(child, by_owner)


def _counted(workload: Workload, pods: Pods) -> Workload:
    """Return a workload with the pods counted that its controller does not count."""
    (group,) = workload.groups
    ready = sum(pod.ready for pod in pods.get(group.key, ()))
    wanted = workload.wanted or 0
    blocks = workload.blocks
    if ready < wanted:
        blocks += (Block("Replicas", "NotReady", f"{ready} of {wanted} cache pods are ready"),)
    return replace(workload, ready=ready, blocks=blocks)
