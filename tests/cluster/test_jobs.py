"""Jobs of our own commands: run, followed, and gone in the end."""

import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.access import connect
from cluster.api import Api
from cluster.jobs import JobSpec, run_all
from cluster.kinds import CONFIG_MAP, JOB, POD
from tests.kube import Server, api_server
from tests.kube_pods import Rule, Status, kubelet, no_image, unschedulable


def spec(name: str, *words: str, deadline_s: int = 60) -> JobSpec:
    return JobSpec(name, "r1", words or ("accelerators", "list"), "i:1", deadline_s)


def left(api: Api) -> list[str]:
    return [one["metadata"]["name"] for kind in (JOB, CONFIG_MAP) for one in api.list(kind)
            if one["metadata"].get("labels", {}).get("aibrixctl/run")]  # fmt: skip


def only_pod_of(name: str, status: Status) -> Rule:
    return lambda job: status if job["metadata"]["name"] == name else None


def test_a_job_s_result_comes_back_as_its_document(
    kube: Server, api: Api, namespace: str, tmp_path: Path
) -> None:
    specs = [spec("a"), spec("b", "accelerators", "show", "nothing")]
    with kubelet(kube, namespace, tmp_path):
        found = {one.name: one for one in run_all(api, specs, parallel=2)}
    body = {name: json.loads(one.document or b"{}") for name, one in found.items()}
    assert body["a"]["command"] == "accelerators list"
    assert body["a"]["status"] == "success"
    # An error is a result too.
    assert body["b"]["status"] == "error"
    assert not left(api)


@pytest.mark.parametrize(
    ("status", "text"),
    [(unschedulable(), "Unschedulable: 0/3 nodes"), (no_image(), "ImagePullBackOff: image")],
)
def test_what_a_pod_waits_for_is_told(
    status, text: str, kube: Server, api: Api, namespace: str, tmp_path: Path
) -> None:
    told, stop = [], threading.Event()

    def waiting(by_job) -> None:
        told.append(dict(by_job))
        stop.set()

    with kubelet(kube, namespace, tmp_path, rule=lambda job: status):
        assert not list(run_all(api, [spec("a")], parallel=1, stop=stop, waiting=waiting))
    assert text in told[0]["a"]
    assert not left(api)


def test_a_pod_past_its_deadline_is_named(
    kube: Server, api: Api, namespace: str, tmp_path: Path
) -> None:
    job = replace(spec("a", deadline_s=3), container={"command": ["sleep", "600"]})
    with kubelet(kube, namespace, tmp_path):
        (outcome,) = run_all(api, [job], parallel=1)
    assert outcome.document is None
    assert "DeadlineExceeded" in str(outcome.failure)


def test_a_refusal_by_admission_is_told(
    kube: Server, api: Api, namespace: str, tmp_path: Path
) -> None:
    """The Job controller says in an Event why it can't create a pod, and nowhere else."""
    told, stop = [], threading.Event()

    def waiting(by_job) -> None:
        told.append(dict(by_job))
        stop.set()

    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "a.1"},
        "involvedObject": {"kind": "Job", "name": "a", "namespace": namespace},
        "reason": "FailedCreate",
        "type": "Warning",
        "message": 'pods "a-x" is forbidden: violates PodSecurity "baseline": privileged',
    }
    api.create(event)
    assert not list(run_all(api, [spec("a")], parallel=1, stop=stop, waiting=waiting))
    assert told == [{"a": f"FailedCreate: {event['message']}"}]
    assert not left(api)


def test_why_a_pod_waited_is_remembered_when_its_deadline_takes_it_away(
    api: Api, kube: Server, namespace: str, tmp_path: Path
) -> None:
    failed = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "late"}

    def waiting(by_job) -> None:
        """Do what the Job controller does at the deadline, once the pod's trouble was seen."""
        if by_job:
            for pod in list(api.list(POD)):
                api.delete(POD, pod["metadata"]["name"])
            api.patch(JOB, "a", {"status": {"conditions": [failed]}}, subresource="status")

    with kubelet(kube, namespace, tmp_path, rule=lambda job: no_image()):
        (outcome,) = run_all(api, [spec("a")], parallel=1, waiting=waiting)
    assert outcome.failure == "ImagePullBackOff: image not found"


def test_what_pods_have_when_they_are_recalled_still_comes_back(
    api: Api, kube: Server, namespace: str, tmp_path: Path
) -> None:
    """One serves, one has nothing to deliver, one waits for a node."""
    stop, recalled = threading.Event(), []
    serves = ("profile", "serve-sim", "--accelerator", "h100", "--model", "llama-3-8b")
    specs = [
        spec("a", *serves, "--port", "0", deadline_s=600),
        replace(spec("b", deadline_s=600), container={"command": ["sleep", "600"]}),
        spec("c", deadline_s=600),
    ]

    def serves_by_now() -> bool:
        output = node.outputs.get("a")
        return output is not None and output.exists() and "http://" in output.read_text()

    def stop_when_it_serves() -> None:
        deadline = time.monotonic() + 120
        while not serves_by_now() and time.monotonic() < deadline:
            time.sleep(0.05)
        stop.set()

    with kubelet(kube, namespace, tmp_path, rule=only_pod_of("c", unschedulable())) as node:
        watcher = threading.Thread(target=stop_when_it_serves)
        watcher.start()
        outcomes = run_all(api, specs, parallel=3, stop=stop, recall=lambda: recalled.append(True))
        found = {one.name: one for one in outcomes}
        watcher.join()
    assert recalled == [True]
    assert json.loads(found["a"].document or b"{}")["command"] == "profile serve-sim"
    assert {one.failure for name, one in found.items() if name != "a"} == {
        "it was stopped before it had anything to deliver"
    }
    assert found.keys() == {"a", "b", "c"}
    assert not left(api)


def test_jobs_outlive_a_restart_of_the_server(tmp_path: Path) -> None:
    with (
        api_server(tmp_path, crds=False) as server,
        connect(server.access) as api,
        kubelet(server, "default", tmp_path),
    ):
        specs = [spec(name) for name in ("a", "b", "c")]
        outcomes = run_all(api, specs, parallel=1)
        found = [next(outcomes)]
        server.restart()
        found += outcomes
        assert [one.failure for one in found] == [None] * 3
        assert not left(api)
