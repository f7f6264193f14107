"""How many GPUs of each type a cluster has to plan with.

Allocatable GPUs of the nodes that can be used, less what pods of others request there. GPUs that
the planned workloads hold themselves count as available: a plan decides anew about all of these.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.api import ALL, Api
from cluster.devices import accelerator_of, product_of, requested, whole_devices
from cluster.kinds import NODE, POD
from cluster.nodes import complaints
from optimizer.fleet.workloads import Workload


@dataclass(frozen=True)
class LeftOut:
    """A node whose GPUs do not count, and why."""

    node: str
    gpus: int
    reason: str


@dataclass(frozen=True)
class Capacity:
    """The GPUs of one accelerator.

    Attributes:
        accelerator: its name in ``accelerators``.
        nodes: how many count.
        gpus: allocatable on these.
        taken: of those, requested by pods of others.
        left_out: nodes that do not count.
    """

    accelerator: str
    nodes: int
    gpus: int
    taken: int
    left_out: tuple[LeftOut, ...]

    @property
    def available(self) -> int:
        """Return the GPUs that a plan may use."""
        return self.gpus - self.taken

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "nodes": self.nodes,
            "allocatable_gpus": self.gpus,
            "taken_gpus": self.taken,
            "available_gpus": self.available,
            "left_out": [vars(node) for node in self.left_out],
        }


@dataclass(frozen=True)
class Inventory:
    """All accelerators of a cluster.

    Attributes:
        capacities: by accelerator.
        unknown: nodes with GPUs whose type is not known, by what their label says.
    """

    capacities: Mapping[str, Capacity]
    unknown: Mapping[str, int]

    def of(self, accelerator: str) -> Capacity:
        """Return the capacity of an accelerator; zero where no node has it."""
        return self.capacities.get(accelerator) or Capacity(accelerator, 0, 0, 0, ())


@dataclass
class _Node:
    name: str
    accelerator: str
    gpus: int
    reason: str | None
    taken: int = 0


@dataclass
class _Nodes:
    known: dict[str, _Node] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def read_inventory(api: Api, ours: Sequence[Workload]) -> Inventory:
    """List nodes and pods, a page in memory at a time.

    Args:
        api: the cluster.
        ours: workloads whose pods do not take GPUs away, for they are what is planned.

    Raises:
        ClusterError: the server refuses or fails.
    """
    nodes = _read_nodes(api)
    alive = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"
    for pod in api.list(POD, ALL, fields=alive):
        node = nodes.known.get(pod["spec"]["nodeName"])
        if node is not None and not any(workload.runs(pod) for workload in ours):
            node.taken += requested(pod["spec"])
    return Inventory(_capacities(nodes.known.values()), dict(sorted(nodes.unknown.items())))


def _read_nodes(api: Api) -> _Nodes:
    nodes = _Nodes()
    named: dict[str, str | None] = {}
    for node in api.list(NODE):
        gpus = whole_devices((node.get("status") or {}).get("allocatable") or {})
        if not gpus:
            continue
        product = product_of(node)
        if product is not None and product not in named:
            named[product] = accelerator_of(product)
        accelerator = named.get(product) if product else None
        if accelerator is None:
            nodes.unknown[product or "no product label"] += 1
            continue
        name = node["metadata"]["name"]
        nodes.known[name] = _Node(name, accelerator, gpus, next(iter(complaints(node)), None))
    return nodes


def _capacities(nodes: Iterable[_Node]) -> dict[str, Capacity]:
    groups: dict[str, list[_Node]] = defaultdict(list)
    for node in nodes:
        groups[node.accelerator].append(node)
    return {name: _capacity(name, members) for name, members in sorted(groups.items())}


def _capacity(accelerator: str, nodes: Sequence[_Node]) -> Capacity:
    usable = [node for node in nodes if node.reason is None]
    left_out = [LeftOut(n.name, n.gpus, n.reason) for n in nodes if n.reason is not None]
    return Capacity(
        accelerator=accelerator,
        nodes=len(usable),
        gpus=sum(node.gpus for node in usable),
        # A node whose device has failed may have more requested than it still offers.
        taken=sum(min(node.taken, node.gpus) for node in usable),
        left_out=tuple(left_out),
    )
