"""What a KVCache resource says of its backend, its pods and its metadata."""

from typing import Any

import pytest

from kvpool.k8s.pods import parse_pod
from kvpool.k8s.resources import CachePool, parse_pool

SERVICE = {
    "metadata": {"name": "kv-redis"},
    "spec": {"ports": [{"port": 6380}], "clusterIP": "10.0.0.7"},
}
RUNTIME = {"redis": {"runtime": {"image": "redis"}}}


def parsed(
    metadata: Any = RUNTIME,
    *,
    annotations: dict[str, str] | None = None,
    env: dict[str, str] | None = None,
    services: Any = (SERVICE,),
) -> CachePool:
    variables = [{"name": name, "value": value} for name, value in (env or {}).items()]
    known = {"kvcache.orchestration.aibrix.ai/backend": "infinistore"}
    head = {"namespace": "ns", "name": "kv", "annotations": annotations or known}
    spec = {"metadata": metadata, "watcher": {"env": variables}}
    return parse_pool({"metadata": head, "spec": spec}, (), services)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.1.2.3:6390", "10.1.2.3:6390"),
        ("redis.example.com", "redis.example.com:6379"),
        ("redis://:secret@redis.example.com:7000/3", "redis.example.com:7000"),
        ("kv-meta:6379", "kv-meta.ns.svc:6379"),
        ("kv-meta.other.svc.cluster.local:6379", "kv-meta.other.svc:6379"),
        ("localhost:6379", "localhost:6379"),
        ("[fd00::1]:6379", "[fd00::1]:6379"),
        ("redis:port", None),
    ],
)
def test_an_external_address_in_its_one_form(address: str, expected: str | None) -> None:
    pool = parsed({"redis": {"externalConnection": {"address": address}}})
    assert pool.metadata is not None
    assert (pool.metadata.address, pool.metadata.external) == (expected, True)
    assert (pool.url is None) == (expected is None)
    assert "secret" not in str(pool.to_json())
    assert pool.wanted["metadata"] == 0


def test_the_service_of_its_own_redis() -> None:
    pool = parsed()
    assert pool.metadata is not None
    assert pool.metadata.service == ("ns", "kv-redis")
    assert pool.metadata.service_address == "10.0.0.7"
    assert pool.url == "aibrix+redis://kv-redis.ns.svc:6380/0?key=kvcache_nodes"
    assert parsed(services=()).url is None


def test_the_watchers_own_variables_are_stronger() -> None:
    pool = parsed(env={"REDIS_ADDR": "other:6379", "REDIS_DATABASE": "4"})
    assert pool.url == "aibrix+redis://other.ns.svc:6379/4?key=kvcache_nodes"
    pool = parsed(env={"REDIS_ADDR": "kv-redis:6380"})
    assert pool.metadata is not None
    assert pool.metadata.service_address == "10.0.0.7"


@pytest.mark.parametrize(
    ("annotations", "backend", "url"),
    [
        ({"x": ""}, "vineyard", "vineyard:///var/run/vineyard-kubernetes/ns/kv/vineyard.sock"),
        (
            {"kvcache.orchestration.aibrix.ai/mode": "distributed"},
            "infinistore",
            "aibrix+redis://kv-redis.ns.svc:6380/0?key=kvcache_nodes",
        ),
        (
            {"kvcache.orchestration.aibrix.ai/backend": "hpkv"},
            "hpkv",
            "aibrix+redis://kv-redis.ns.svc:6380/0?key=hpkv_cluster_metadata",
        ),
        ({"kvcache.orchestration.aibrix.ai/backend": "priskv"}, "priskv", None),
    ],
)
def test_backends(annotations: dict[str, str], backend: str, url: str | None) -> None:
    pool = parsed(annotations=annotations)
    assert (pool.backend, pool.url) == (backend, url)
    assert pool.data


def a_pod(status: dict[str, Any], **metadata: Any) -> Any:
    labels = {"kvcache.orchestration.aibrix.ai/name": "kv"}
    head = {"namespace": "ns", "name": "p", "labels": labels, **metadata}
    return parse_pod({"metadata": head, "status": status})


READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}


@pytest.mark.parametrize(
    ("status", "metadata", "trouble"),
    [
        (READY, {}, ""),
        (READY, {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "being deleted"),
        ({"phase": "Failed", "reason": "Evicted"}, {}, "Evicted"),
        ({}, {}, "phase Unknown"),
        ({"phase": "Running"}, {}, "not ready"),
        (
            {
                "phase": "Pending",
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/3 nodes are available",
                    }
                ],
            },
            {},
            "Unschedulable: 0/3 nodes are available",
        ),
    ],
)
def test_why_a_pod_is_not_ready(
    status: dict[str, Any], metadata: dict[str, Any], trouble: str
) -> None:
    pod = a_pod(status, **metadata)
    assert (pod.trouble, pod.ready) == (trouble, not trouble)


@pytest.mark.parametrize("text", ["", "no JSON", "[1]", '{"a": 1}', '[{"cniName": "eth"}]'])
def test_annotations_that_tell_no_rdma_address(text: str) -> None:
    name = "k8s.volcengine.com/network-status"
    assert a_pod(READY, annotations={name: text}).rdma_addresses == ()
