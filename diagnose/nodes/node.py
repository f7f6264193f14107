"""What the tool needs to know of a node, taken from its object."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cluster import nodes
from cluster.api import FIELD_MANAGER, Api, Object
from cluster.devices import product_of
from cluster.kinds import NODE
from cluster.objects import conditions, said

RECORD = "aibrixctl/applied"
"""Annotation: what we changed on the node, with what stood there before."""

Family = Literal["nvidia", "ascend"]
_PREFIXES: tuple[tuple[str, Family | None], ...] = (
    ("nvidia.com/gpu", "nvidia"),
    ("nvidia.com/mig-", "nvidia"),
    ("huawei.com/Ascend", "ascend"),
    ("amd.com/gpu", None),
    ("gpu.intel.com/", None),
    ("habana.ai/gaudi", None),
    ("google.com/tpu", None),
)
"""Resources of device plugins; None where there is no diagnosis for what they give."""


@dataclass(frozen=True)
class Node:
    """A node with accelerators.

    Attributes:
        name, version: of the object.
        product: as the node's labels have it.
        accelerators: resource to number, as the device plugins register them (capacity).
        families: whose diagnosis applies; empty when there is none for what it has.
        ready: whether its kubelet says that it is.
        silent: why nothing can run there; None while its kubelet reports.
        cordoned: whether it is closed for new pods.
        cordoned_by_us: whether that is still the state that we wrote.
        tainted: whether our taint is on it.
        taints: all of them.
        condition: AcceleratorHealthy; None where it was never written.
        complaints: all that speaks against using it, its accelerators first.
        record: text of the annotation; None without one.
    """

    name: str
    version: str
    product: str | None
    accelerators: Mapping[str, int]
    families: tuple[Family, ...]
    ready: bool
    silent: str | None
    cordoned: bool
    cordoned_by_us: bool
    tainted: bool
    taints: tuple[Mapping[str, Any], ...]
    condition: Mapping[str, Any] | None
    complaints: tuple[str, ...]
    record: str | None

    @property
    def available(self) -> bool:
        """Whether it takes new work."""
        return self.ready and not self.cordoned and not self.tainted


def node_of(obj: Object) -> Node | None:
    """Return a node's state; None when nothing says that it has an accelerator.

    The capacity is asked and the labels, not what is allocatable now: a device plugin withdraws
    the devices that it finds sick.
    """
    metadata, spec, status = obj["metadata"], obj.get("spec", {}), obj.get("status", {})
    labels = metadata.get("labels") or {}
    counts, families = _accelerators(status.get("capacity") or {}, labels)
    if not counts and not families:
        return None
    found = conditions(obj)
    ready = found.get("Ready", {})
    return Node(
        name=metadata["name"],
        version=metadata["resourceVersion"],
        product=product_of(obj),
        accelerators=counts,
        families=families,
        ready=ready.get("status") == "True",
        silent=said(ready) if ready.get("status") == "Unknown" else None,
        cordoned=bool(spec.get("unschedulable")),
        cordoned_by_us=_owns_cordon(metadata.get("managedFields") or ()),
        tainted=nodes.is_tainted(obj),
        taints=tuple(spec.get("taints") or ()),
        condition=found.get(nodes.ACCELERATOR_HEALTHY),
        complaints=nodes.complaints(obj),
        record=(metadata.get("annotations") or {}).get(RECORD),
    )


def read(api: Api, labels: str = "") -> Iterator[Node]:
    """Yield the nodes with accelerators by name; raises ClusterError."""
    found = (node_of(obj) for obj in api.list(NODE, labels=labels))
    yield from sorted((one for one in found if one is not None), key=lambda one: one.name)


def _accelerators(
    capacity: Mapping[str, str], labels: Mapping[str, str]
) -> tuple[dict[str, int], tuple[Family, ...]]:
    counts: dict[str, int] = {}
    families: set[Family] = set()
    for resource, text in sorted(capacity.items()):
        for prefix, family in _PREFIXES:
            if resource.startswith(prefix):
                counts[resource] = int(text) if text.isdigit() else 0
                families |= {family} if family else set()
    if any(name in labels for name in ("nvidia.com/gpu.product", "nvidia.com/gpu.present")):
        families.add("nvidia")
    if labels.get("accelerator", "").startswith("huawei-Ascend"):
        families.add("ascend")
    return counts, tuple(sorted(families))


def _owns_cordon(managed: Any) -> bool:
    return any(
        entry.get("manager") == FIELD_MANAGER
        and "f:unschedulable" in entry.get("fieldsV1", {}).get("f:spec", {})
        for entry in managed
    )
