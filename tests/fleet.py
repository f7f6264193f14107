"""Nodes, pods and workloads as a cluster has them, written to a real API server by hand."""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from cluster.api import Api, Object
from cluster.kinds import DEPLOYMENT, NODE, STORM_SERVICE

MODEL = "model.aibrix.ai/name"
MakeNode = Callable[..., str]


@contextmanager
def nodes(api: Api) -> Iterator[MakeNode]:
    """Give a function that makes nodes; they are gone after the block."""
    made: list[str] = []

    def make(product: str | None, gpus: int, **more: Any) -> str:
        name = f"n-{secrets.token_hex(4)}"
        made.append(name)
        write_node(api, name, product, gpus, **more)
        return name

    try:
        yield make
    finally:
        for name in made:
            api.delete(NODE, name)


def write_node(
    api: Api,
    name: str,
    product: str | None,
    gpus: int,
    *,
    label: str = "nvidia.com/gpu.product",
    resource: str = "nvidia.com/gpu",
    cordoned: bool = False,
    taints: Sequence[Mapping[str, str]] = (),
    ready: str | None = "True",
    healthy: str | None = None,
    labels: Mapping[str, str] | None = None,
) -> None:
    labels = dict(labels or {}) | ({} if product is None else {label: product})
    head = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
    spec: Object = {"unschedulable": True} if cordoned else {}
    api.create(head | {"spec": spec | ({"taints": list(taints)} if taints else {})})
    conditions = [
        {"type": kind, "status": status, "reason": reason}
        for kind, status, reason in (
            ("Ready", ready, "KubeletReady"),
            ("AcceleratorHealthy", healthy, "NV-XID-79"),
        )
        if status is not None
    ]
    amounts = {resource: str(gpus), "cpu": "64", "pods": "110"}
    status = {"capacity": amounts, "allocatable": amounts, "conditions": conditions}
    api.patch(NODE, name, {"status": status}, subresource="status")


def pod(
    name: str,
    node: str,
    gpus: int,
    *,
    labels: Mapping[str, str] | None = None,
    resource: str = "nvidia.com/gpu",
    init_gpus: int = 0,
) -> Object:
    def container(title: str, count: int) -> Object:
        return {"name": title, "image": "e", "resources": {"limits": {resource: str(count)}}}

    spec: Object = {"nodeName": node, "containers": [container("engine", gpus)]}
    if init_gpus:
        spec["initContainers"] = [container("init", init_gpus)]
    head = {"apiVersion": "v1", "kind": "Pod"}
    return head | {"metadata": {"name": name, "labels": dict(labels or {})}, "spec": spec}


def deployment(
    name: str,
    replicas: int,
    *,
    model: str | None = "m",
    labels: Mapping[str, str] | None = None,
    pod_labels: Mapping[str, str] | None = None,
) -> Object:
    served = {} if model is None else {MODEL: model}
    template = {
        "metadata": {"labels": {"app": name} | served | dict(pod_labels or {})},
        "spec": {"containers": [{"name": "engine", "image": "e"}]},
    }
    return {
        "apiVersion": DEPLOYMENT.api_version,
        "kind": DEPLOYMENT.kind,
        "metadata": {"name": name, "labels": served | dict(labels or {})},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": template,
        },
    }


def storm_service(name: str, replicas: int, *, model: str = "m") -> Object:
    return {
        "apiVersion": STORM_SERVICE.api_version,
        "kind": STORM_SERVICE.kind,
        "metadata": {"name": name, "labels": {MODEL: model}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"spec": {"roles": []}},
        },
    }
