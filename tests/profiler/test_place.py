"""Where a target of a cluster answers: one replica, by the labels that AIBrix sets."""

from pathlib import Path

import pytest
import yaml

from cluster.api import Api
from cluster.errors import NotFoundError
from profiler.errors import EngineUnreachableError, ProfilerUsageError
from profiler.in_cluster.place import Ref, deployment_of, locate, parse_ref
from tests import fleet

from .in_cluster_objects import add_pod, create, deployment, service

SAMPLES = Path(__file__).parents[3] / "shared/data/aibrix-samples"


def test_refs() -> None:
    assert parse_ref("k8s:deployment/foo") == Ref("deployment", "foo")
    assert parse_ref("k8s:service/prod/foo.v1") == Ref("service", "foo.v1", "prod")
    assert deployment_of("k8s:deployment/prod/foo") == "prod/foo"
    assert deployment_of("k8s:service/foo") is None
    assert deployment_of("http://127.0.0.1:8000") is None
    for bad in ("k8s:pod/foo", "k8s:deployment/", "k8s:foo", "k8s:deployment/a/b/c"):
        with pytest.raises(ProfilerUsageError, match="names nothing in a cluster"):
            parse_ref(bad)


def test_a_service_that_leads_to_the_one_pod_is_asked(api: Api, namespace: str) -> None:
    of = deployment("l20", 9000, own={"model.aibrix.ai/engine": "sglang"})
    create(api, of, service("foo", 80, {"app": "l20"}, 9000))
    add_pod(api, "l20-1", of)
    add_pod(api, "l20-2", of, ready=False)
    found = locate(api, Ref("deployment", "l20"))
    assert found.url == f"http://foo.{namespace}.svc:80"
    assert found.forward == "service/foo"
    assert (found.model, found.engine, found.pods, found.notes) == ("m", "sglang", 1, ())


def test_the_pod_and_its_node_say_on_what_it_runs(api: Api) -> None:
    of = deployment("big", 9000)
    of["spec"]["template"]["spec"]["containers"][0]["resources"] = {
        "limits": {"nvidia.com/gpu": "2"}
    }
    create(api, of, service("foo", 80, {"app": "big"}, 9000))
    with fleet.nodes(api) as make:
        of["spec"]["template"]["spec"]["nodeName"] = make("NVIDIA-L20", 8)
        add_pod(api, "big-1", of)
        for kind, name in (("deployment", "big"), ("service", "foo")):
            found = locate(api, Ref(kind, name))
            assert (found.accelerator, found.gpus, found.notes) == ("l20", 2, ())
    lost = locate(api, Ref("service", "foo"))
    assert (lost.accelerator, lost.gpus) == (None, 2)
    assert "type of the GPUs of node" in lost.notes[-1]


def test_a_service_port_may_name_a_container_s(api: Api, namespace: str) -> None:
    of = deployment("l20", 9000)
    of["spec"]["template"]["spec"]["containers"][0]["ports"][0]["name"] = "http"
    create(api, of, service("foo", 80, {"app": "l20"}, "http"))
    add_pod(api, "l20-1", of)
    assert locate(api, Ref("deployment", "l20")).url == f"http://foo.{namespace}.svc:80"


def test_a_service_over_several_gpu_types_is_not(api: Api) -> None:
    """As in AIBrix's sample: the model's Service spans the deployments of two GPU types."""
    l20, v100 = deployment("l20", 9000), deployment("v100", 9000)
    create(api, l20, v100, service("m", 9000, {"model.aibrix.ai/name": "m"}, 9000))
    add_pod(api, "l20-1", l20, ip="10.1.0.1")
    add_pod(api, "v100-1", v100, ip="10.1.0.2")
    found = locate(api, Ref("deployment", "v100"))
    assert found.url == "http://10.1.0.2:9000"
    assert found.forward == "pod/v100-1"
    assert "service m leads to 2 ready pods: pod v100-1, 1 of 1 of v100" in found.notes[0]


def test_one_pod_of_several_replicas_is_asked(api: Api) -> None:
    of = deployment("l20", 9000)
    create(api, of, service("foo", 9000, {"app": "l20"}, 9000))
    for number in (1, 2, 3):
        add_pod(api, f"l20-{number}", of, ip=f"fd00::{number}")
    found = locate(api, Ref("deployment", "l20"))
    assert found.url == "http://[fd00::1]:9000"
    assert "1 of 3 of l20, was asked directly" in found.notes[0]


@pytest.mark.skipif(not SAMPLES.exists(), reason="AIBrix's samples are not at hand")
def test_aibrix_s_own_sample(api: Api, namespace: str) -> None:
    for name in ("deepseek-coder-7b-l20-deployment", "deepseek-coder-7b-service"):
        (body,) = (
            one
            for one in yaml.safe_load_all((SAMPLES / f"{name}.yaml").read_text())
            if one["kind"] in ("Deployment", "Service")
        )
        body["metadata"]["namespace"] = namespace
        create(api, body)
        if body["kind"] == "Deployment":
            add_pod(api, "one", body)
    found = locate(api, Ref("deployment", "deepseek-coder-7b-l20"))
    assert (found.model, found.engine, found.pods) == ("deepseek-coder-7b", "vllm", 1)
    assert found.url.endswith(f".{namespace}.svc:8000")


def test_a_service_as_target_is_measured_whole_and_says_so(api: Api, namespace: str) -> None:
    of = deployment("l20", 9000)
    create(api, of, service("foo", 80, {"app": "l20"}, 9000))
    add_pod(api, "l20-1", of)
    add_pod(api, "l20-2", of)
    found = locate(api, Ref("service", "foo"))
    assert (found.url, found.model) == (f"http://foo.{namespace}.svc:80", "m")
    assert found.notes == ("figures are of the 2 pods of service foo",)


@pytest.mark.parametrize("kind", ["deployment", "service"])
def test_nothing_ready(kind, api: Api) -> None:
    of = deployment("foo", 9000)
    create(api, of, service("foo", 80, {"app": "foo"}, 9000))
    add_pod(api, "foo-1", of, ready=False)
    with pytest.raises(EngineUnreachableError, match="has no ready pod of 1"):
        locate(api, Ref(kind, "foo"))


def test_what_is_not_there_and_what_makes_no_sense(api: Api) -> None:
    with pytest.raises(NotFoundError, match=r"deployments\.apps"):
        locate(api, Ref("deployment", "nothing"))
    create(api, deployment("odd", 9000, own={"model.aibrix.ai/port": "http"}))
    with pytest.raises(ProfilerUsageError, match="expected a port"):
        locate(api, Ref("deployment", "odd"))
