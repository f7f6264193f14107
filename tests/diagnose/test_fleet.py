"""The survey of a fleet: pure parts, and against a real API server with AIBrix's types."""

import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from cluster import kinds
from cluster.api import Api, Object
from cluster.kinds import NODE, POD
from diagnose.fleet.pods import by_group
from diagnose.fleet.survey import Fleet, Surveyed, survey
from diagnose.fleet.workload import workload_of
from tests.kube_nodes import NOW, node, nodes

STORM = "stormservice.orchestration.aibrix.ai"
TEMPLATE = {"spec": {"containers": [{"name": "c", "image": "i"}]}}


def make(api: Api, kind: kinds.Kind, name: str, spec: Any, status: Any = None,
         owner: Object | None = None, **labels: str) -> Object:  # fmt: skip
    """Create an object as its controller would, with the status that it would write."""
    metadata: Object = {"name": name, "labels": labels}
    if owner is not None:
        of = {name: owner[name] for name in ("apiVersion", "kind")}
        of |= {name: owner["metadata"][name] for name in ("name", "uid")}
        metadata["ownerReferences"] = [of | {"controller": True}]
    head = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}
    made = api.create(head | {"spec": spec})
    if status is not None:
        api.patch(kind, name, {"status": status}, subresource="status")
    return made


def pod(api: Api, name: str, on: str | None, *, ready: bool = True, why: str = "",
        owner: Object | None = None, **labels: str) -> None:  # fmt: skip
    spec = {"containers": [{"name": "c", "image": "i"}]} | ({"nodeName": on} if on else {})
    state = {"running": {}} if ready else {"waiting": {"reason": why, "message": "m"}}
    container = {"name": "c", "image": "i", "imageID": "", "ready": ready, "restartCount": 0,
                 "state": state}  # fmt: skip
    condition = {"type": "Ready", "status": str(ready)}
    status = {"phase": "Running" if ready else "Pending", "conditions": [condition]}
    status |= {"containerStatuses": [container]} if on else {}
    make(api, POD, name, spec, status, owner, **labels)


def of(fleet: Fleet, kind: str) -> Surveyed:
    (found,) = (one for one in fleet.workloads if one.workload.kind == kind)
    return found


def counts(one: Surveyed) -> tuple[int | None, ...]:
    return one.workload.wanted, one.workload.ready, one.workload.updated


@pytest.fixture
def sick(api: Api) -> Iterator[None]:
    """Two nodes, of which gpu-2 has lost a GPU."""
    said = {"type": "AcceleratorHealthy", "status": "False", "reason": "NV-GPU-LOST",
            "message": "GPU 3: restart", "lastHeartbeatTime": NOW,
            "lastTransitionTime": NOW}  # fmt: skip
    with nodes(api, node("gpu-1"), node("gpu-2")):
        api.patch(NODE, "gpu-2", {"status": {"conditions": [said]}}, subresource="status",
                  how="strategic-merge")  # fmt: skip
        yield


@pytest.mark.usefixtures("sick")
def test_a_missing_member_of_a_multi_node_replica_is_found_from_the_top(api: Api) -> None:
    roles = [{"name": "prefill", "replicas": 1, "podGroupSize": 4, "template": TEMPLATE},
             {"name": "decode", "replicas": 2, "template": TEMPLATE}]  # fmt: skip
    not_ready = {"type": "Ready", "status": "False", "reason": "RolesNotReady", "message": "1 of 2"}
    storm = make(
        api, kinds.STORM_SERVICE, "s",
        {"replicas": 1, "selector": {"matchLabels": {"a": "b"}},
         "template": {"spec": {"roles": roles}}},
        {"replicas": 1, "readyReplicas": 0, "updatedReplicas": 1, "conditions": [not_ready]},
    )  # fmt: skip
    role_set = make(
        api, kinds.ROLE_SET, "s-rs", {"roles": roles},
        {"roles": [{"name": "prefill", "replicas": 1, "readyReplicas": 0},
                   {"name": "decode", "replicas": 2, "readyReplicas": 1, "updatedReplicas": 2}]},
        storm,
    )  # fmt: skip
    pod_set = make(api, kinds.POD_SET, "s-ps", {"podGroupSize": 4, "template": TEMPLATE},
                   {"readyPods": 2, "totalPods": 3, "phase": "Running"}, role_set)  # fmt: skip
    for number, on, ready in ((0, "gpu-1", True), (1, "gpu-1", True), (3, "gpu-2", False)):
        pod(api, f"p-{number}", on, ready=ready, why="CrashLoopBackOff", owner=pod_set,
            **{f"{STORM}/podset-name": "s-ps", f"{STORM}/pod-group-index": str(number),
               "roleset-name": "s-rs", "role-name": "prefill"})  # fmt: skip
    pod(api, "d-0", "gpu-2", **{"roleset-name": "s-rs", "role-name": "decode"})
    fleet = survey(api)
    assert [counts(of(fleet, kind)) for kind in ("StormService", "RoleSet", "PodSet")] == [
        (1, 0, 1), (3, 1, 2), (4, 2, None),
    ]  # fmt: skip
    (block,) = of(fleet, "StormService").workload.blocks
    assert (block.condition, block.reason, block.message) == ("Ready", "RolesNotReady", "1 of 2")
    tops = [one.workload.kind for one in fleet.workloads if one.top]
    assert tops == ["StormService"]
    told = "AcceleratorHealthy is False (NV-GPU-LOST)"
    found = [
        (m.group, m.number, m.state, m.pod, m.node, m.why, m.node_says)
        for m in of(fleet, "StormService").members
    ]
    assert found == [
        ("role decode", None, "at risk", "d-0", "gpu-2", None, told),
        ("role decode", None, "missing", None, None, None, None),
        ("PodSet s-ps", 2, "missing", None, None, None, None),
        ("PodSet s-ps", 3, "not ready", "p-3", "gpu-2", "CrashLoopBackOff: m", told),
    ]
    assert [m.number for m in of(fleet, "PodSet").members] == [2, 3]


def test_the_other_types(api: Api) -> None:
    make(api, kinds.RAY_CLUSTER_FLEET, "f",
         {"replicas": 2, "selector": {"matchLabels": {"a": "b"}},
          "template": {"spec": {"headGroupSpec": {"rayStartParams": {}, "template": TEMPLATE}}}},
         {"replicas": 2, "readyReplicas": 1, "updatedReplicas": 2, "conditions": [
             {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
              "message": "quota"}]})  # fmt: skip
    bad = {"type": "Scheduled", "status": "False", "reason": "NoPods", "message": "no engine pod",
           "lastTransitionTime": NOW}  # fmt: skip
    make(api, kinds.MODEL_ADAPTER, "lora",
         {"artifactURL": "huggingface://a/b", "podSelector": {"matchLabels": {"a": "b"}}},
         {"phase": "Pending", "desiredReplicas": 1, "conditions": [bad]})  # fmt: skip
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
    source = {"metricSourceType": "pod", "targetMetric": "m", "targetValue": "1", "path": "/m",
              "port": "8000", "protocolType": "http"}  # fmt: skip
    make(api, kinds.POD_AUTOSCALER, "pa",
         {"scaleTargetRef": target, "maxReplicas": 3, "metricsSources": [source],
          "scalingStrategy": "KPA"},
         {"desiredScale": 3, "actualScale": 1, "conditions": [
             bad | {"type": "AbleToScale"}, bad | {"type": "ValidSpec", "status": "True"},
         ]})  # fmt: skip
    make(api, kinds.KV_CACHE, "kv", {"cache": {"replicas": 3}})
    for number, role in enumerate(("cache", "cache", "metadata")):
        pod(api, f"kv-{number}", "n", ready=number != 1, why="ImagePullBackOff",
            **{"kvcache.orchestration.aibrix.ai/name": "kv",
               "kvcache.orchestration.aibrix.ai/role": role})  # fmt: skip
    spec = {"replicas": 0, "selector": {"matchLabels": {"a": "b"}},
            "template": TEMPLATE | {"metadata": {"labels": {"a": "b"}}}}  # fmt: skip
    make(api, kinds.DEPLOYMENT, "zero", spec, **{"model.aibrix.ai/name": "m"})
    make(api, kinds.DEPLOYMENT, "other", spec | {"replicas": 5})
    fleet = survey(api)
    shown = {
        one.workload.kind: (*counts(one), [block.reason for block in one.workload.blocks])
        for one in fleet.workloads
    }
    assert shown == {
        "RayClusterFleet": (2, 1, 2, ["FailedCreate"]),
        "ModelAdapter": (1, 0, None, ["NoPods"]),
        "PodAutoscaler": (3, 1, None, ["NoPods"]),
        "KVCache": (3, 1, None, ["NotReady"]),
        "Deployment": (0, 0, 0, []),
    }
    assert [(m.pod, m.state) for m in of(fleet, "KVCache").members] == [
        ("kv-1", "not ready"), (None, "missing"),
    ]  # fmt: skip
    # KubeRay is not installed here.
    assert fleet.notes == ("the cluster has no rayclusters.ray.io",)


def test_a_ray_cluster_counts_for_the_fleet_above_it() -> None:
    """KubeRay's type is not AIBrix's; its groups are those of head and workers."""
    found = workload_of(
        {"kind": "RayCluster", "metadata": {"name": "r", "namespace": "n", "uid": "1"},
         "spec": {"headGroupSpec": {}, "workerGroupSpecs": [
             {"groupName": "w", "replicas": 2, "numOfHosts": 2}, {"groupName": "v"}]}}
    )  # fmt: skip
    assert [(group.title, group.size) for group in found.groups] == [
        ("RayCluster r head", 1), ("RayCluster r w", 4), ("RayCluster r v", 0),
    ]  # fmt: skip
    assert not found.blocks
    labels = {"ray.io/cluster": "r", "ray.io/node-type": "worker", "ray.io/group": "w"}
    pods = by_group([_pod(0, labels), _pod(1, {"ray.io/cluster": "r", "ray.io/node-type": "head"})])
    assert [len(pods.get(group.key, ())) for group in found.groups] == [1, 1, 0]


def _pod(number: int, labels: dict[str, str]) -> Object:
    ready = {"type": "Ready", "status": "True"}
    return {
        "metadata": {"name": f"p-{number}", "namespace": "n", "labels": labels},
        "spec": {"nodeName": "gpu-1", "containers": [{"env": ["x" * 10_000]}]},
        "status": {"phase": "Running", "conditions": [ready]},
    }


def test_ten_thousand_pods_cost_a_few_fields_each() -> None:
    labels = {"roleset-name": "r", "role-name": "decode"}
    tracemalloc.start()
    pods = by_group(_pod(number, labels) for number in range(10_000))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(pods["role", "n", "r", "decode"]) == 10_000
    assert peak_bytes < 10 * 2**20
