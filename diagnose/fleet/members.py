"""Which members of a workload are missing or at risk, and on which node."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cluster.nodes import ACCELERATOR_HEALTHY
from diagnose.fleet.pods import Pod, Pods
from diagnose.fleet.workload import Group
from diagnose.nodes.node import Node

State = Literal["missing", "not ready", "at risk"]


@dataclass(frozen=True)
class Member:
    """One pod that is not as it should be.

    Attributes:
        group: to which it belongs.
        number: within the group; None where members have none.
        state: ``missing`` has no pod; ``at risk`` serves on a node with sick accelerators.
        pod, node: None where there is none.
        why: what the pod waits for or died of.
        node_says: what is wrong with the node; None when nothing is known to be.
    """

    group: str
    number: int | None
    state: State
    pod: str | None = None
    node: str | None = None
    why: str | None = None
    node_says: str | None = None


def members(groups: Sequence[Group], pods: Pods, nodes: Mapping[str, Node]) -> Iterator[Member]:
    """Yield what is wrong with the members of groups, in order."""
    for group in groups:
        there = pods.get(group.key, ())
        found = [*_there(group, there, nodes), *_missing(group, there)]
        yield from sorted(found, key=lambda one: (one.number or 0, one.pod is None, one.pod or ""))


def _there(group: Group, pods: Sequence[Pod], nodes: Mapping[str, Node]) -> Iterator[Member]:
    for pod in pods:
        node = nodes.get(pod.node or "")
        says = node.complaints[0] if node and node.complaints else None
        if not pod.ready:
            yield _of(group, pod, "not ready", says)
        elif says is not None and says.startswith(ACCELERATOR_HEALTHY):
            yield _of(group, pod, "at risk", says)


def _of(group: Group, pod: Pod, state: State, says: str | None) -> Member:
    return Member(group.title, pod.number, state, pod.name, pod.node, pod.why, says)


def _missing(group: Group, there: Sequence[Pod]) -> Iterator[Member]:
    if group.numbered:
        known = {pod.number for pod in there}
        for number in range(group.size):
            if number not in known:
                yield Member(group.title, number, "missing")
        return
    for _ in range(group.size - len(there)):
        yield Member(group.title, None, "missing")
