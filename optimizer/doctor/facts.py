"""What checks know: of a cluster, of AIBrix's Redis, and of a plan."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from optimizer.fleet.workloads import Workload
from optimizer.rollout.autoscalers import Autoscaler

Need = Literal["redis", "gateway", "plan"]


@dataclass(frozen=True)
class Serving:
    """A workload of a model.

    Attributes:
        workload: its replicas and names.
        pod_labels: of its pods.
        minimum: by the label ``model.aibrix.ai/min_replicas``; None without.
    """

    workload: Workload
    pod_labels: Mapping[str, str]
    minimum: str | None

    @property
    def names(self) -> tuple[str, str]:
        """Return the names that a profile may have for it."""
        return self.workload.name, f"{self.workload.namespace}/{self.workload.name}"


@dataclass(frozen=True)
class Gateway:
    """AIBrix's gateway: its replicas, and its tracing flag (None where it is not set)."""

    title: str
    replicas: int
    tracing: str | None

    @property
    def traces(self) -> bool:
        """Return whether it records traffic."""
        return (self.tracing or "").lower() == "true"


@dataclass(frozen=True)
class Profile:
    """A GPU profile in Redis; ``document`` is None where its value is no JSON object."""

    key: str
    model: str
    deployment: str
    document: Mapping[str, Any] | None


@dataclass(frozen=True)
class Traffic:
    """What the gateway recorded of one model: the age of the newest key, and its requests."""

    newest_age_s: float
    requests: int


@dataclass(frozen=True)
class RedisFacts:
    """What AIBrix's Redis holds: profiles, and traffic by model."""

    profiles: tuple[Profile, ...]
    traffic: Mapping[str, Traffic]


@dataclass(frozen=True)
class Facts:
    """All of it.

    Attributes:
        models: that are examined.
        serving: their workloads.
        workloads: kind, namespace and name of everything that can be scaled.
        autoscalers: of these namespaces.
        controller_image: of AIBrix's controller; None where it can't be read.
        gateway: None where it can't be read.
        redis: None where it can't be read.
        planned: replicas by type of a plan; None without one.
        missing: why what is None could not be read.
        stale_s: age at which a record of traffic is old.
    """

    models: tuple[str, ...]
    serving: tuple[Serving, ...]
    workloads: frozenset[tuple[str, str, str]]
    autoscalers: tuple[Autoscaler, ...]
    controller_image: str | None = None
    gateway: Gateway | None = None
    redis: RedisFacts | None = None
    planned: Mapping[str, int] | None = None
    missing: Mapping[Need, str] = field(default_factory=dict)
    stale_s: float = 120.0

    def has(self, need: Need) -> bool:
        """Return whether something is known."""
        return {"redis": self.redis, "gateway": self.gateway, "plan": self.planned}[
            need
        ] is not None

    def serves(self, autoscaler: Autoscaler) -> Serving | None:
        """Return the workload that an autoscaler scales, where it is one of the models'."""
        for one in self.serving:
            found = one.workload
            if autoscaler.target == (found.kind.kind, found.namespace, found.name):
                return one
        return None
