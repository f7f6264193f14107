"""A pool in a cluster: each hazard is found where it is, and only there."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cluster.access import Access, connect
from cluster.api import Api
from cluster.errors import NotFoundError
from cluster.kinds import KV_CACHE, NAMESPACE, POD
from kvpool.doctor.finding import Finding, Report
from kvpool.doctor.survey import Options
from kvpool.errors import KvPoolError
from kvpool.k8s.discovery import find_pool
from kvpool.k8s.examine import Examined, examine_pool
from kvpool.pool import open_pool
from kvpool.url import PoolUrl
from tests.kube import Server
from tests.kvpool.k8s.cluster_pools import World
from tests.redis_server import requires_redis

pytestmark = requires_redis
QUIET = Options(probe_timeout_s=None)
OF_PODS = {
    "KV-PODS-MISSING",
    "KV-METADATA-DOWN",
    "KV-WATCHER-DOWN",
    "KV-POD-ADDRESS-TWICE",
    "KV-MAP-MISSING",
    "KV-POD-STALE",
    "KV-POD-IDLE",
    "KV-POD-NOT-READY",
    "KV-MAP-SHARED",
}


def look(world: World, *, redis: bool = True, api: Api | None = None) -> Examined:
    """Examine the pool; its own Redis is played by the test's."""
    api = api or world.api
    url = PoolUrl("aibrix+redis", "127.0.0.1", world.port, options={"key": world.key})
    pool = find_pool(api, world.name, world.api.namespace)

    def opener(at: PoolUrl) -> Any:
        return open_pool(at, timeout_s=0.3)

    return examine_pool(api, pool, opener, QUIET, redis=url if redis else None)


def found(report: Report) -> dict[str, Finding]:
    return {finding.hazard.code: finding for finding in report.findings}


def only(world: World, code: str) -> tuple[str, ...]:
    """Return what shows a hazard, which must be the only one."""
    findings = found(look(world).report)
    assert set(findings) == {code}
    return findings[code].evidence


def test_a_sound_pool(world: World) -> None:
    examined = look(world.build())
    assert examined.report.findings == ()
    assert set(examined.report.passed) > {*OF_PODS, "KV-SLOTS-MISSING", "KV-TWO-POOLS"}
    assert examined.report.undecided == ()


def test_a_pod_that_came_back_with_another_address(world: World) -> None:
    world.build().status("kv-1", f"{world.net}.9")
    findings = found(look(world).report)
    assert set(findings) == {"KV-POD-STALE", "KV-POD-IDLE"}
    assert findings["KV-POD-STALE"].evidence == (
        f"kv-1 at {world.net}.2:12345 has slots 2048-4095; that pod is at {world.net}.9",
    )
    assert findings["KV-POD-IDLE"].evidence == (f"kv-1 at {world.net}.9 on a-node: not in the map",)


def test_slots_of_a_pod_that_is_gone(world: World) -> None:
    world.resource(replicas=1)
    world.service()
    world.pod("kv-0", "cache", f"{world.net}.1")
    world.pod("kv-redis", "metadata", f"{world.net}.3")
    world.pod("watcher", "kvwatcher", f"{world.net}.4")
    world.write_map()
    (line,) = only(world, "KV-POD-STALE")
    assert line == f"kv-1 at {world.net}.2:12345 has slots 2048-4095; no pod of that name runs"


def test_a_pod_without_slots(world: World) -> None:
    world.build().write_map([f"{world.net}.1"], [[(0, 4095)]])
    (line,) = only(world, "KV-POD-IDLE")
    assert line == f"kv-1 at {world.net}.2 on a-node: not in the map"


def test_a_pod_whose_only_range_runs_backwards(world: World) -> None:
    world.build().write_map(slots=[[(1, 4094)], [(4095, 0)]])
    findings = found(look(world).report)
    assert set(findings) == {"KV-POD-IDLE", "KV-SLOTS-WRAPPED", "KV-SLOTS-MISSING"}
    (line,) = findings["KV-POD-IDLE"].evidence
    assert line.endswith("the map gives it slots 4095-0")


def test_a_pod_that_owns_slots_and_is_not_ready_on_a_sick_node(world: World) -> None:
    world.build()
    node = world.node(("Ready", "True", "KubeletReady"), ("AcceleratorHealthy", "False", "XID79"))
    world.pod("kv-2", "cache", f"{world.net}.5", node=node, ready=False)
    hosts = [f"{world.net}.{number}" for number in (1, 2, 5)]
    world.write_map(hosts, [[(0, 2047)], [(2048, 3000)], [(3001, 4095)]])
    (line,) = only(world, "KV-POD-NOT-READY")
    assert line == (
        f"kv-2 on {node} (AcceleratorHealthy is False (XID79)) has slots 3001-4095: "
        "ContainersNotReady: probe failed"
    )


def test_a_pod_that_is_being_deleted_still_owns_slots(world: World) -> None:
    world.build()
    world.pod("kv-2", "cache", f"{world.net}.5", node=world.node(cordoned=True))
    world.api.delete(POD, "kv-2")
    hosts = [f"{world.net}.{number}" for number in (1, 2, 5)]
    world.write_map(hosts, [[(0, 2047)], [(2048, 3000)], [(3001, 4095)]])
    (line,) = only(world, "KV-POD-NOT-READY")
    assert "(not ready, cordoned) has slots 3001-4095: being deleted" in line


def test_fewer_pods_than_wanted(world: World) -> None:
    world.resource(replicas=3)
    world.service()
    for name, role, last in (("kv-0", "cache", 1), ("kv-1", "cache", 2), ("r", "metadata", 3)):
        world.pod(name, role, f"{world.net}.{last}")
    world.pod("w", "kvwatcher", f"{world.net}.4")
    world.write_map()
    assert only(world, "KV-PODS-MISSING") == ("3 wanted, 2 there, 2 ready",)
    waiting = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no image"}}}
    container = {"name": "c", "image": "i", "imageID": "", "restartCount": 0, "ready": False}
    world.pod("kv-2", "cache", None, ready=False)
    world.status(
        "kv-2",
        None,
        ready=False,
        phase="Pending",
        containerStatuses=[container | waiting],
    )
    assert only(world, "KV-PODS-MISSING") == (
        "3 wanted, 3 there, 2 ready",
        "kv-2 on a-node: ImagePullBackOff: no image",
    )
    assert found(look(world).report)["KV-PODS-MISSING"].count == 1


def test_two_pods_on_one_address(world: World) -> None:
    world.build()
    world.status("kv-1", f"{world.net}.1")
    world.write_map([f"{world.net}.1", f"{world.net}.1"])
    findings = found(look(world).report)
    assert findings["KV-POD-ADDRESS-TWICE"].evidence == (
        f"{world.net}.1: kv-0 on a-node and kv-1 on a-node",
    )
    assert set(findings) == {"KV-POD-ADDRESS-TWICE", "KV-ADDRESS-TWICE"}


def test_the_pod_that_keeps_the_metadata_is_down(world: World) -> None:
    world.build().status("kv-redis", f"{world.net}.3", ready=False)
    (line,) = only(world, "KV-METADATA-DOWN")
    assert line == "kv-redis on a-node: ContainersNotReady: probe failed"


@pytest.mark.parametrize("how", ["no spec.watcher", "no pod", "not ready"])
def test_nobody_updates_the_map(how: str, world: World) -> None:
    world.resource(watcher=False if how == "no spec.watcher" else None)
    world.service()
    for name, role, last in (("kv-0", "cache", 1), ("kv-1", "cache", 2), ("r", "metadata", 3)):
        world.pod(name, role, f"{world.net}.{last}")
    if how == "not ready":
        world.pod("w", "kvwatcher", f"{world.net}.4", ready=False)
    world.write_map()
    (line,) = only(world, "KV-WATCHER-DOWN")
    expected = {
        "no spec.watcher": "the resource has no spec.watcher",
        "no pod": "there is no pod with role kvwatcher",
        "not ready": "w on a-node: ContainersNotReady: probe failed",
    }
    assert line == expected[how]


@pytest.mark.parametrize("text", [None, "no JSON"])
def test_there_is_no_map(text: str | None, world: World) -> None:
    world.build()
    world.client.delete(world.key)
    if text:
        world.client.set(world.key, text)
    (line,) = only(world, "KV-MAP-MISSING")
    assert "no such key" in line if text is None else "is malformed" in line
    report = look(world).report
    assert {"KV-POD-STALE", "KV-SLOTS-MISSING"} <= {u.code for u in report.unchecked}
    assert report.undecided == ()


def test_another_pool_writes_the_same_map(world: World, api: Api) -> None:
    external = {"redis": {"externalConnection": {"address": f"127.0.0.1:{world.port}"}}}
    world.build(metadata=external)
    with second_namespace(api) as elsewhere:
        other = World(elsewhere, world.client, world.port, name="other")
        other.resource(metadata=external)
        other.pod("other-0", "cache", f"{other.net}.1")
        world.write_map([f"{world.net}.1", f"{other.net}.1"])
        findings = found(look(world).report)
    owner = f"{elsewhere.namespace}/other"
    assert findings["KV-MAP-SHARED"].evidence == (
        f"{owner} writes kvcache_nodes in 127.0.0.1:{world.port} too",
        f"kv-1 at {other.net}.1:12345 has slots 2048-4095 and is other-0 of {owner}",
    )
    assert findings["KV-MAP-SHARED"].hazard.severity == "fatal"
    assert set(findings) == {"KV-MAP-SHARED", "KV-POD-IDLE"}


@contextmanager
def second_namespace(api: Api) -> Iterator[Api]:
    """Give the same cluster, seen from another namespace, whose pools are gone at the end."""
    name = f"{api.namespace}-b"
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield Api(api.transport, name)
    for resource in list(api.list(KV_CACHE, name)):
        api.delete(KV_CACHE, resource["metadata"]["name"], name)
    api.delete(NAMESPACE, name)


def test_pools_on_two_databases_share_nothing(world: World, api: Api) -> None:
    external = {"redis": {"externalConnection": {"address": f"127.0.0.1:{world.port}"}}}
    world.build(metadata=external)
    with second_namespace(api) as elsewhere:
        other = World(elsewhere, world.client, world.port, name="other")
        watcher = {"image": "w", "env": [{"name": "REDIS_DATABASE", "value": "1"}]}
        other.resource(metadata=external, watcher=watcher)
        assert find_pool(elsewhere, "other").url == (
            f"aibrix+redis://127.0.0.1:{world.port}/1?key=kvcache_nodes"
        )
        assert look(world).report.findings == ()


def test_an_account_of_one_namespace_leaves_the_neighbours_open(world: World, kube: Server) -> None:
    world.build().status("kv-1", f"{world.net}.9")
    rules = [
        {"apiGroups": ["orchestration.aibrix.ai"], "resources": ["kvcaches"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["pods", "services"], "verbs": ["get", "list"]},
    ]
    kubeconfig = namespaced_account(kube, world.api, rules)
    with connect(Access(str(kubeconfig))) as limited:
        report = look(world, api=limited).report
    (undecided,) = report.undecided
    assert undecided.code == "KV-MAP-SHARED"
    assert "may not list kvcaches.orchestration.aibrix.ai" in undecided.reason
    assert set(found(report)) == {"KV-POD-STALE", "KV-POD-IDLE"}


def namespaced_account(kube: Server, api: Api, rules: list[dict[str, Any]]) -> Path:
    """Return a kubeconfig of an account with rules in its own namespace only."""
    kubeconfig = kube.account(api, "limited", [], api.namespace)
    head = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "limited"}}
    api.create({**head, "kind": "Role", "rules": rules})
    subject = {"kind": "ServiceAccount", "name": "limited", "namespace": api.namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "limited"}
    api.create({**head, "kind": "RoleBinding", "roleRef": role, "subjects": [subject]})
    return kubeconfig


def test_a_node_that_may_not_be_read(world: World, kube: Server) -> None:
    world.build()
    world.pod("kv-2", "cache", f"{world.net}.5", node="far", ready=False)
    hosts = [f"{world.net}.{number}" for number in (1, 2, 5)]
    world.write_map(hosts, [[(0, 2047)], [(2048, 3000)], [(3001, 4095)]])
    (line,) = only(world, "KV-POD-NOT-READY")
    assert line.startswith("kv-2 on far (a node that is gone) has slots")
    rules = [
        {"apiGroups": ["orchestration.aibrix.ai"], "resources": ["kvcaches"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["pods", "services"], "verbs": ["get", "list"]},
    ]
    kubeconfig = kube.account(world.api, "all", rules, world.api.namespace)
    with connect(Access(str(kubeconfig))) as limited:
        findings = found(look(world, api=limited).report)
    (line,) = findings["KV-POD-NOT-READY"].evidence
    assert line.startswith("kv-2 on far (this account may not read its conditions) has slots")


def test_a_redis_out_of_reach_leaves_the_map_open(world: World) -> None:
    dead = {"redis": {"externalConnection": {"address": "127.0.0.1:1"}}}
    world.build(metadata=dead)
    world.pod("kv-2", "cache", None, ready=False)
    examined = look(world, redis=False)
    assert set(found(examined.report)) == {"KV-PODS-MISSING"}
    assert [error.code for error in examined.obstacles] == ["kv.redis.unreachable"]
    open_checks = {check.code for check in examined.report.undecided}
    of_the_map = {"KV-POD-STALE", "KV-MAP-MISSING", "KV-MAP-SHARED", "KV-SLOTS-MISSING"}
    assert of_the_map <= open_checks
    assert "KV-WATCHER-DOWN" in examined.report.passed


def test_a_pool_without_service_says_so(world: World) -> None:
    world.resource()
    examined = look(world, redis=False)
    assert "it has no Service" in next(iter(examined.report.undecided)).reason


def test_what_redis_refuses_otherwise_is_an_error(world: World) -> None:
    world.build()
    url = PoolUrl("aibrix+redis", "127.0.0.1", world.port, database=99, options={"key": world.key})
    pool = find_pool(world.api, "kv")
    with pytest.raises(KvPoolError, match="DB index is out of range"):
        examine_pool(world.api, pool, open_pool, QUIET, redis=url)


def rdma(address: str) -> dict[str, str]:
    device = {"ifName": "eth1", "ips": [address], "mac": ""}
    return {
        "k8s.volcengine.com/network-status": json.dumps([{"cniName": "rdma", "deviceInfo": device}])
    }


def test_hpkv_pods_are_known_by_their_rdma_address(world: World) -> None:
    world.backend = "hpkv"
    world.resource()
    world.service()
    world.pod("kv-0", "cache", f"{world.net}.1", annotations=rdma("192.168.0.1"))
    # The watcher asks inside a pod that has no annotation: from here only its name is known.
    world.pod("kv-1", "cache", f"{world.net}.2")
    world.pod("r", "metadata", f"{world.net}.3")
    world.pod("w", "kvwatcher", f"{world.net}.4")
    world.write_map(["192.168.0.1", "192.168.0.2"])
    assert look(world).report.findings == ()
    world.write_map(["192.168.0.7", "192.168.0.2"])
    findings = found(look(world).report)
    assert findings["KV-POD-STALE"].evidence == (
        "kv-0 at 192.168.0.7:12345 has slots 0-2047; that pod is at 192.168.0.1",
    )


def test_vineyard_keeps_no_map(world: World) -> None:
    world.backend = "vineyard"
    world.resource(metadata={"etcd": {"runtime": {"image": "etcd", "replicas": 3}}}, replicas=1)
    world.pod("kv-abc", "cache", f"{world.net}.1")
    pool = find_pool(world.api, "kv")
    report = examine_pool(world.api, pool, open_pool, QUIET).report
    assert found(report)["KV-METADATA-DOWN"].evidence == ("there is no pod with role metadata",)
    assert set(report.passed) == {"KV-PODS-MISSING", "KV-POD-ADDRESS-TWICE"}
    assert report.undecided == ()


@pytest.mark.parametrize(
    ("inside", "why"), [(True, "run it inside the cluster"), (False, "outside the cluster")]
)
def test_nodes_that_cannot_be_probed_are_compared_only(
    inside: bool, why: str, world: World
) -> None:
    world.build().write_map(["a.invalid", "b.invalid"])
    url = PoolUrl("aibrix+redis", "127.0.0.1", world.port, options={"key": world.key})
    pool = find_pool(world.api, "kv")
    report = examine_pool(world.api, pool, open_pool, redis=url, inside=inside).report
    (probe,) = (check for check in report.unchecked if check.code == "KV-ADDRESS-STALE")
    assert not probe.applies
    assert why in probe.reason
    assert "the pods' own were compared instead" in probe.reason
    assert "KV-POD-STALE" in found(report)


def test_nodes_are_probed_inside_the_cluster(world: World) -> None:
    world.build()
    world.status("kv-0", "127.0.0.1")
    world.write_map(["127.0.0.1", f"{world.net}.2"])  # nothing listens at port 12345
    url = PoolUrl("aibrix+redis", "127.0.0.1", world.port, options={"key": world.key})
    pool = find_pool(world.api, "kv")
    options = Options(probe_timeout_s=0.2)
    report = examine_pool(world.api, pool, open_pool, options, redis=url, inside=True).report
    assert "kv-0 at 127.0.0.1:12345: Connection refused" in (
        found(report)["KV-ADDRESS-STALE"].evidence
    )


def test_no_such_pool(world: World) -> None:
    with pytest.raises(NotFoundError, match="no KVCache resource 'kv' in namespace") as caught:
        find_pool(world.api, "kv")
    assert "kv pools -A" in caught.value.hint
