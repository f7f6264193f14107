"""Autoscalers of a namespace, and what they scale: they would undo what a rollout writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.api import Api, Object, Where
from cluster.errors import NotFoundError
from cluster.kinds import HORIZONTAL_POD_AUTOSCALER, POD_AUTOSCALER

_AUTOSCALERS = ("autoscal", "kube-controller-manager", "aibrix-controller", "keda")
"""Parts of the names under which autoscalers write."""


@dataclass(frozen=True)
class Autoscaler:
    """A PodAutoscaler or a HorizontalPodAutoscaler, and the object it was read from."""

    object: Object

    @property
    def kind(self) -> str:
        """Return its kind."""
        return str(self.object["kind"])

    @property
    def name(self) -> str:
        """Return its name."""
        return str(self.object["metadata"]["name"])

    @property
    def title(self) -> str:
        """Return ``podautoscaler default/foo``."""
        return f"{self.kind.lower()} {self.object['metadata']['namespace']}/{self.name}"

    @property
    def target(self) -> tuple[str, str, str]:
        """Return kind, namespace and name of what it scales, which is in its own namespace."""
        reference = self.object["spec"]["scaleTargetRef"]
        return (
            str(reference.get("kind", "")),
            str(self.object["metadata"]["namespace"]),
            str(reference.get("name", "")),
        )

    @property
    def minimum(self) -> int:
        """Return minReplicas; both kinds take 1 where it is absent."""
        return int(self.object["spec"].get("minReplicas", 1))

    @property
    def made_by(self) -> str | None:
        """Return the PodAutoscaler that made it, as those of strategy HPA do; None without."""
        owners = self.object["metadata"].get("ownerReferences") or []
        return next((o["name"] for o in owners if o["kind"].lower() == "podautoscaler"), None)


def read_autoscalers(api: Api, namespace: Where) -> list[Autoscaler]:
    """Return those of a namespace; a cluster without AIBrix has no PodAutoscalers.

    Raises:
        ClusterError: the server refuses or fails.
    """
    found: list[Autoscaler] = []
    for kind in (POD_AUTOSCALER, HORIZONTAL_POD_AUTOSCALER):
        try:
            found += map(Autoscaler, api.list(kind, namespace))
        except NotFoundError:
            continue
    return found


def scaling(
    autoscalers: Sequence[Autoscaler], kind: str, namespace: str, name: str
) -> list[Autoscaler]:
    """Return those that scale one workload, without those that one of them made."""
    return [
        one for one in autoscalers if one.target == (kind, namespace, name) and one.made_by is None
    ]


def owners(obj: Mapping[str, Any], *path: str) -> list[str]:
    """Return the field managers that own a field, such as ``spec``, ``replicas``."""
    return sorted(
        {
            str(entry.get("manager", ""))
            for entry in obj["metadata"].get("managedFields") or []
            if _owns(entry.get("fieldsV1") or {}, path)
        }
    )


def is_autoscaler(manager: str) -> bool:
    """Return whether a field manager's name is that of an autoscaler."""
    return any(part in manager.lower() for part in _AUTOSCALERS)


def _owns(fields: Mapping[str, Any], path: Sequence[str]) -> bool:
    for name in path:
        if f"f:{name}" not in fields:
            return False
        fields = fields[f"f:{name}"]
    return True
