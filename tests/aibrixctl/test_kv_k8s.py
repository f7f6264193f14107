"""`kv pools`, and `kv doctor` of a pool in a cluster, as operators and scripts run them."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cluster.api import Api
from cluster.errors import NotFoundError
from cluster.kinds import CRD, KV_CACHE, NAMESPACE
from tests.kube import Server, install_crds
from tests.kvpool.k8s.cluster_pools import World, world_of
from tests.redis_server import redis_server, requires_redis

pytestmark = requires_redis
PODS_OF_KV = {
    "cache": {"wanted": 2, "present": 2, "ready": 2},
    "metadata": {"wanted": 0, "present": 1, "ready": 1},
    "kvwatcher": {"wanted": 1, "present": 1, "ready": 1},
}
RULES = [
    {"apiGroups": ["orchestration.aibrix.ai"], "resources": ["kvcaches"], "verbs": ["list"]},
    {"apiGroups": [""], "resources": ["pods", "services"], "verbs": ["list"]},
]
DOCTOR_RULES = [
    {"apiGroups": ["orchestration.aibrix.ai"], "resources": ["kvcaches"], "verbs": ["get", "list"]},
    {"apiGroups": [""], "resources": ["pods", "services"], "verbs": ["list"]},
    {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]},
]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with redis_server(tmp_path_factory.mktemp("placement")) as server:
        yield server.port


@pytest.fixture
def world(api: Api, port: int) -> Iterator[World]:
    with world_of(api, port) as made:
        yield made


@pytest.fixture
def there(kube: Server, namespace: str) -> tuple[str, ...]:
    """The options that lead to the test's namespace."""
    return ("--kubeconfig", str(kube.kubeconfig), "--namespace", namespace)


def test_a_pool_with_its_pods_its_slots_and_its_url(
    world: World, there: tuple[str, ...], cli_json: Callable[..., Any]
) -> None:
    world.build(metadata=world.external).status("kv-1", f"{world.net}.2", ready=False)
    body = cli_json("kv", "pools", *there)
    assert body["exit_code"] == 0
    assert body["warnings"] == []
    (row,) = body["data"]["pools"]
    assert row == {
        **PODS_OF_KV,
        "cache": {"wanted": 2, "present": 2, "ready": 1},
        "namespace": world.api.namespace,
        "name": "kv",
        "mode": "distributed",
        "backend": "infinistore",
        "metadata_store": "redis",
        "metadata_address": f"127.0.0.1:{world.port}",
        "metadata_external": True,
        "slots": {"held": 4096, "on_ready_pods": 2048, "total": 4096, "nodes": 2},
        "slots_unknown": None,
        "url": f"aibrix+redis://127.0.0.1:{world.port}/0?key=kvcache_nodes",
        "data": "over RDMA only: commands see which node has which slots, and no blocks",
    }
    nodes = cli_json("kv", "stats", row["url"])["data"]["pool"]["nodes"]
    assert [node["name"] for node in nodes] == ["kv-0", "kv-1"]


@pytest.mark.parametrize("form", ["table", "wide", "csv", "jsonl", "yaml"])
def test_every_format(
    form: str, world: World, there: tuple[str, ...], cli: Callable[..., Any]
) -> None:
    world.build(metadata=world.external)
    outcome = cli("kv", "pools", *there, "-o", form)
    assert outcome.code == 0
    assert "kvcache_nodes" in outcome.out
    if form == "table":
        head, line = outcome.out.splitlines()
        assert head.split() == [
            "NAMESPACE", "NAME", "BACKEND", "CACHE", "METADATA", "WATCHER", "SLOTS", "URL",
        ]  # fmt: skip
        assert line.split()[1:7] == ["kv", "infinistore", "2/2", "1/0", "(1", "there)"]
    if form == "csv":
        assert outcome.out.startswith("namespace,name,mode,backend,cache.wanted,cache.present")


def test_a_redis_out_of_reach_is_a_warning_that_says_how_to_reach_it(
    world: World, there: tuple[str, ...], kube: Server, cli_json: Callable[..., Any]
) -> None:
    world.build()
    body = cli_json("kv", "pools", *there, "--timeout", "200ms")
    assert (body["exit_code"], body["status"]) == (0, "success")
    (row,) = body["data"]["pools"]
    assert (row["slots"], row["metadata"]) == (None, {"wanted": 1, "present": 1, "ready": 1})
    assert row["slots_unknown"].startswith("no Redis answers at 10.0.0.")
    assert row["url"] == (
        f"aibrix+redis://kv-redis.{world.api.namespace}.svc:6379/0?key=kvcache_nodes"
    )
    (warning,) = body["warnings"]
    assert warning["code"] == "kv.pools.slots_unknown"
    assert warning["hint"] == (
        f"outside the cluster: kubectl --kubeconfig {kube.kubeconfig} --namespace "
        f"{world.api.namespace} port-forward svc/kv-redis 6379:6379, then aibrixctl kv doctor "
        f"k8s:{world.api.namespace}/kv --redis redis://127.0.0.1:6379/0"
    )


def test_pools_of_every_namespace(
    world: World, there: tuple[str, ...], api: Api, cli_json: Callable[..., Any]
) -> None:
    world.build(metadata=world.external)
    name = f"{api.namespace}-b"
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    other = World(Api(api.transport, name), world.client, world.port, "vineyard", name="v")
    other.resource(metadata={"etcd": {"runtime": {"image": "etcd", "replicas": 3}}})
    rows = cli_json("kv", "pools", *there, "-A")["data"]["pools"]
    api.delete(KV_CACHE, "v", name)
    api.delete(NAMESPACE, name)
    mine = [row for row in rows if row["namespace"].startswith(api.namespace)]
    assert [row["name"] for row in mine] == ["kv", "v"]
    assert mine[1]["metadata"] == {"wanted": 3, "present": 0, "ready": 0}
    assert mine[1]["url"] == f"vineyard:///var/run/vineyard-kubernetes/{name}/v/vineyard.sock"
    assert (mine[1]["slots"], mine[1]["metadata_store"]) == (None, "etcd")
    assert len(cli_json("kv", "pools", *there)["data"]["pools"]) == 1


def test_a_namespace_without_pools(
    there: tuple[str, ...], cli: Callable[..., Any], cli_json: Callable[..., Any]
) -> None:
    assert cli("kv", "pools", *there).out == f"no KVCache resource in namespace {there[-1]}\n"
    assert cli_json("kv", "pools", *there)["data"] == {"pools": []}
    body = cli_json("kv", "pools", *there[:-1], "nothere")
    assert (body["exit_code"], body["errors"][0]["code"]) == (1, "cluster.no_namespace")


def test_a_namespace_in_place_of_a_dry_run_is_told_apart(
    there: tuple[str, ...], cli: Callable[..., Any]
) -> None:
    outcome = cli("kv", "doctor", "k8s:kv", "-n", there[-1])
    assert outcome.code == 2
    assert "-n is --dry-run here, and a namespace is named with --namespace" in outcome.err
    outcome = cli("kv", "doctor", "k8s:kv", "--namespace", there[-1], "more")
    assert "--dry-run" not in outcome.err


def is_served(api: Api) -> bool:
    try:
        api.page(KV_CACHE)
    except NotFoundError:
        return False
    return True


def test_a_cluster_without_aibrix(
    kube: Server, api: Api, there: tuple[str, ...], cli: Callable[..., Any]
) -> None:
    if not kube.own:
        pytest.skip("the cluster's resource types are not ours to take away")
    api.delete(CRD, "kvcaches.orchestration.aibrix.ai")
    try:
        while is_served(api):
            time.sleep(0.05)
        outcome = cli("kv", "pools", *there, "-o", "json")
    finally:
        install_crds(api)
    (error,) = json.loads(outcome.out)["errors"]
    assert outcome.code == 1
    assert error["message"] == "the cluster has no kvcaches.orchestration.aibrix.ai"
    assert "is AIBrix installed there" in error["hint"]


def test_listing_needs_no_more_than_these_rights(
    kube: Server, world: World, api: Api, cli: Callable[..., Any], cli_json: Callable[..., Any]
) -> None:
    world.build(metadata=world.external)
    able = str(kube.account(api, "able", RULES, api.namespace))
    (row,) = cli_json("kv", "pools", "--kubeconfig", able)["data"]["pools"]
    assert row["slots"]["on_ready_pods"] == 4096
    unable = str(kube.account(api, "unable", RULES[:1], api.namespace))
    outcome = cli("kv", "pools", "--kubeconfig", unable)
    assert outcome.code == 13
    assert f"may not list pods in namespace {api.namespace}" in outcome.err


def test_examining_needs_no_more_than_these_rights(
    kube: Server, world: World, api: Api, cli_json: Callable[..., Any]
) -> None:
    world.build(metadata=world.external).status("kv-1", f"{world.net}.2", ready=False)
    able = str(kube.account(api, "able", DOCTOR_RULES, api.namespace))
    body = cli_json("kv", "doctor", "k8s:kv", "--kubeconfig", able)
    assert body["exit_code"] == 10
    (finding,) = body["data"]["findings"]
    assert finding["evidence"] == [
        "kv-1 on a-node has slots 2048-4095: ContainersNotReady: probe failed"
    ]


def test_a_sound_pool_and_one_with_a_stale_address(
    world: World, there: tuple[str, ...], cli: Callable[..., Any], cli_json: Callable[..., Any]
) -> None:
    world.build()
    redis = ("--redis", f"redis://127.0.0.1:{world.port}/0")
    name = f"k8s:{world.api.namespace}/kv"
    body = cli_json("kv", "doctor", name, *there[:2], *redis)
    assert (body["exit_code"], body["status"]) == (0, "success")
    assert body["data"]["url"] == name
    assert {role: body["data"]["kvcache"][role] for role in PODS_OF_KV} == {
        **PODS_OF_KV,
        "metadata": {"wanted": 1, "present": 1, "ready": 1},
    }
    world.status("kv-1", f"{world.net}.9")
    outcome = cli("kv", "doctor", "k8s:kv", *there, *redis)
    assert outcome.code == 10
    assert outcome.out.startswith(
        f"{name} at aibrix+redis://127.0.0.1:{world.port}/0?key=kvcache_nodes  AIBrix placement in"
    )
    assert "KV-POD-STALE  slots at an address that no pod has: 1" in outcome.out
    assert "redis-cli DEL KEY" in " ".join(outcome.out.split())


def test_what_a_dead_redis_leaves_open_says_how_to_reach_it(
    world: World, there: tuple[str, ...], cli_json: Callable[..., Any]
) -> None:
    world.build()
    words = ("kv", "doctor", "k8s:kv", *there, "--redis", "redis://127.0.0.1:1")
    body = cli_json(*words)
    assert (body["exit_code"], body["status"]) == (3, "partial")
    (error,) = body["errors"]
    assert "KV-POD-STALE" in error["message"]
    assert "no Redis answers at 127.0.0.1:1" in error["message"]
    assert "port-forward svc/kv-redis 6379:6379" in error["hint"]
    world.status("kv-redis", f"{world.net}.3", ready=False)
    body = cli_json(*words)
    assert body["exit_code"] == 10
    assert [finding["code"] for finding in body["data"]["findings"]] == ["KV-METADATA-DOWN"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("k8s:",), "names no KVCache resource"),
        (("k8s:a/b/c",), "names no KVCache resource"),
        (("k8s:kv", "--repair"), "a slot map holds no entries"),
        (("k8s:kv", "--redis", "127.0.0.1:6379"), "is no URL of a Redis"),
        (("lmcache+file:pool", "--context", "c"), "--context is for what is in a cluster"),
    ],
)
def test_what_makes_no_sense_is_refused(
    words: tuple[str, ...],
    message: str,
    world: World,
    kube: Server,
    cli: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world.resource()
    monkeypatch.setenv("KUBECONFIG", str(kube.kubeconfig))
    namespace = ("--namespace", world.api.namespace) if words[0] == "k8s:kv" else ()
    outcome = cli("kv", "doctor", *words, *namespace)
    assert outcome.code == 2
    assert message in outcome.err


def test_other_commands_say_where_the_url_is(cli: Callable[..., Any]) -> None:
    outcome = cli("kv", "stats", "k8s:kv")
    assert outcome.code == 2
    assert "did you mean the URL that `aibrixctl kv pools` shows for it?" in outcome.err
