"""``aibrixctl diagnose fleet`` against a real API server."""

from collections.abc import Callable
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from cluster import kinds
from cluster.api import Api
from tests.diagnose.test_fleet import STORM, TEMPLATE, make, pod
from tests.diagnose.test_fleet import sick as sick  # noqa: PLC0414 - a fixture
from tests.kube import Server


@pytest.mark.usefixtures("sick")
def test_what_blocks_is_shown_with_the_node(
    kube: Server,
    api: Api,
    namespace: str,
    cli: Callable[..., Any],
    cli_json: Callable[..., Any],
    snapshot: SnapshotAssertion,
) -> None:
    at = ("--kubeconfig", str(kube.kubeconfig), "-n", namespace)
    assert cli("diagnose", "fleet", *at).out == f"Nothing serves models in namespace {namespace}\n"
    owner = make(api, kinds.POD_SET, "tp16", {"podGroupSize": 3, "template": TEMPLATE},
                 {"readyPods": 1, "totalPods": 2, "phase": "Running"})  # fmt: skip
    for number, ready in ((0, True), (1, False)):
        pod(api, f"tp16-{number}", f"gpu-{number + 1}", ready=ready, why="CrashLoopBackOff",
            owner=owner, **{f"{STORM}/podset-name": "tp16",
                            f"{STORM}/pod-group-index": str(number)})  # fmt: skip
    make(api, kinds.KV_CACHE, "kv", {"cache": {"replicas": 2}})
    outcome = cli("diagnose", "fleet", *at)
    assert outcome.code == 10
    assert outcome.out.replace(namespace, "models") == snapshot
    assert "warning: the cluster has no rayclusters.ray.io" in outcome.err
    body = cli_json("diagnose", "fleet", *at)
    assert [one["kind"] for one in body["data"]["workloads"]] == ["PodSet", "KVCache"]
    assert cli("diagnose", "fleet", *at, "-o", "csv").out.startswith("kind,namespace,name,")


def test_a_namespace_that_is_not_there_is_not_a_healthy_one(
    kube: Server, cli: Callable[..., Any], cli_json: Callable[..., Any]
) -> None:
    words = ("diagnose", "fleet", "--kubeconfig", str(kube.kubeconfig))
    body = cli_json(*words, "-n", "nothere")
    assert (body["exit_code"], body["errors"][0]["code"]) == (1, "cluster.no_namespace")
    assert body["errors"][0]["message"] == "there is no namespace nothere"


def test_rights_that_are_missing(
    kube: Server, api: Api, namespace: str, cli: Callable[..., Any], cli_json: Callable[..., Any]
) -> None:
    groups = ["orchestration.aibrix.ai", "model.aibrix.ai", "autoscaling.aibrix.ai", "ray.io"]
    rules: list[dict[str, Any]] = [
        {"apiGroups": groups, "resources": ["*"], "verbs": ["list"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
    ]
    make(api, kinds.KV_CACHE, "kv", {"cache": {"replicas": 0}})
    file = kube.account(api, "no-nodes", rules, namespace)
    body = cli_json("diagnose", "fleet", "--kubeconfig", str(file))
    assert body["exit_code"] == 0
    assert any("may not list nodes" in note for note in body["data"]["notes"])
    file = kube.account(api, "no-pods", rules[:2], namespace)
    outcome = cli("diagnose", "fleet", "--kubeconfig", str(file))
    assert (outcome.code, "may not list pods" in outcome.err) == (13, True)
