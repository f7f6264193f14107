"""The whole chain, as an operator walks it: from two new GPU types to a fleet without a sick node.

Every step is a command of the tool, and goes on from what the step before left: tables in a
folder, profiles and traffic in Redis, a plan in a file, conditions on nodes. The cluster is a real
API server; Jobs run as processes, engines are simulated, and so are the nodes' GPUs.
"""

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis

from cluster.access import Access
from cluster.api import Api, Object
from cluster.kinds import CONFIG_MAP, DEPLOYMENT, JOB, NODE, SERVICE
from tests import fleet, kube_nodes
from tests.controllers import controllers
from tests.gateway import recent
from tests.kube import Server
from tests.kube_pods import kubelet
from tests.redis_server import redis_server, requires_redis

from ..profiler.in_cluster_objects import add_pod, deployment, service
from . import fake_kubectl

pytestmark = requires_redis
MODEL = "llama-2-7b"
L20, A10 = "llama-l20", "llama-large"  # One deployment's name tells its type, the other's doesn't.
NODES = {"a10-1": ("NVIDIA-A10", "a10x8"), "l20-1": ("NVIDIA-L20", "l20x2"),
         "l20-2": ("NVIDIA-L20", "l20x2")}  # fmt: skip
GPUS_PER_REPLICA = {L20: 1, A10: 2}
SICK = "l20-2"
REPLICAS_OF_L20 = 2.5
"""Traffic, in what one L20 serves: it takes three, and a sick node leaves two."""


@dataclass
class Fleet:
    """The cluster, and what an operator has of it.

    Attributes:
        api, cli_json: as the fixtures.
        store: AIBrix's Redis; url: of it.
        mocks: variables that put a program on a node's simulated GPUs, by node.
    """

    api: Api
    cli_json: Callable[..., dict[str, Any]]
    store: redis.Redis
    url: str
    mocks: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def at(self) -> tuple[str, str]:
        return "--namespace", self.api.namespace

    def do(self, *words: str, codes: tuple[int, ...] = (0,)) -> Any:
        """Run a command and return its data."""
        body = self.cli_json(*words)
        assert body["exit_code"] in codes, body["errors"]
        return body["data"]

    def on_gpus_of_its_node(self, job: Object) -> dict[str, str]:
        return self.mocks.get(job["spec"]["template"]["spec"].get("nodeName", ""), {})


@pytest.fixture
def cluster(
    kube: Server,
    api: Api,
    cli_json: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Fleet]:
    """Three nodes, a deployment per GPU type, neighbours, a Redis, and what a cluster runs."""
    monkeypatch.setenv("KUBECONFIG", str(kube.kubeconfig))
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with ExitStack() as stack:
        server = stack.enter_context(redis_server(tmp_path))
        fake_kubectl.install(tmp_path, {"service/aibrix-redis-master": server.port})
        store = stack.enter_context(redis.Redis(port=server.port))
        found = Fleet(api, cli_json, store, server.url)
        stack.enter_context(simulated_gpus(found))
        stack.enter_context(kube_nodes.nodes(api, *map(node, NODES)))
        for name, accelerator, where in ((L20, "l20", "l20-1"), (A10, "a10", "a10-1")):
            port = stack.enter_context(engine(accelerator, GPUS_PER_REPLICA[name]))
            serve(api, name, port, where)
        api.create(service("aibrix-redis-master", 6379, {"app": "redis"}, 6379))
        stack.callback(api.delete, SERVICE, "aibrix-redis-master")  # Others look for it everywhere.
        api.create(fleet.deployment("neighbour", 2, model="other"))
        api.create(fleet.pod("theirs", "a10-1", 1))
        stack.enter_context(
            kubelet(kube, api.namespace, tmp_path, environment=found.on_gpus_of_its_node)
        )
        stack.enter_context(controllers(Access(str(kube.kubeconfig), namespace=api.namespace)))
        yield found


@contextmanager
def simulated_gpus(fleet: Fleet) -> Iterator[None]:
    """Start a mock for each node."""
    try:
        for name, (_, gpus) in NODES.items():
            started = fleet.do("mock-fail", "start", name, "--node", gpus)
            fleet.mocks[name] = started["variables"]
        yield
    finally:
        fleet.do("mock-fail", "stop", "--all")


def node(name: str) -> Object:
    product, gpus = NODES[name]
    labels = {"nvidia.com/gpu.product": product}
    return kube_nodes.node(name, gpus=int(gpus.rpartition("x")[2]), **labels)


@contextmanager
def engine(accelerator: str, gpus: int) -> Iterator[int]:
    """Serve a simulated replica from a process; give its port."""
    what = ("--accelerator", accelerator, "--gpus", str(gpus), "--model", MODEL)
    quick = ("--speed", "4", "--max-num-seqs", "4", "--port", "0")
    process = subprocess.Popen(
        [sys.executable, "-m", "aibrixctl", "profile", "serve-sim", *what, *quick],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        told = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", told)
        assert found, told + process.stderr.read()
        yield int(found[1])
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 0


def serve(api: Api, name: str, port: int, where: str) -> None:
    """Create a deployment with one replica, whose pod on a node leads to the engine."""
    body = deployment(name, port, MODEL)
    body["spec"]["replicas"] = 1
    pod = body["spec"]["template"]["spec"]
    pod["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": str(GPUS_PER_REPLICA[name])}}
    api.create(body)
    pod["nodeName"] = where
    add_pod(api, f"{name}-1", body)


def test_from_new_gpu_types_to_a_fleet_without_the_sick_node(cluster: Fleet) -> None:
    rate_of_l20 = measure_both_types(cluster)
    publish_the_tables(cluster)
    traffic_arrives(cluster, REPLICAS_OF_L20 * rate_of_l20)
    others = untouched(cluster)

    planned = plan_for_the_traffic(cluster, "first.json")
    assert planned == {L20: 3, A10: 0}
    apply_the_plan(cluster, "first.json")
    assert replicas(cluster) == planned

    a_gpu_fails(cluster)
    diagnosis_cordons_the_sick_node(cluster)

    planned = plan_for_the_traffic(cluster, "second.json")
    assert planned[L20] <= 2 and planned[A10] >= 1  # How many, the measured figures decide.
    apply_the_plan(cluster, "second.json")
    assert replicas(cluster) == planned
    assert untouched(cluster) == others


def measure_both_types(cluster: Fleet) -> float:
    """Measure from within the cluster; return how many requests/s an L20 serves."""
    found = cluster.do(
        *("profile", "run", *cluster.at, "--out", "profiles"),
        *("--target", f"l20=k8s:deployment/{L20}", "--target", f"a10=k8s:deployment/{A10}"),
        *("--cost", "l20=1.0", "--cost", "a10=4.0", "--slo", "e2e_p50<=2s"),
        *("--input-tokens", "256", "--output-tokens", "8"),
        *("--duration", "1s", "--warmup", "0s", "--max-probes", "5", "--tolerance", "100%"),
        codes=(0, 3),  # 3: other work on this machine held up the client, so that the rate is less.
    )
    tables = {table["target"]: table for table in found["tables"]}
    l20, a10 = tables["l20"], tables["a10"]
    assert found["complete"]
    assert {table["provenance"]["source"] for table in (l20, a10)} == {"simulated"}
    assert (l20["accelerator"], l20["gpus_per_replica"]) == ("l20", 1)
    assert (a10["accelerator"], a10["gpus_per_replica"]) == ("a10", 2)
    rate: float = l20["cells"][0]["max_request_rate"]
    assert rate > 0
    return rate


def publish_the_tables(cluster: Fleet) -> None:
    at = f"{cluster.api.namespace}/aibrix-redis-master"
    pushed = cluster.do("profile", "push", "--k8s", "profiles", "--redis-service", at)
    keys = {profile["key"] for profile in pushed["profiles"]}
    assert keys == {f"aibrix:profile_{MODEL}_{name}" for name in (L20, A10)}


def traffic_arrives(cluster: Fleet, rate: float) -> None:
    """Have the gateway write down two minutes of requests."""
    trace = recent(MODEL, cluster.store, 12)
    for _ in range(12):
        trace.slot([(200, 8)] * round(rate * 10))
    trace.write(cluster.store, expire=True)


def plan_for_the_traffic(cluster: Fleet, out: str) -> dict[str, int]:
    """Plan from Redis alone, and what runs now; return replicas by deployment."""
    plan = cluster.do(
        *("optimize", "plan", *cluster.at, "--current", "k8s", "--out", out),
        *("--workload", cluster.url, "--profiles", cluster.url, "--window", "2m"),
    )
    assert {table["source"] for table in plan["inputs"]["tables"]} == {"simulated"}
    # Eight A10s but the one of a neighbour; L20s of the nodes that are in service.
    free = 2 if cordoned(cluster) else 4
    assert plan["inputs"]["limits"]["available_gpus"] == {"a10": 7, "l20": free}
    found: dict[str, int] = plan["replicas"]
    return found


def apply_the_plan(cluster: Fleet, plan: str) -> None:
    done = cluster.do("optimize", "apply", plan, *cluster.at, "--yes")
    assert done["outcome"] == "applied"


def a_gpu_fails(cluster: Fleet) -> None:
    cluster.do("mock-fail", "set", SICK, "--scenario", "gpu-lost-xid79", "--device", "1")


def diagnosis_cordons_the_sick_node(cluster: Fleet) -> None:
    found = cluster.do("diagnose", "cluster", *cluster.at, "--apply", "cordon", codes=(10,))
    verdicts = {one["node"]: one["verdict"] for one in found["nodes"]}
    assert verdicts == {"a10-1": "healthy", "l20-1": "healthy", SICK: "faults"}
    assert cordoned(cluster) == [SICK]
    conditions = cluster.api.get(NODE, SICK)["status"]["conditions"]
    health = next(one for one in conditions if one["type"] == "AcceleratorHealthy")
    assert (health["status"], health["reason"]) == ("False", "NV-GPU-LOST")


def cordoned(cluster: Fleet) -> list[str]:
    return [one["metadata"]["name"] for one in cluster.api.list(NODE)
            if one["spec"].get("unschedulable")]  # fmt: skip


def replicas(cluster: Fleet) -> dict[str, int]:
    deployments = {name: cluster.api.get(DEPLOYMENT, name) for name in (L20, A10)}
    return {name: one["spec"]["replicas"] for name, one in deployments.items()}


def untouched(cluster: Fleet) -> dict[str, Any]:
    """Return what the chain must leave as it is: all but replicas, and the sick node's service."""
    api = cluster.api
    healthy = {name: api.get(NODE, name)["spec"] for name in NODES if name != SICK}
    specs = {one["metadata"]["name"]: one["spec"] for one in api.list(DEPLOYMENT)}
    for name in (L20, A10):
        del specs[name]["replicas"]
    left = [one["metadata"]["name"] for kind in (JOB, CONFIG_MAP) for one in api.list(kind)]
    return {"nodes": healthy, "deployments": specs, "of runs": left}
