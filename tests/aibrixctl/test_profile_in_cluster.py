"""``profile load`` and ``profile run`` on an engine in a cluster, whose Jobs run as processes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.api import Api
from cluster.kinds import CONFIG_MAP, JOB, POD
from tests.kube import Server
from tests.kube_pods import Kubelet, kubelet, no_image, unschedulable

from ..profiler.in_cluster_objects import add_pod, create, deployment, service
from ..profiler.sim.served import MODEL, running

Cli = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def _quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other work on the machine that runs the tests is not their subject."""
    monkeypatch.setattr("profiler.load.health.FLOOR_MS", 10_000.0)


@pytest.fixture
def engine(api: Api) -> Iterator[int]:
    """A simulated engine, in the cluster as the only pod of deployment ``l20``."""
    with running() as server:
        port = server.address[1]
        of = deployment("l20", port, MODEL)
        create(api, of)
        add_pod(api, "l20-1", of)
        yield port


@pytest.fixture
def reach(kube: Server, namespace: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    monkeypatch.setenv("KUBECONFIG", str(kube.kubeconfig))
    return ("--namespace", namespace)


def load(*more: str) -> list[str]:
    return [
        *("profile", "load", "--target", "k8s:deployment/l20", "--request-rate", "20"),
        *("--input-tokens", "32", "--output-tokens", "4", "--duration", "2s", "--warmup", "0s"),
        *more,
    ]


def left(api: Api) -> list[str]:
    """What a load left behind: Jobs, and ConfigMaps of the run."""
    return [
        one["metadata"]["name"]
        for kind in (JOB, CONFIG_MAP)
        for one in api.list(kind)
        if one["metadata"].get("labels", {}).get("aibrixctl/run")
    ]


def test_two_pods_send_one_load(
    cli_json: Cli,
    api: Api,
    kube: Server,
    namespace: str,
    engine: int,
    reach: tuple[str, ...],
    tmp_path: Path,
) -> None:
    with kubelet(kube, namespace, tmp_path) as node:
        body = cli_json(*load("--shards", "2", *reach))
    data = body["data"]
    assert data["requests"]["completed"] == 40, body
    assert (data["shards"], data["lost_shards"], data["complete"]) == (2, [], True)
    assert [shard["requests"] for shard in data["client"]["shards"]] == [20, 20]
    assert data["engine"]["model"] == MODEL
    assert data["engine"]["url"] == f"http://127.0.0.1:{engine}"
    assert (data["engine"]["target"], data["engine"]["via"]) == ("k8s:deployment/l20", "job")
    assert any("pod l20-1, 1 of 1 of l20, was asked directly" in note for note in data["notes"])
    assert len(node.jobs) == 2
    assert not left(api)
