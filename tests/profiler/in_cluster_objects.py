"""Deployments, Services and pods of engines, with the statuses that a cluster would give them."""

from collections.abc import Mapping
from typing import Any

from cluster.api import Api, Object
from cluster.kinds import POD

ENGINE = {"name": "llm-engine", "image": "vllm"}


def deployment(
    name: str, port: int, model: str | None = "m", own: Mapping[str, str] | None = None
) -> Object:
    """Return a Deployment as in AIBrix's samples: the model's label is also in its selector."""
    labels = {"app": name, **({"model.aibrix.ai/name": model} if model else {})}
    on_top = {"model.aibrix.ai/port": str(port), **(own or {})}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {**labels, **on_top}},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{**ENGINE, "ports": [{"containerPort": port}]}]},
            },
        },
    }


def service(name: str, port: int, selector: Mapping[str, str], target: int | str) -> Object:
    ports: list[Any] = [{"name": "serve", "port": port, "targetPort": target}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": dict(selector)},
        "spec": {"selector": dict(selector), "ports": ports},
    }


def add_pod(api: Api, name: str, of: Object, *, ready: bool = True, ip: str = "127.0.0.1") -> None:
    """Create a pod of a Deployment that is ready or not."""
    template = of["spec"]["template"]
    metadata = {"name": name, "labels": template["metadata"]["labels"]}
    api.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    status = {"phase": "Running", "podIP": ip, "conditions": [condition]}
    api.patch(POD, name, {"status": status}, subresource="status")


def create(api: Api, *objects: Object) -> None:
    for one in objects:
        api.create(one)
