"""``profile load`` and ``profile run`` on an engine in a cluster, whose Jobs run as processes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cluster.access import Access, connect
from cluster.api import Api
from cluster.kinds import CONFIG_MAP, JOB, POD
from tests import kube as kube_server
from tests.kube import Server
from tests.kube_pods import Kubelet, kubelet, no_image, unschedulable

from ..profiler.in_cluster_objects import add_pod, create, deployment, service
from ..profiler.sim.served import MODEL, running
from . import fake_kubectl

Cli = Callable[..., dict[str, Any]]
Pods = Callable[..., AbstractContextManager[Kubelet]]


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


@pytest.fixture
def pods(kube: Server, namespace: str, tmp_path: Path) -> Pods:
    """Run the Jobs of the test's namespace; options as of ``kubelet``."""
    return partial(kubelet, kube, namespace, tmp_path)


def load(*more: str) -> list[str]:
    return [
        *("profile", "load", "--target", "k8s:deployment/l20", "--request-rate", "20"),
        *("--input-tokens", "32", "--output-tokens", "4", "--duration", "2s", "--warmup", "0s"),
        *more,
    ]


def left(api: Api) -> list[str]:
    """What a load left behind: Jobs, and ConfigMaps of the run.

    What a Job owns goes with it, by the garbage collection that no one does here.
    """
    return [
        one["metadata"]["name"]
        for kind in (JOB, CONFIG_MAP)
        for one in api.list(kind)
        if one["metadata"].get("labels", {}).get("aibrixctl/run")
        and not one["metadata"].get("ownerReferences")
    ]


def test_two_pods_send_one_load(
    cli_json: Cli, api: Api, engine: int, reach: tuple[str, ...], pods: Pods
) -> None:
    # A kubelet puts variables in place of $(NAME), and $ in place of $$.
    with pods() as node:
        body = cli_json(*load("--shards", "2", "--extra-body", '{"user": "$(HOME)$$"}', *reach))
    data = body["data"]
    assert data["requests"]["completed"] == 40, body
    assert (data["shards"], data["lost_shards"], data["complete"]) == (2, [], True)
    assert [shard["requests"] for shard in data["client"]["shards"]] == [20, 20]
    assert data["engine"]["model"] == MODEL
    assert data["engine"]["url"] == f"http://127.0.0.1:{engine}"
    assert (data["engine"]["target"], data["engine"]["via"]) == ("k8s:deployment/l20", "job")
    assert any("pod l20-1, 1 of 1 of l20, was asked directly" in note for note in data["notes"])
    assert len(node.jobs) == 2
    for job in node.jobs.values():
        (container,) = job["spec"]["template"]["spec"]["containers"]
        assert "$" not in "".join(container["command"])
    assert not left(api)


def test_a_load_that_is_no_word_of_a_command_is_refused(
    cli_json: Cli, engine: int, reach: tuple[str, ...]
) -> None:
    body = cli_json(*load("--extra-body", json.dumps({"user": "x" * 100_000}), *reach))
    assert (body["exit_code"], body["errors"][0]["code"]) == (2, "load.too_long")


@pytest.mark.parametrize(
    ("signum", "reason"), [(signal.SIGKILL, "Evicted"), (signal.SIGTERM, "told to stop")]
)
def test_a_lost_pod_is_named_and_the_load_is_partial(
    signum: int,
    reason: str,
    cli_json: Cli,
    api: Api,
    engine: int,
    reach: tuple[str, ...],
    pods: Pods,
) -> None:
    with pods() as node:
        evictor = threading.Thread(target=evict_under_load, args=(api, node, signum))
        evictor.start()
        body = cli_json(*load("--shards", "2", "--duration", "5s", *reach))
        evictor.join()
    assert (body["status"], body["exit_code"]) == ("partial", 3)
    (lost,) = body["data"]["lost_shards"]
    assert lost["shard"] == "2 of 2"
    assert reason in lost["reason"]
    assert body["data"]["requests"]["completed"] == 50
    assert body["data"]["complete"] is False
    assert "shard 2 of 2 was lost under way" in body["errors"][0]["message"]
    assert not left(api)


def evict_under_load(api: Api, node: Kubelet, signum: int) -> None:
    """Evict the pod of the second part once the load has begun."""
    deadline = time.monotonic() + 120
    while load_runs_since(api) < 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    node.end(next(job for job in node.pods if job.endswith("-2")), signum=signum)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (unschedulable("0/3 nodes are available"), "Unschedulable: 0/3 nodes are available"),
        (no_image("no such image"), "ImagePullBackOff: no such image"),
    ],
)
def test_what_a_pod_waits_for_is_told_and_waited_for_no_longer_than_asked(
    status: Any, text: str, cli: Any, api: Api, engine: int, reach: tuple[str, ...], pods: Pods
) -> None:
    def second(job: Any) -> Any:
        return status if job["metadata"]["name"].endswith("-2") else None

    with pods(rule=second):
        outcome = cli(*load("--shards", "2", "--start-timeout", "8s", *reach))
    assert outcome.code == 1
    assert text in outcome.err
    assert "shard 2 of 2 was not ready in time" in outcome.err
    assert not left(api)


def test_what_a_pod_refuses_is_told_as_if_it_were_refused_here(
    cli_json: Cli, api: Api, engine: int, reach: tuple[str, ...], pods: Pods
) -> None:
    with pods():
        body = cli_json(*load("--model", "other", *reach))
    assert body["exit_code"] == 2
    assert "does not serve 'other'" in body["errors"][0]["message"]
    assert not left(api)


def test_rights_that_are_missing_are_named_before_anything_runs(
    cli_json: Cli,
    api: Api,
    kube: Server,
    namespace: str,
    engine: int,
    reach: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads = {"apiGroups": ["", "apps"], "resources": ["*"], "verbs": ["get", "list"]}
    account = kube.account(api, "reader", [reads], namespace)
    monkeypatch.setenv("KUBECONFIG", str(account))
    body = cli_json(*load())
    assert body["exit_code"] == 13
    assert "create" in body["errors"][0]["message"]
    assert "jobs.batch" in body["errors"][0]["message"]
    assert not left(api)


Process = subprocess.Popen[str]
Begin = Callable[[Path], Process]


@pytest.fixture
def begin(namespace: str) -> Iterator[Begin]:
    """Begin a load of two pods that takes 10 minutes, as the account of a kubeconfig."""
    running: list[Process] = []

    def start(kubeconfig: Path) -> Process:
        words = load("--duration", "10m", "--shards", "2", "-n", namespace)
        process = subprocess.Popen(
            [sys.executable, "-m", "aibrixctl", *words],
            env=os.environ | {"KUBECONFIG": str(kubeconfig), "AIBRIXCTL_OUTPUT": "json"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def wait_for(process: Process, ready: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not ready():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)


def interrupted(process: Process) -> tuple[dict[str, Any], str]:
    """Press Ctrl-C; return the answer and what was said."""
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    body: dict[str, Any] = json.loads(out)
    assert process.returncode == body["exit_code"] == 130, body
    return body, err


def test_ctrl_c_before_the_load_removes_the_jobs(
    api: Api, kube: Server, engine: int, begin: Begin, pods: Pods
) -> None:
    with pods() as node:
        process = begin(kube.kubeconfig)
        wait_for(process, lambda: node.pods)
        body, _ = interrupted(process)
        assert body["errors"][0]["code"] == "interrupted"
        assert_gone(api, node)


def test_ctrl_c_under_load_reports_what_the_pods_measured(
    api: Api, kube: Server, engine: int, begin: Begin, pods: Pods
) -> None:
    with pods() as node:
        process = begin(kube.kubeconfig)
        wait_for(process, lambda: load_runs_since(api) > 2)
        body, said = interrupted(process)
        assert_gone(api, node)
    assert body["status"] == "partial"
    assert body["errors"][0]["code"] == "load.interrupted"
    assert "waiting for what the pods have measured so far" in said
    assert (body["data"]["shards"], body["data"]["lost_shards"]) == (2, [])
    assert body["data"]["complete"] is False
    assert body["data"]["requests"]["completed"] > 20


def test_ctrl_c_says_why_what_was_measured_does_not_come_back(
    api: Api, kube: Server, namespace: str, engine: int, begin: Begin, pods: Pods
) -> None:
    """The account may not patch Jobs, which is how pods are recalled."""
    rules = [
        {
            "apiGroups": ["", "apps", "batch"],
            "resources": ["*"],
            "verbs": ["create", "delete", "get", "list", "watch"],
        }
    ]
    with pods() as node:
        process = begin(kube.account(api, "tester", rules, namespace))
        wait_for(process, lambda: load_runs_since(api) > 1)
        body, _ = interrupted(process)
        assert_gone(api, node)
    (error,) = body["errors"]
    assert "nothing measured of k8s:deployment/l20 came back" in error["message"]
    assert "may not patch jobs.batch" in error["message"]


def test_what_a_killed_load_leaves_belongs_to_its_jobs(
    api: Api, kube: Server, engine: int, begin: Begin, pods: Pods
) -> None:
    with pods():
        process = begin(kube.kubeconfig)
        wait_for(process, lambda: load_runs_since(api) > 0)
        process.kill()
        process.wait()
        jobs = {one["metadata"]["uid"] for one in api.list(JOB)}
        of_run = [c for c in api.list(CONFIG_MAP) if "aibrixctl/run" in c["metadata"]["labels"]]
    assert len(of_run) == 3
    for one in of_run:
        (owner,) = one["metadata"]["ownerReferences"]
        assert owner["uid"] in jobs


def load_runs_since(api: Api) -> float:
    """Seconds since a load began; below 0 while none has."""
    starts = [one for one in api.list(CONFIG_MAP) if one["metadata"]["name"].endswith("-start")]
    return time.time() - float(starts[0]["data"]["start_unix_s"]) if starts else -1.0


def assert_gone(api: Api, node: Kubelet) -> None:
    """Nothing of a load is left; the node takes a moment to end what was deleted."""
    assert not left(api)
    deadline = time.monotonic() + 30
    while node.pods or [p for p in api.list(POD) if "job-name" in p["metadata"]["labels"]]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_port_forward_marks_the_figures(
    cli_json: Cli,
    cli: Any,
    api: Api,
    engine: int,
    reach: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = fake_kubectl.install(tmp_path, {"pod/l20-1": engine})
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    data = cli_json(*load("--port-forward", *reach))["data"]
    assert data["requests"]["completed"] == 40
    assert data["engine"]["via"] == "port-forward"
    assert "measured through a port-forward: its latency is in the figures" in data["notes"]
    (words,) = fake_kubectl.calls(log)
    assert words[-2:] == ["pod/l20-1", f":{engine}"]
    assert words[words.index("--namespace") + 1] == reach[1]

    cell = ("--input-tokens", "32", "--output-tokens", "4", "--slo", "e2e_p50<=60s")
    quick = ("--duration", "0.3s", "--warmup", "0s", "--max-probes", "5", "--tolerance", "100%")
    outcome = cli(
        *("profile", "run", "--target", "l20=k8s:deployment/l20", "--port-forward", *reach),
        *(*cell, *quick, "--out", "out"),
    )
    table = json.loads(Path("out/l20.table.json").read_text())
    assert table["provenance"]["via"] == "port-forward"
    assert "measured through a port-forward" in table["provenance"]["notes"][0]
    assert "THROUGH A PORT-FORWARD" in outcome.out
    assert "note: measured through a port-forward" in outcome.out


def test_a_port_forward_that_fails_says_what_kubectl_says(
    cli_json: Cli,
    engine: int,
    reach: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_kubectl.install(tmp_path, {})
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    body = cli_json(*load("--port-forward", *reach))
    assert body["exit_code"] == 13
    assert "Current status=Pending" in body["errors"][0]["message"]


def test_a_table_is_measured_from_jobs_and_a_probe_that_loses_its_pod_is_run_again(
    cli_json: Cli, api: Api, engine: int, reach: tuple[str, ...], pods: Pods
) -> None:
    lost: list[str] = []

    def first_is_lost(job: Any) -> Any:
        if not lost or lost[0] == job["metadata"]["name"]:
            lost[:] = [job["metadata"]["name"]]
            # Its command ends at once, as of a pod whose node dies.
            job["spec"]["template"]["spec"]["containers"][0]["command"] = ["false"]

    with pods(rule=first_is_lost) as node:
        body = cli_json(
            *("profile", "run", "--target", "l20=k8s:deployment/l20", *reach, "--out", "out"),
            *("--input-tokens", "32", "--output-tokens", "4", "--slo", "e2e_p50<=1us"),
        )
    (table,) = body["data"]["tables"]
    assert table["model"] == MODEL
    assert table["provenance"]["via"] == "job"
    (cell,) = table["cells"]
    assert (cell["status"], body["exit_code"]) == ("infeasible", 0), body
    assert len(node.jobs) == body["data"]["probes"] + 1
    assert not left(api)


def test_a_probe_that_loses_its_pod_twice_leaves_the_cell_unmeasured(
    cli_json: Cli, api: Api, engine: int, reach: tuple[str, ...], pods: Pods
) -> None:
    def lost(job: Any) -> Any:
        job["spec"]["template"]["spec"]["containers"][0]["command"] = ["false"]

    with pods(rule=lost) as node:
        body = cli_json(
            *("profile", "run", "--target", "l20=k8s:deployment/l20", *reach, "--out", "out"),
            *("--input-tokens", "32", "--output-tokens", "4", "--slo", "e2e_p50<=60s"),
        )
    assert (body["status"], body["exit_code"]) == ("partial", 3)
    (cell,) = body["data"]["tables"][0]["cells"]
    assert cell["status"] == "not_measured"
    assert "lost 2 times: shard 1 of 1 was lost" in " ".join(cell["notes"])
    assert "exit code 1" in " ".join(cell["notes"])
    assert len(node.jobs) % 2 == 0


def test_a_dry_run_says_where_the_engine_is_and_asks_the_server(
    cli_json: Cli, api: Api, engine: int, reach: tuple[str, ...]
) -> None:
    create(api, service("m", 80, {"model.aibrix.ai/name": MODEL}, engine))
    body = cli_json(
        *("profile", "run", "--target", "l20=k8s:deployment/l20", *reach, "--out", "out"),
        *("--input-tokens", "32", "--output-tokens", "4", "--slo", "e2e_p50<=60s", "--dry-run"),
    )
    (target,) = body["data"]["targets"]
    assert target["place"] == {
        "namespace": reach[1],
        "url": f"http://m.{reach[1]}.svc:80",
        "model": MODEL,
        "engine": "vllm",
        "pods": 1,
        "notes": [],
        "via": "job",
    }
    assert not left(api)
    assert not Path("out").exists()


def test_an_api_server_that_restarts_under_a_load_costs_nothing(
    cli_json: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kube").mkdir()
    with (
        kube_server.api_server(tmp_path / "kube", crds=False) as own,
        kube_server.fresh_namespace(own) as namespace,
        connect(Access(str(own.kubeconfig), namespace=namespace)) as api,
        running() as server,
    ):
        of = deployment("l20", server.address[1], MODEL)
        create(api, of)
        add_pod(api, "l20-1", of)
        monkeypatch.setenv("KUBECONFIG", str(own.kubeconfig))
        with kubelet(own, namespace, tmp_path) as node:
            restarter = threading.Thread(target=restart_under_load, args=(own, node))
            restarter.start()
            body = cli_json(*load("--shards", "2", "--duration", "4s", "--namespace", namespace))
            restarter.join()
        assert body["errors"] == [], body["errors"]
        assert body["data"]["requests"]["completed"] == 80
        assert body["data"]["lost_shards"] == []
        assert not left(api)


def restart_under_load(server: Server, node: Kubelet) -> None:
    """Restart the API server once both pods run: they get ready, or send, meanwhile."""
    deadline = time.monotonic() + 120
    while len(node.pods) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    server.restart()


def test_ctrl_c_without_an_api_server_names_what_is_left(
    tmp_path: Path, begin: Begin, namespace: str
) -> None:
    (tmp_path / "kube").mkdir()
    with (
        kube_server.api_server(tmp_path / "kube", crds=False) as own,
        connect(Access(str(own.kubeconfig), namespace=namespace)) as api,
        running() as server,
    ):
        head = {"apiVersion": "v1", "kind": "Namespace"}
        api.create({**head, "metadata": {"name": namespace}})
        of = deployment("l20", server.address[1], MODEL)
        create(api, of)
        add_pod(api, "l20-1", of)
        with kubelet(own, namespace, tmp_path):
            process = begin(own.kubeconfig)
            wait_for(process, lambda: load_runs_since(api) > 1)
            own.stop(only_api=True)
            began = time.monotonic()
            body, _ = interrupted(process)
    assert time.monotonic() - began < 40
    (error,) = body["errors"]
    assert "nothing measured of k8s:deployment/l20 came back" in error["message"]
    assert "no API server answers" in error["message"]
    assert f"kubectl -n {namespace} delete jobs,configmaps -l aibrixctl/run=" in error["message"]


def test_files_of_this_machine_are_no_use_to_pods(cli_json: Cli, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sesame")
    body = cli_json(*load("--token-file", str(tmp_path / "key")))
    assert body["exit_code"] == 2
    assert "--token-secret" in body["errors"][0]["hint"]
