"""Reading, writing and following objects of a real API server."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.access import Access, connect
from cluster.api import ALL, Api
from cluster.diff import differences
from cluster.errors import (
    ClusterUnreachableError,
    ClusterUsageError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
)
from cluster.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    KV_CACHE,
    NAMESPACE,
    NODE,
    POD,
    POD_AUTOSCALER,
    Kind,
)
from cluster.namespaces import require_namespace
from cluster.transport import Limits
from tests.kube import Server


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def test_applies_an_object_and_reads_it_back(api: Api) -> None:
    made = api.apply(config_map("a", colour="red"))
    assert made["metadata"]["namespace"] == api.namespace
    assert api.get(CONFIG_MAP, "a")["data"] == {"colour": "red"}
    owners = [field["manager"] for field in made["metadata"]["managedFields"]]
    assert owners == ["aibrixctl"]


def test_a_dry_run_shows_what_would_change_and_changes_nothing(api: Api) -> None:
    before = api.apply(config_map("a", colour="red"))
    after = api.apply(config_map("a", colour="blue"), dry_run=True)
    assert [str(d) for d in differences(before, after)] == ["~ data.colour: red -> blue"]
    assert api.get(CONFIG_MAP, "a")["data"] == {"colour": "red"}


def test_refuses_an_apply_to_a_version_that_is_no_longer_there(api: Api) -> None:
    seen = api.apply(config_map("a", colour="red"))
    api.apply(config_map("a", colour="green"))
    stale = config_map("a", colour="blue")
    stale["metadata"]["resourceVersion"] = seen["metadata"]["resourceVersion"]
    with pytest.raises(ConflictError):
        api.apply(stale)
    assert api.get(CONFIG_MAP, "a")["data"] == {"colour": "green"}


def test_refuses_fields_that_others_own(api: Api) -> None:
    api.apply(config_map("a", colour="red"), manager="kubectl")
    with pytest.raises(ConflictError, match="kubectl"):
        api.apply(config_map("a", colour="blue"))


def test_creates_a_custom_object_and_gets_it_back(api: Api) -> None:
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
        "minReplicas": 0,
        "maxReplicas": 3,
        "metricsSources": [
            {
                "metricSourceType": "domain",
                "protocolType": "http",
                "endpoint": "optimizer:8080",
                "path": "/metrics/default/d",
                "port": "8080",
                "targetMetric": "vllm:deployment_replicas",
                "targetValue": "100",
            }
        ],
        "scalingStrategy": "KPA",
    }
    made = api.apply(
        {
            "apiVersion": POD_AUTOSCALER.api_version,
            "kind": POD_AUTOSCALER.kind,
            "metadata": {"name": "p"},
            "spec": spec,
        }
    )
    assert made["spec"]["maxReplicas"] == 3


def test_deletes_only_the_object_that_was_meant(api: Api) -> None:
    made = api.apply(config_map("a"))
    with pytest.raises(ConflictError):
        api.delete(CONFIG_MAP, "a", uid="another")
    assert api.delete(CONFIG_MAP, "a", uid=made["metadata"]["uid"])
    assert not api.delete(CONFIG_MAP, "a")


def test_names_what_is_not_there(api: Api) -> None:
    with pytest.raises(NotFoundError, match=r"no deployments\.apps foo in namespace"):
        api.get(DEPLOYMENT, "foo")
    assert api.find(DEPLOYMENT, "foo") is None
    unknown = Kind("example.com", "v1", "things", "Thing")
    with pytest.raises(NotFoundError, match="the cluster has no things"):
        api.find(unknown, "x")


def test_a_missing_namespace_is_what_is_said_to_be_missing(api: Api) -> None:
    body = config_map("c")
    body["metadata"]["namespace"] = "nowhere"
    with pytest.raises(NotFoundError, match="create configmaps: there is no namespace nowhere"):
        api.create(body)
    with pytest.raises(NotFoundError, match=r"^there is no namespace nowhere"):
        api.get(NAMESPACE, "nowhere")


def test_nothing_in_a_namespace_that_is_not_there_is_no_answer(
    kube: Server, api: Api, namespace: str
) -> None:
    assert not list(api.list(CONFIG_MAP, "nowhere"))
    with pytest.raises(NotFoundError, match=r"^there is no namespace nowhere"):
        require_namespace(api, "nowhere")
    require_namespace(api)
    require_namespace(api, ALL)
    with connect(Access(str(kube.account(api, "blind", [], namespace)))) as blind:
        require_namespace(blind, "nowhere")


def test_lists_page_by_page(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.api.PAGE", 3)
    names = {f"c{number}" for number in range(8)}
    for name in names:
        api.apply(config_map(name) | {"metadata": {"name": name, "labels": {"mine": "yes"}}})
    listed = list(api.list(CONFIG_MAP, labels="mine=yes"))
    assert sorted(item["metadata"]["name"] for item in listed) == sorted(names)
    assert all(item["kind"] == "ConfigMap" for item in listed)
    assert {n["metadata"]["namespace"] for n in api.list(CONFIG_MAP, ALL)} >= {api.namespace}


def test_names_verb_and_resource_that_rbac_refuses(kube: Server, api: Api) -> None:
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]
    file = kube.account(api, "reader", rules, api.namespace)
    with connect(Access(str(file))) as limited:
        assert limited.namespace == api.namespace
        with pytest.raises(ForbiddenError, match=r"may not list pods in namespace") as refused:
            list(limited.list(POD))
        assert "rbac print" in refused.value.hint
        with pytest.raises(ForbiddenError, match="may not patch configmaps a"):
            limited.apply(config_map("a"))
        with pytest.raises(ForbiddenError, match="may not list nodes"):
            list(limited.list(NODE))


def test_an_unknown_token_is_refused(kube: Server, tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    lines = kube.kubeconfig.read_text().splitlines()
    file.write_text("\n".join("    token: wrong" if "token:" in line else line for line in lines))
    with (
        connect(Access(str(file))) as stranger,
        pytest.raises(ClusterUnreachableError, match="does not accept our credentials"),
    ):
        stranger.get(CONFIG_MAP, "a")


def test_says_soon_that_nothing_answers(tmp_path: Path, kube: Server) -> None:
    file = tmp_path / "kubeconfig"
    host = connect(kube.access)
    with host as api:
        file.write_text(kube.kubeconfig.read_text().replace(api.host, "https://127.0.0.1:9"))
    began = time.monotonic()
    with (
        connect(Access(str(file)), Limits(first_s=0.5)) as nobody,
        pytest.raises(ClusterUnreachableError, match="no API server answers at https://127"),
    ):
        nobody.get(CONFIG_MAP, "a")
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hello", "is not a kubeconfig"),
        ("", "can't be used"),
        ("a: [", "is not a kubeconfig"),
        ("contexts: []\ncurrent-context: x\nclusters: []\nusers: []\n", "can't be used"),
    ],
)
def test_refuses_what_is_no_kubeconfig(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(text)
    with pytest.raises(ClusterUsageError, match=said), connect(Access(str(file))):
        pass


@pytest.mark.parametrize("name", ["a/b", "..", "A", "a b", "n" * 64])
def test_refuses_what_can_be_no_namespace(kube: Server, name: str) -> None:
    with (
        pytest.raises(ClusterUsageError, match="no namespace can be called that"),
        connect(Access(str(kube.kubeconfig), namespace=name)),
    ):
        pass


def test_names_the_contexts_there_are(kube: Server, tmp_path: Path) -> None:
    with (
        pytest.raises(ClusterUsageError, match="no context 'prod'; it has t"),
        connect(Access(str(kube.kubeconfig), context="prod")),
    ):
        pass
    with (
        pytest.raises(ClusterUsageError, match="there is no kubeconfig at"),
        connect(Access(str(tmp_path / "none"))),
    ):
        pass


def test_unknown_custom_resources_are_named(api: Api) -> None:
    assert list(api.list(KV_CACHE)) == []


@pytest.fixture
def restartable(tmp_path: Path) -> Iterator[Server]:
    from tests.kube import api_server

    with api_server(tmp_path, crds=False) as server:
        yield server


def test_requests_outlive_a_restart_of_the_server(restartable: Server) -> None:
    with connect(restartable.access) as api:
        api.apply(config_map("a", colour="red"))
        restartable.stop(only_api=True)
        starter = threading.Timer(1.0, restartable.start)
        starter.start()
        assert api.get(CONFIG_MAP, "a")["data"] == {"colour": "red"}
        starter.join()
