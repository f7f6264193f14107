"""Nodes with accelerators, as objects of an API server that runs no kubelets."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.api import Api, Object
from cluster.kinds import EVENT, NODE
from mockfail import native, state_file
from mockfail.nodes import node as simulated
from mockfail.state import Override, State

NOW = "2026-01-01T00:00:00Z"


def node(name: str, *, gpus: int = 2, ready: str = "True", **labels: str) -> Object:
    """Return a node of H100s, as its kubelet and device plugin would write it."""
    condition = {"type": "Ready", "status": ready, "reason": "KubeletReady", "message": "is ready"}
    if ready == "Unknown":
        condition |= {"reason": "NodeStatusUnknown", "message": "Kubelet stopped posting status."}
    times = {"lastHeartbeatTime": NOW, "lastTransitionTime": NOW}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", **labels},
        },
        "status": {
            "capacity": {"nvidia.com/gpu": str(gpus), "cpu": "96"},
            "allocatable": {"nvidia.com/gpu": str(gpus), "cpu": "96"},
            "conditions": [condition | times],
        },
    }


@contextmanager
def nodes(api: Api, *objects: Object) -> Iterator[None]:
    """Have these nodes in the cluster for the block, and none of their Events after it."""
    names = [obj["metadata"]["name"] for obj in objects]
    try:
        for obj in objects:
            api.create(obj)
            status = {name: obj["status"][name] for name in ("capacity", "allocatable")}
            # Admission taints a new node as not ready; its controller would take that away.
            api.patch(NODE, obj["metadata"]["name"], {"spec": {"taints": None}})
            api.patch(NODE, obj["metadata"]["name"], {"status": status}, subresource="status")
        yield
    finally:
        for name in names:
            api.delete(NODE, name)
        for event in events(api, names):
            api.delete(EVENT, event["metadata"]["name"], "default")


def events(api: Api, names: Sequence[str]) -> list[Object]:
    """Return the Events on nodes, oldest code first."""
    fields = "involvedObject.kind=Node"
    found = [e for e in api.list(EVENT, "default", fields=fields)
             if e["involvedObject"]["name"] in names]  # fmt: skip
    return sorted(found, key=lambda event: str(event["reason"]))


def state_of(api: Api, name: str) -> str:
    """Return all of a node that anyone wrote, as text, to compare to the byte."""
    obj = api.get(NODE, name)
    annotations = obj["metadata"].get("annotations")
    body = {"spec": obj.get("spec"), "annotations": annotations, "status": obj["status"]}
    return json.dumps(body, sort_keys=True)


class Mocks:
    """A mock per node: the environment of its pod puts what runs there on simulated GPUs."""

    def __init__(self, folder: Path):
        self._folder = folder

    def set(self, name: str, *overrides: Override, spec: str = "h100x2") -> None:
        """Give a node GPUs, with faults."""
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        state = State(simulated(spec), mode="standalone", overrides=overrides)
        state_file.write(state, folder / "state")

    def environment(self, job: Object) -> dict[str, str]:
        """Return the variables for the pod of a Job, by the node that it names."""
        spec: Any = job["spec"]["template"]["spec"]
        return dict(native.preload_environment(self._folder / spec["nodeName"]))
