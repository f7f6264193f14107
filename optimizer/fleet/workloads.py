"""Which workload of the cluster runs which GPU type of a plan.

A type is the Deployment that its table was measured on, else the one of its name (``name`` or
``namespace/name``): that is how AIBrix relates a GPU profile to what serves. Where no Deployment
has it, a StormService may.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.api import Api
from cluster.errors import NotFoundError
from cluster.kinds import DEPLOYMENT, STORM_SERVICE, Kind, kind_of
from cluster.labels import MODEL
from cluster.labels import STORM_SERVICE as _STORM_LABEL
from cluster.objects import split_name
from cluster.selectors import selects
from optimizer.errors import OptimizerUsageError
from optimizer.fleet.names import names_of


@dataclass(frozen=True)
class Workload:
    """What runs replicas of one type.

    Attributes:
        kind: Deployment or StormService.
        namespace, name, uid: which one.
        replicas: that it is to run.
        ready: that serve.
        generation: of its spec; its status changes without it.
        resource_version: of the whole object.
        model: by its label; None without one.
        selector: of its pods.
    """

    kind: Kind
    namespace: str
    name: str
    uid: str
    replicas: int
    ready: int
    generation: int
    resource_version: str
    model: str | None
    selector: Mapping[str, Any]

    @property
    def title(self) -> str:
        """Return ``deployment default/foo``."""
        return f"{self.kind.kind.lower()} {self.namespace}/{self.name}"

    def runs(self, pod: Mapping[str, Any]) -> bool:
        """Return whether a pod is one of its replicas."""
        metadata = pod["metadata"]
        return metadata["namespace"] == self.namespace and selects(
            self.selector, metadata.get("labels") or {}
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "kind": self.kind.kind,
            "namespace": self.namespace,
            "name": self.name,
            "uid": self.uid,
            "replicas": self.replicas,
            "ready": self.ready,
            "generation": self.generation,
            "resource_version": self.resource_version,
        }

    @classmethod
    def of(cls, obj: Mapping[str, Any]) -> "Workload":
        """Return what an object of the API says."""
        kind, metadata, spec = kind_of(obj), obj["metadata"], obj["spec"]
        status = obj.get("status") or {}
        selector = spec.get("selector") or {}
        if kind is STORM_SERVICE:
            selector = {"matchLabels": {_STORM_LABEL: metadata["name"]}}
        return cls(
            kind=kind,
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            replicas=int(spec.get("replicas", 1)),
            ready=int(status.get("readyReplicas") or 0),
            generation=int(metadata.get("generation", 0)),
            resource_version=str(metadata["resourceVersion"]),
            model=_model(obj),
            selector=selector,
        )


@dataclass(frozen=True)
class Matched:
    """Types and workloads, brought together.

    Attributes:
        of_type: name of a type to what runs it.
        without_workload: name of a type to why nothing runs it.
        without_type: workloads of the model that no type stands for.
    """

    of_type: Mapping[str, Workload]
    without_workload: Mapping[str, str]
    without_type: tuple[Workload, ...]


def match(
    api: Api,
    types: Iterable[str],
    model: str | None,
    named: Mapping[str, str] | None = None,
    measured: Mapping[str, str] | None = None,
) -> Matched:
    """Find the workload of each type.

    Args:
        api: the cluster.
        types: names of types.
        model: that they serve, as the label says it; None takes any.
        named: name of a type to ``[NAMESPACE/]NAME``, in place of the type's own.
        measured: the same, of what a type was measured on, as ``measured_on`` gives it.

    Raises:
        OptimizerUsageError: what was named is not there, or two types have one workload.
        ClusterError: the server refuses or fails.
    """
    named, measured = named or {}, measured or {}
    found: dict[str, Workload] = {}
    missing: dict[str, str] = {}
    for kind in sorted(types):
        names = names_of(kind, named, measured)
        workload = next(filter(None, (find(api, name) for name in names)), None)
        if kind in named and workload is None:
            raise OptimizerUsageError(
                "fleet.deployment",
                f"--deployment {kind}={named[kind]}: there is no such deployment",
                target=kind,
            )
        if workload is None:
            full = (one if "/" in one else f"{api.namespace}/{one}" for one in names)
            missing[kind] = f"no deployment is named {' or '.join(dict.fromkeys(full))}"
        elif kind not in named and model and workload.model not in (None, model):
            missing[kind] = f"{workload.title} serves {workload.model}, not {model}"
        else:
            found[kind] = workload
    _check_apart(found)
    return Matched(found, missing, _others(api, model, found.values()))


def measured_on(inputs: Mapping[str, Any]) -> dict[str, str]:
    """Return what the tables among a plan's inputs were measured on, by type."""
    tables = inputs.get("tables") or ()
    return {one["target"]: one["deployment"] for one in tables if one.get("deployment")}


def find(api: Api, name: str) -> Workload | None:
    """Return the Deployment or StormService of a name; None where there is neither."""
    named = split_name(name)
    if named is None:
        return None
    namespace, short = named
    for kind in (DEPLOYMENT, STORM_SERVICE):
        try:
            return Workload.of(api.get(kind, short, namespace))
        except NotFoundError:
            continue
    return None


def _check_apart(found: Mapping[str, Workload]) -> None:
    by_uid: dict[str, str] = {}
    for kind, workload in found.items():
        other = by_uid.setdefault(workload.uid, kind)
        if other != kind:
            raise OptimizerUsageError(
                "fleet.twice",
                f"{workload.title} stands for two types, {other} and {kind}",
                hint="give each its own with --deployment TYPE=[NAMESPACE/]NAME",
                target=kind,
            )


def _others(api: Api, model: str | None, found: Iterable[Workload]) -> tuple[Workload, ...]:
    if not model or not re.fullmatch(r"[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?", model):
        return ()
    taken = {workload.uid for workload in found}
    listed = map(Workload.of, api.list(DEPLOYMENT, labels=f"{MODEL}={model}"))
    return tuple(workload for workload in listed if workload.uid not in taken)


def _model(obj: Mapping[str, Any]) -> str | None:
    template = (obj["spec"].get("template") or {}).get("metadata") or {}
    heads: Sequence[Mapping[str, Any]] = (obj["metadata"], template)
    return next(
        (labels[MODEL] for head in heads if MODEL in (labels := head.get("labels") or {})),
        None,
    )
