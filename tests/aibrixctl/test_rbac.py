"""The rights that ``rbac print`` gives suffice for each command, and none of them is idle."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.access import Access, connect
from cluster.api import Api
from cluster.kinds import CONFIG_MAP, NAMESPACE, STORM_SERVICE
from cluster.rights import NEEDS, WORKER
from cluster.transport import Deed, Transport
from mockfail.state import Override
from optimizer.plan import save as save_plan
from profiler.table import save
from tests import fleet
from tests.controllers import controllers
from tests.kube import Server
from tests.kube_nodes import Mocks, node, nodes
from tests.kube_pods import kubelet
from tests.kvpool.k8s.cluster_pools import world_of
from tests.optimizer.problems import make_table
from tests.optimizer.rollout.test_draft import autoscaler, plan_of
from tests.redis_server import redis_server, requires_redis

from ..profiler.in_cluster_objects import add_pod, create, deployment, service
from ..profiler.sim.served import MODEL, running

Cli = Callable[..., Any]
Asked = tuple[Deed, int]
"""What was asked for, and the HTTP status of the answer."""
RARE = {
    ("get", "jobs.batch"),  # after a creation that got no answer
    ("list", "events"),  # where no pod of a Job appears
}


SOURCES = [
    {
        "metricSourceType": "domain",
        "protocolType": "http",
        "endpoint": "optimizer:8080",
        "path": "/metrics/default/a10",
        "port": "8080",
        "targetMetric": "vllm:deployment_replicas",
        "targetValue": "100",
    }
]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Asked]:
    """All that is asked of the cluster in this process, by tests too."""
    deeds: list[Asked] = []
    original = Transport._tried

    def tried(self: Transport, deed: Deed, *more: Any, **options: Any) -> Any:
        response = original(self, deed, *more, **options)
        deeds.append((deed, response.status))
        return response

    monkeypatch.setattr(Transport, "_tried", tried)
    return deeds


class Account:
    """The service account of one command, and what it was used for."""

    def __init__(self, kube: Server, api: Api, cli: Cli, asked: list[Asked], *words: str):
        self._api, self._cli, self._asked, command = api, cli, asked, words[0]
        self._command = command
        printed = cli("rbac", "print", "--for", *words, "-n", api.namespace)
        assert printed.code == 0, printed.err
        for manifest in yaml.safe_load_all(printed.out):
            place = manifest["metadata"].get("namespace")
            if place and api.find(NAMESPACE, place) is None:
                head = {"apiVersion": "v1", "kind": "Namespace"}
                api.create({**head, "metadata": {"name": place}})
            api.apply(manifest, force=True)
        self.file = kube.login(api, "aibrixctl", api.namespace)
        self.worker = kube.login(api, WORKER, api.namespace) if NEEDS[command].worker else None
        self._used: set[tuple[str, str]] = set()

    def run(self, *words: str, codes: tuple[int, ...] = (0,)) -> Any:
        """Run the command as that account; it is refused nothing."""
        before = len(self._asked)
        outcome = self._cli(*words, "--kubeconfig", str(self.file))
        assert outcome.code in codes, outcome.err
        assert "may not" not in outcome.err + outcome.out
        assert not [deed for deed, status in self._asked[before:] if status == 403]
        used = {(deed.verb, deed.resource) for deed, _ in self._asked[before:]}
        # Server-side apply is a patch that RBAC takes for a creation where there is nothing yet.
        self._used |= used | {("create", what) for verb, what in used if verb == "patch"}
        return outcome

    def has_no_idle_right(self) -> None:
        """Each right was used in what ran, but for those that only a mishap asks for."""
        granted = {
            (verb, f"{right.kind.resource}/{right.subresource}".rstrip("/"))
            for right in NEEDS[self._command].rights
            for verb in right.verbs
        }
        assert granted - self._used <= RARE


MakeAccount = Callable[..., Account]


@pytest.fixture
def planned(api: Api) -> Iterator[fleet.MakeNode]:
    """Tables of an A10 and an L20 and a trace, and a function that makes their nodes."""
    Path("profiles").mkdir()
    for name, rates in (("a10", [[6.0, 3.0], [2.0, 1.0]]), ("l20", [[20.0, 14.0], [9.0, 5.0]])):
        save(make_table(name, rates, cost=1.0), f"profiles/{name}.table.json")
    lines = [f"2024-01-01 00:00:{second:02d},100,30" for second in range(60)]
    Path("trace.csv").write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *lines]))
    with fleet.nodes(api) as make:
        yield make


@pytest.fixture
def account(kube: Server, api: Api, cli: Cli, asked: list[Asked]) -> MakeAccount:
    return lambda *words: Account(kube, api, cli, asked, *words)


def test_every_command_is_accounted_for() -> None:
    proven = {
        "profile load", "optimize plan", "optimize apply",
        "optimize apply --target stormservice", "optimize apply --target podautoscaler",
        "optimize doctor", "diagnose cluster", "diagnose cluster --apply",
        "diagnose cluster --undo", "diagnose fleet", "kv pools", "kv doctor",
    }  # fmt: skip
    # kubectl asks for these in our place, and the first is the same command elsewhere.
    assert NEEDS.keys() - proven == {
        "profile run", "profile run --port-forward", "profile load --port-forward", "profile push",
    }  # fmt: skip


def test_an_unknown_command_is_refused(cli: Cli) -> None:
    outcome = cli("rbac", "print", "--for", "kv stats")
    assert outcome.code == 2
    assert "no rights are known for 'kv stats'; expected one of profile load" in outcome.err


def test_rights_everywhere_for_commands_that_look_everywhere(cli: Cli) -> None:
    outcome = cli("rbac", "print", "--for", "kv pools", "--all-namespaces")
    made = list(yaml.safe_load_all(outcome.out))
    assert [one["kind"] for one in made] == [
        "ServiceAccount", "ClusterRole", "ClusterRoleBinding",
    ]  # fmt: skip


def test_json_lists_the_same(cli_json: Cli) -> None:
    body = cli_json("rbac", "print", "--for", "diagnose fleet", "-n", "ops", "--account", "eyes")
    names = {(m["kind"], m["metadata"]["name"]) for m in body["data"]["manifests"]}
    assert ("Role", "eyes") in names
    assert ("ClusterRoleBinding", "ops-eyes") in names


def test_diagnose_fleet(api: Api, account: MakeAccount) -> None:
    observer = account("diagnose fleet")
    observer.run("diagnose", "fleet")
    api.create(fleet.deployment("a10", 1))
    observer.run("diagnose", "fleet", codes=(0, 10))
    observer.has_no_idle_right()


@pytest.mark.parametrize("command", ["diagnose fleet", "kv pools"])
def test_rights_everywhere_tell_an_empty_namespace_from_none(
    command: str, account: MakeAccount
) -> None:
    observer = account(command, "--all-namespaces")
    outcome = observer.run(*command.split(), "-n", "nothere", codes=(1,))
    assert "there is no namespace nothere" in outcome.err


@pytest.mark.parametrize("command", ["diagnose cluster", "diagnose cluster --apply"])
def test_diagnose_cluster(
    command: str,
    kube: Server,
    api: Api,
    tmp_path: Path,
    account: MakeAccount,
) -> None:
    operator = account(command)
    mocks = Mocks(tmp_path / "mocks")
    mocks.set("gpu-1", Override("gpu", "lost", True, 1))
    ways = (("--apply", "condition"), ("--apply", "cordon"), ("--apply", "cordon"))
    with (
        nodes(api, node("gpu-1")),
        kubelet(
            kube,
            api.namespace,
            tmp_path,
            account=operator.worker,
            environment=mocks.environment,
        ),
    ):
        for words in ways if "--apply" in command else ((),):
            operator.run("diagnose", "cluster", *words, codes=(10,))
        if "--apply" in command:
            undoer = account("diagnose cluster --undo")
            undoer.run("diagnose", "cluster", "--undo")
            undoer.has_no_idle_right()
    operator.has_no_idle_right()


@requires_redis
def test_kv(api: Api, tmp_path: Path, account: MakeAccount) -> None:
    with redis_server(tmp_path) as server, world_of(api, server.port) as world:
        lister = account("kv pools")
        lister.run("kv", "pools")
        world.build(metadata=world.external).status("kv-1", f"{world.net}.2", ready=False)
        lister.run("kv", "pools")
        lister.has_no_idle_right()
        doctor = account("kv doctor")
        doctor.run("kv", "doctor", "k8s:kv", codes=(10,))
        doctor.has_no_idle_right()


def test_optimize_plan(api: Api, account: MakeAccount, planned: fleet.MakeNode) -> None:
    planned("NVIDIA-A10", 64)
    planned("NVIDIA-L20", 64)
    planner = account("optimize plan")
    words = ("--profiles", "profiles", "--workload", "trace.csv", "--rate", "30")
    planner.run("optimize", "plan", *words, "--current", "k8s")
    api.create(fleet.deployment("a10", 2))
    planner.run("optimize", "plan", *words, "--current", "k8s")
    planner.has_no_idle_right()


@pytest.mark.parametrize("target", ["deployment", "stormservice", "podautoscaler"])
def test_optimize_apply(target: str, kube: Server, api: Api, account: MakeAccount) -> None:
    make = fleet.storm_service if target == "stormservice" else fleet.deployment
    api.create(make("a10", 0))
    if target == "podautoscaler":
        api.create(autoscaler("a10", "a10", 0, 4, metricsSources=SOURCES))
        api.create(fleet.storm_service("v100", 0))
        of_storm = autoscaler("v100", "v100", 0, 4, metricsSources=SOURCES)
        of_storm["spec"]["scaleTargetRef"] |= {
            "apiVersion": STORM_SERVICE.api_version,
            "kind": STORM_SERVICE.kind,
        }
        api.create(of_storm)
    # Nothing runs l20, and nothing is planned for it.
    wanted = {"a10": 2, "l20": 0} | ({"v100": 1} if target == "podautoscaler" else {})
    save_plan(plan_of(wanted, model="m"), "plan.json")
    suffix = "" if target == "deployment" else f" --target {target}"
    applier = account(f"optimize apply{suffix}")
    with controllers(Access(str(kube.kubeconfig), namespace=api.namespace)):
        applier.run("optimize", "apply", "plan.json", "--yes", "--target", target)
    applier.has_no_idle_right()


def test_optimize_doctor(api: Api, account: MakeAccount) -> None:
    api.create(fleet.deployment("a10", 2))
    doctor = account("optimize doctor")
    doctor.run("optimize", "doctor", codes=(3, 10))
    doctor.has_no_idle_right()


def interrupt_load(kube: Server, namespace: str) -> None:
    """Press Ctrl-C once a load has begun, or never where it does not."""
    deadline = time.monotonic() + 120
    with connect(Access(str(kube.kubeconfig), namespace=namespace)) as api:
        while time.monotonic() < deadline:
            if any(one["metadata"]["name"].endswith("-start") for one in api.list(CONFIG_MAP)):
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(0.1)


def test_profile_load(
    kube: Server,
    api: Api,
    tmp_path: Path,
    account: MakeAccount,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("profiler.load.health.FLOOR_MS", 10_000.0)
    with running() as server, fleet.nodes(api) as make:
        of = deployment("l20", server.address[1], MODEL)
        pod = of["spec"]["template"]["spec"]
        pod["nodeName"] = make("NVIDIA-L20", 8)
        pod["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "1"}}
        create(api, of)
        add_pod(api, "l20-1", of)
        tester = account("profile load")
        words = (
            *("profile", "load", "--target", "k8s:deployment/l20", "--request-rate", "20"),
            *("--input-tokens", "32", "--output-tokens", "4", "--warmup", "0s", "--shards", "2"),
        )
        with kubelet(kube, api.namespace, tmp_path, account=tester.worker):
            tester.run(*words, "--duration", "2s", codes=(0, 3))
            ctrl_c = threading.Thread(target=interrupt_load, args=(kube, api.namespace))
            ctrl_c.start()
            tester.run(*words, "--duration", "10m", codes=(130,))
            ctrl_c.join()
        create(api, service("front", 80, of["spec"]["selector"]["matchLabels"], 8000))
        tester.run(
            *("profile", "run", "--target", "front=k8s:service/front", "--input-tokens", "32"),
            *("--output-tokens", "4", "--slo", "ttft_p99<=2s", "--out", "out", "--dry-run"),
        )
    tester.has_no_idle_right()
