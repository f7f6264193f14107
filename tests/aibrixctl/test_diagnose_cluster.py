"""``aibrixctl diagnose cluster`` against a real API server, every pod on GPUs of its own."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from cluster.access import Access, connect
from cluster.api import Api, Object
from cluster.kinds import CONFIG_MAP, JOB, NODE
from cluster.watch import follow
from diagnose.nodes.changes import Marked
from diagnose.nodes.mark import mark
from mockfail.state import Override
from tests.kube import Server
from tests.kube_nodes import Mocks, events, node, nodes, state_of
from tests.kube_pods import kubelet, no_image

NAMES = ("gpu-1", "gpu-2", "gpu-3")
LOST = Override("gpu", "lost", True, 1)


@pytest.fixture
def at(kube: Server, namespace: str) -> tuple[str, ...]:
    """The options that reach the cluster."""
    return ("--kubeconfig", str(kube.kubeconfig), "-n", namespace)


@pytest.fixture
def mocks(tmp_path: Path) -> Mocks:
    made = Mocks(tmp_path / "mocks")
    for name in NAMES:
        made.set(name)
    return made


@pytest.fixture
def pods(kube: Server, api: Api, namespace: str, tmp_path: Path, mocks: Mocks) -> Iterator[None]:
    """Three nodes with two GPUs each, and something that runs their pods."""
    with (
        nodes(api, *(node(name) for name in NAMES)),
        kubelet(kube, namespace, tmp_path, environment=mocks.environment),
    ):
        yield


def plain(text: str) -> str:
    """Return what is shown without what differs from run to run."""
    return re.sub(r"GPU-[0-9a-f-]{36}", "GPU-…", text)


def left(api: Api) -> list[str]:
    return [one["metadata"]["name"] for kind in (JOB, CONFIG_MAP) for one in api.list(kind)
            if "aibrixctl/run" in one["metadata"].get("labels", {})]  # fmt: skip


@pytest.mark.usefixtures("pods")
def test_the_sick_node_of_three_is_closed_and_opened_again(
    api: Api,
    at: tuple[str, ...],
    mocks: Mocks,
    cli: Callable[..., Any],
    cli_json: Callable[..., Any],
    snapshot: SnapshotAssertion,
) -> None:
    mocks.set("gpu-2", LOST)
    before = {name: state_of(api, name) for name in NAMES}
    dry = cli("diagnose", "cluster", *at, "--apply", "cordon", "--dry-run")
    assert dry.code == 10
    assert {name: state_of(api, name) for name in NAMES} == before
    assert plain(dry.out) == snapshot(name="dry run")
    assert "would change gpu-2: cordon: open -> cordoned" in dry.err
    done = cli_json("diagnose", "cluster", *at, "--apply", "cordon")
    assert done["exit_code"] == 10
    assert [one["verdict"] for one in done["data"]["nodes"]] == ["healthy", "faults", "healthy"]
    closed = [n["metadata"]["name"] for n in api.list(NODE) if n["spec"].get("unschedulable")]
    assert closed == ["gpu-2"]
    (finding, *_) = done["data"]["nodes"][1]["findings"]
    found = {c["type"]: c for c in api.get(NODE, "gpu-2")["status"]["conditions"]}
    assert found["AcceleratorHealthy"]["reason"] == finding["code"]
    assert finding["code"] in [event["reason"] for event in events(api, NAMES)]
    again = cli_json("diagnose", "cluster", *at, "--apply", "cordon")
    assert again["data"]["changed"] == []
    assert [one["in_service"] for one in again["data"]["nodes"]] == [True, False, True]
    undone = cli("diagnose", "cluster", *at, "--undo")
    assert (undone.code, undone.out) == (0, snapshot(name="undo"))
    assert {name: state_of(api, name) for name in NAMES} == before
    assert cli("diagnose", "cluster", *at, "--undo").out == (
        "Nothing to undo: no node has a record of a change\n"
    )
    assert not left(api)


@pytest.mark.usefixtures("pods")
def test_rows_are_devices(at: tuple[str, ...], mocks: Mocks, cli: Callable[..., Any]) -> None:
    mocks.set("gpu-3", Override("gpu", "remap_pending", True, 1))
    outcome = cli("diagnose", "cluster", *at, "-o", "csv")
    assert outcome.code == 10
    assert outcome.out.splitlines()[0] == "node,product,kind,index,uuid,pci_bus_id,health,codes"
    cells = [line.split(",") for line in outcome.out.splitlines()[1:]]
    assert [(c[0], c[3], c[6]) for c in cells] == [
        ("gpu-1", "0", "healthy"), ("gpu-1", "1", "healthy"),
        ("gpu-2", "0", "healthy"), ("gpu-2", "1", "healthy"),
        ("gpu-3", "0", "healthy"), ("gpu-3", "1", "degraded"),
    ]  # fmt: skip
    lines = cli("diagnose", "cluster", *at, "--nodes", "none=such", "-o", "jsonl")
    assert lines.code == 13
    assert json.loads(lines.out)["errors"][0]["code"] == "diagnose.no_accelerator_nodes"
    assert "kubernetes.io/hostname=NAME" in lines.err


def test_nodes_that_do_not_answer_are_named_with_the_reason(
    kube: Server,
    api: Api,
    namespace: str,
    at: tuple[str, ...],
    tmp_path: Path,
    mocks: Mocks,
    cli_json: Callable[..., Any],
) -> None:
    """One kubelet is silent, one pod is killed, one node has NPUs that nobody knows."""
    other = node("tpu-1")
    other["metadata"]["labels"] = {}
    other["status"]["capacity"] = other["status"]["allocatable"] = {"google.com/tpu": "4"}
    with (
        nodes(api, node("gpu-1", ready="Unknown"), node("gpu-2"), node("gpu-3"), other),
        kubelet(kube, namespace, tmp_path, environment=mocks.environment) as one,
    ):

        def kill(job: Object) -> dict[str, str]:
            if job["spec"]["template"]["spec"]["nodeName"] == "gpu-2":
                return {"PYTHONHOME": "/nowhere"}
            return mocks.environment(job)

        one.environment = kill
        body = cli_json("diagnose", "cluster", *at)
    assert (body["exit_code"], body["status"]) == (3, "partial")
    found = {one["node"]: one for one in body["data"]["nodes"]}
    assert body["data"]["unsupported"] == ["tpu-1"]
    assert [one["verdict"] for one in found.values()] == ["unknown", "unknown", "healthy"]
    assert "Kubelet stopped posting status." in found["gpu-1"]["why_unknown"]
    assert found["gpu-2"]["why_unknown"].startswith("exit code 1: ")
    assert found["gpu-2"]["findings"][0]["code"] == "NODE-NO-ANSWER"


def test_a_signal_removes_the_jobs(
    kube: Server, api: Api, namespace: str, at: tuple[str, ...], tmp_path: Path
) -> None:
    with (
        nodes(api, *(node(name) for name in NAMES)),
        kubelet(kube, namespace, tmp_path, rule=lambda job: no_image()),
    ):
        words = [sys.executable, "-m", "aibrixctl", "diagnose", "cluster", *at, "-o", "json"]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None and process.stdout is not None
        for line in process.stderr:
            if "waiting for gpu-3: ImagePullBackOff" in line:
                break
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
        body = json.loads(out)
        assert (process.returncode, body["exit_code"], body["status"]) == (130, 130, "partial")
        assert body["data"]["nodes"] == []
        assert not left(api)


@pytest.mark.usefixtures("pods")
@pytest.mark.parametrize(
    ("announcing", "said", "changed"),
    [
        (True, "3 of 3 nodes had answered; nothing was changed", []),
        (
            False,
            "3 of 3 nodes had answered; announced and not changed: gpu-1, gpu-3",
            ["gpu-2"],
        ),
    ],
)
def test_a_signal_before_the_changes_tells_what_was_announced_for_nothing(
    at: tuple[str, ...],
    mocks: Mocks,
    cli_json: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    announcing: bool,
    said: str,
    changed: list[str],
) -> None:
    """The signal comes once all is announced, or after the first node is changed."""
    mocks.set("gpu-2", LOST)

    def interrupted(*args: Any, dry_run: bool = False, **options: Any) -> Iterator[Marked]:
        for number, one in enumerate(mark(*args, dry_run=dry_run, **options)):
            yield one
            if announcing is dry_run and number == (2 if dry_run else 0):
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("diagnose.nodes.mark.mark", interrupted)
    body = cli_json("diagnose", "cluster", *at, "--apply", "cordon")
    assert (body["exit_code"], body["status"]) == (130, "partial")
    assert body["errors"][0]["message"] == f"stopped by a signal; {said}"
    assert body["errors"][0]["hint"].startswith("run it again")
    assert [one["node"] for one in body["data"]["changed"]] == changed
    undone = cli_json("diagnose", "cluster", *at, "--undo")
    assert [one["node"] for one in undone["data"]["changed"]] == changed


def test_names_the_right_that_is_missing(
    kube: Server, api: Api, namespace: str, cli: Callable[..., Any]
) -> None:
    rules = [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}]
    file = kube.account(api, "looker", rules, namespace)
    with nodes(api, node("gpu-1")):
        outcome = cli("diagnose", "cluster", "--kubeconfig", str(file))
    assert outcome.code == 13
    assert re.search("may not (list|create) jobs.batch", outcome.err)


@pytest.mark.usefixtures("pods")
def test_what_was_found_and_announced_is_told_where_rights_end(
    kube: Server, api: Api, namespace: str, mocks: Mocks, cli_json: Callable[..., dict[str, Any]]
) -> None:
    """The account may not delete Jobs, nor patch the second of two sick nodes."""
    for name in NAMES[:2]:
        mocks.set(name, LOST)
    groups = ["", "batch"]
    rules: list[Object] = [
        {"apiGroups": groups, "resources": ["*"], "verbs": ["create", "get", "list", "watch"]},
        {
            "apiGroups": [""],
            "resources": ["nodes", "nodes/status"],
            "resourceNames": ["gpu-1"],
            "verbs": ["patch"],
        },
    ]
    file = kube.account(api, "looker", rules, namespace)
    at = ("--kubeconfig", str(file), "-n", namespace, "--max-unavailable", "3")
    body = cli_json("diagnose", "cluster", *at, "--apply", "cordon")
    assert [one["verdict"] for one in body["data"]["nodes"]] == ["faults", "faults", "healthy"]
    (behind,) = [one for one in body["warnings"] if one["code"] == "cluster.left_behind"]
    assert "may not delete jobs.batch" in behind["message"]
    assert f"kubectl -n {namespace} delete jobs,configmaps -l aibrixctl/run=" in behind["hint"]
    # Nothing was written, and nothing is said to have been.
    assert [(one["node"], one["changes"]) for one in body["data"]["changed"]] == [("gpu-2", [])]
    assert body["exit_code"] == 13
    assert not api.get(NODE, "gpu-1")["spec"].get("unschedulable")


def test_a_pod_has_no_more_than_it_needs(
    kube: Server, api: Api, namespace: str, at: tuple[str, ...]
) -> None:
    from cluster.jobs import manifest
    from diagnose.nodes.node import read
    from diagnose.nodes.pods import PodOptions, job_for

    npu = node("npu-1")
    npu["metadata"]["labels"] = {"accelerator": "huawei-Ascend910"}
    npu["status"]["capacity"] = npu["status"]["allocatable"] = {"huawei.com/Ascend910": "8"}
    with nodes(api, node("gpu-1"), npu):
        by_name = {one.name: one for one in read(api)}
        for name, options in (
            ("gpu-1", PodOptions("i:1")),
            ("npu-1", PodOptions("i:1")),
            ("gpu-1", PodOptions("i:1", privileged=False, skip=["fan"], runtime_class="nvidia")),
        ):
            made = manifest(job_for(by_name[name], "r", options), namespace)
            pod = api.create(made, dry_run=True)["spec"]["template"]["spec"]
            security = pod["containers"][0]["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert "hostNetwork" not in pod and "hostPID" not in pod
            assert all(m.get("readOnly") or m["mountPath"] == "/tmp"
                       for m in pod["containers"][0]["volumeMounts"])  # fmt: skip
            assert pod["tolerations"] == [{"operator": "Exists"}]
            words = pod["containers"][0]["command"]
            if options.privileged:
                assert security["privileged"] is True
            else:
                assert security["capabilities"] == {"drop": ["ALL"]}
                assert words[-2:] == ["--skip", "fan,kernel-log"]
                assert pod["runtimeClassName"] == "nvidia"
    assert len(list(follow(api, JOB, until_s=0))) == 0


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--apply", "drain"), "expected condition, taint or cordon"),
        (("--apply", "taint", "--undo"), "exclude each other"),
        (("--return-healed",), "expected --apply"),
        (("--deadline", "5s"), "expected more than --timeout"),
        (("--apply", "cordon", "--max-unavailable", "half"), "a number of nodes or a share"),
    ],
)
def test_refuses_what_makes_no_sense(
    words: tuple[str, ...], text: str, cli: Callable[..., Any]
) -> None:
    outcome = cli("diagnose", "cluster", *words)
    assert outcome.code == 2
    assert text in outcome.err


def test_the_account_of_the_pods_needs_to_write_config_maps_only(
    kube: Server,
    api: Api,
    namespace: str,
    tmp_path: Path,
    mocks: Mocks,
    cli_json: Callable[..., Any],
) -> None:
    """The rights that `rbac print` gives: those of the command, and those of its pods."""
    core, batch = "", "batch"
    rights = [
        {"apiGroups": [core], "resources": ["nodes"], "verbs": ["get", "list", "patch"]},
        {"apiGroups": [core], "resources": ["nodes/status"], "verbs": ["patch"]},
        {"apiGroups": [core], "resources": ["pods"], "verbs": ["list"]},
        {"apiGroups": [core], "resources": ["configmaps"], "verbs": ["get", "list", "delete"]},
        {"apiGroups": [core], "resources": ["events"], "verbs": ["get", "list", "create", "patch"]},
        {
            "apiGroups": [batch],
            "resources": ["jobs"],
            "verbs": ["get", "list", "watch", "create", "delete"],
        },
    ]
    of_pods = [
        {"apiGroups": [core], "resources": ["configmaps"], "verbs": ["create", "patch"]},
    ]
    mocks.set("gpu-1", LOST)
    own = kube.account(api, "operator", rights, namespace)
    worker = kube.account(api, "worker", of_pods, namespace)
    with (
        nodes(api, node("gpu-1")),
        kubelet(kube, namespace, tmp_path, account=worker, environment=mocks.environment),
        connect(Access(str(own))),
    ):
        body = cli_json("diagnose", "cluster", "--kubeconfig", str(own), "--apply", "taint")
        assert body["exit_code"] == 10, body["errors"]
        assert [one["what"] for one in body["data"]["changed"][0]["changes"]] == [
            "taint", "condition",
        ]  # fmt: skip
        body = cli_json("diagnose", "cluster", "--kubeconfig", str(own), "--undo")
        assert body["exit_code"] == 0
