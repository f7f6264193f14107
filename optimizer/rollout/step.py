"""One step of a rollout: fields of one object, as they are and as they are to be."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cluster.api import Api, Object
from cluster.kinds import KINDS, Kind
from optimizer.rollout.errors import ChangedError

Goal = Literal["after", "before"]
Fields = Mapping[str, int | None]
"""Of an object's spec; None for one that is absent."""


@dataclass(frozen=True)
class Ref:
    """One object of the cluster; the uid tells it from another of its name."""

    kind: Kind
    namespace: str
    name: str
    uid: str

    @property
    def title(self) -> str:
        """Return ``deployment default/foo``."""
        return f"{self.kind.kind.lower()} {self.namespace}/{self.name}"

    def read(self, api: Api) -> Object:
        """Return the object.

        Raises:
            ChangedError: there is another one of its name.
            ClusterError: there is none, or the server refuses or fails.
        """
        found = api.get(self.kind, self.name, self.namespace)
        if found["metadata"]["uid"] != self.uid:
            raise ChangedError(
                "rollout.recreated",
                f"{self.title} was deleted and made anew",
                hint="plan again",
                target=self.title,
            )
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "api_version": self.kind.api_version,
            "kind": self.kind.kind,
            "namespace": self.namespace,
            "name": self.name,
            "uid": self.uid,
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "Ref":
        """Return what ``to_json`` wrote."""
        kind = KINDS[body["api_version"], body["kind"]]
        return cls(kind, body["namespace"], body["name"], body["uid"])


@dataclass(frozen=True)
class Step:
    """What one write changes.

    Attributes:
        type: of the plan.
        object: that is written.
        workload: whose replicas this decides; the object itself, unless that is an autoscaler.
        before, after: the fields that are written.
        replicas_before, replicas_after: of the workload.
    """

    type: str
    object: Ref
    workload: Ref
    before: Fields
    after: Fields
    replicas_before: int
    replicas_after: int

    def fields(self, goal: Goal) -> Fields:
        """Return the fields at the end of a way."""
        return self.after if goal == "after" else self.before

    def replicas(self, goal: Goal) -> int:
        """Return the workload's replicas at the end of a way."""
        return self.replicas_after if goal == "after" else self.replicas_before

    def lowers(self, goal: Goal) -> bool:
        """Return whether this way takes replicas away."""
        change = self.replicas_after - self.replicas_before
        return (change if goal == "after" else -change) < 0

    def current(self, found: Object) -> dict[str, int | None]:
        """Return the fields as an object has them."""
        return {name: found["spec"].get(name) for name in self.after}

    def body(self, goal: Goal, version: str) -> Object:
        """Return what server-side apply is to own: these fields alone, of just this version."""
        spec = {name: value for name, value in self.fields(goal).items() if value is not None}
        return {
            "apiVersion": self.object.kind.api_version,
            "kind": self.object.kind.kind,
            "metadata": {
                "name": self.object.name,
                "namespace": self.object.namespace,
                "uid": self.object.uid,
                "resourceVersion": version,
            },
            "spec": spec,
        }

    def line(self, goal: Goal = "after") -> str:
        """Return the change as one line."""
        other: Goal = "before" if goal == "after" else "after"
        changes = ", ".join(
            f"{name} {_shown(self.fields(other)[name])} -> {_shown(value)}"
            for name, value in self.fields(goal).items()
            if value != self.fields(other)[name]
        )
        return f"{self.object.title}: {changes}"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "type": self.type,
            "object": self.object.to_json(),
            "workload": self.workload.to_json(),
            "before": dict(self.before),
            "after": dict(self.after),
            "replicas_before": self.replicas_before,
            "replicas_after": self.replicas_after,
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "Step":
        """Return what ``to_json`` wrote."""
        refs = {name: Ref.from_json(body[name]) for name in ("object", "workload")}
        return cls(**{**body, **refs})


def _shown(value: int | None) -> str:
    return "unset" if value is None else str(value)
