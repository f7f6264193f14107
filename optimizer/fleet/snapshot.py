"""What a plan sees of a cluster: replicas that run now, and GPUs that there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.api import Api
from cluster.namespaces import require_namespace
from optimizer.fleet.capacity import Inventory, read_inventory
from optimizer.fleet.workloads import Matched, match
from optimizer.problem import GpuType


@dataclass(frozen=True)
class Snapshot:
    """A cluster, as far as a plan is concerned.

    Attributes:
        host: URL of the API server.
        namespace: where types without a namespace were looked for.
        matched: types and workloads.
        inventory: GPUs; None where all availability was given, and nothing read.
        available_from: name of a limit to ``cluster`` or ``option``.
        available: limits on GPUs, the given ones over what the cluster says.
        unlimited: types whose accelerator isn't known, and for which no limit was given.
    """

    host: str
    namespace: str
    matched: Matched
    inventory: Inventory | None
    available_from: Mapping[str, str]
    available: Mapping[str, int]
    unlimited: tuple[str, ...] = ()

    @property
    def current(self) -> dict[str, int]:
        """Return replicas by type."""
        return {kind: workload.replicas for kind, workload in self.matched.of_type.items()}

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, as a plan keeps it."""
        inventory = self.inventory
        limited = sorted(n for n, origin in self.available_from.items() if origin == "cluster")
        return {
            "host": self.host,
            "namespace": self.namespace,
            "workloads": {k: w.to_json() for k, w in sorted(self.matched.of_type.items())},
            "without_workload": dict(sorted(self.matched.without_workload.items())),
            "without_type": [w.to_json() for w in self.matched.without_type],
            "available_from": dict(sorted(self.available_from.items())),
            "accelerators": {n: inventory.of(n).to_json() for n in limited} if inventory else {},
            "unknown_nodes": dict(inventory.unknown) if inventory else {},
        }

    def notes(self) -> tuple[str, ...]:
        """Return what a reader of the plan must know."""
        lines = [f"{kind}: {why}" for kind, why in sorted(self.matched.without_workload.items())]
        lines += [
            f"{workload.title} serves {workload.model} too, and no table stands for it"
            for workload in self.matched.without_type
        ]
        lines += [
            f"{kind}: {workload.ready} of {workload.replicas} replicas are ready"
            for kind, workload in sorted(self.matched.of_type.items())
            if workload.ready < workload.replicas
        ]
        lines += [
            f"{kind}: its accelerator is not known, so its GPUs are not limited; say how many "
            f"there are with --available {kind}=GPUS"
            for kind in self.unlimited
        ]
        if self.inventory:
            lines += [
                f"{count} node{'s' if count > 1 else ''} left out, their GPU type is not known: "
                f"{label}"
                for label, count in self.inventory.unknown.items()
            ]
        return tuple(lines)


def read_snapshot(
    api: Api,
    types: Sequence[GpuType],
    model: str | None,
    *,
    named: Mapping[str, str] | None = None,
    measured: Mapping[str, str] | None = None,
    given: Mapping[str, int] | None = None,
) -> Snapshot:
    """Read the cluster for a plan over types.

    Args:
        api: the cluster.
        types: of the problem.
        model: that is planned for.
        named: name of a type to ``[NAMESPACE/]NAME`` of its workload.
        measured: the same, of what its table was measured on.
        given: name of a type or an accelerator to GPUs, which count in place of the cluster's.

    Raises:
        OptimizerUsageError: as ``match``.
        NotFoundError: nothing was found, for there is no such namespace.
        ClusterError: the server refuses or fails.
    """
    given = given or {}
    matched = match(api, [kind.name for kind in types], model, named, measured)
    if not (matched.of_type or matched.without_type):
        require_namespace(api)
    asked = _open_accelerators(types, given)
    inventory = read_inventory(api, list(matched.of_type.values())) if asked else None
    found = {name: inventory.of(name).available for name in asked} if inventory else {}
    origins = dict.fromkeys(found, "cluster") | dict.fromkeys(given, "option")
    available = found | dict(given)
    unlimited = tuple(k.name for k in types if not k.accelerator and k.name not in given)
    return Snapshot(api.host, api.namespace, matched, inventory, origins, available, unlimited)


def _open_accelerators(types: Sequence[GpuType], given: Mapping[str, int]) -> tuple[str, ...]:
    """Return the accelerators that some type uses without a limit that was given."""
    return tuple(
        sorted(
            {
                kind.accelerator
                for kind in types
                if kind.accelerator and not {kind.accelerator, kind.name} & given.keys()
            }
        )
    )
