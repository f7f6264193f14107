"""``profile push --k8s``: to the Redis that the cluster's AIBrix reads."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from cluster.api import Api
from cluster.kinds import NAMESPACE, SERVICE
from profiler.table import save
from tests.kube import Server
from tests.optimizer.problems import make_table
from tests.redis_server import Server as RedisServer
from tests.redis_server import redis_server, requires_redis

from ..profiler.in_cluster_objects import create, service
from . import fake_kubectl

pytestmark = requires_redis
SELECTOR = {"app": "redis", "role": "master"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


@pytest.fixture
def kubectl(
    kube: Server, store: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    monkeypatch.setenv("KUBECONFIG", str(kube.kubeconfig))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return fake_kubectl.install(tmp_path, {"service/aibrix-redis-master": store.port})


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table of deployment ``l20`` of the cluster."""
    made = make_table("mine", [[20.0, 8.0], [4.0, 2.0]], cost=1.0)
    origin = replace(made.provenance, where="k8s:deployment/l20", via="job")
    save(replace(made, provenance=origin), tmp_path / "mine.table.json")
    return tmp_path / "mine.table.json"


@pytest.fixture
def system(api: Api) -> Iterator[str]:
    """The namespace of AIBrix, with its Redis's Service."""
    if api.find(NAMESPACE, "aibrix-system") is None:
        api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "aibrix-system"}})
    body = service("aibrix-redis-master", 6379, SELECTOR, 6379)
    body["metadata"]["namespace"] = "aibrix-system"
    api.create(body)
    yield "aibrix-system"
    api.delete(SERVICE, "aibrix-redis-master", "aibrix-system")


def test_the_redis_is_found_by_its_service_and_the_key_names_the_deployment(
    cli_json: Any, system: str, kubectl: Path, store: RedisServer, table: Path
) -> None:
    body = cli_json("profile", "push", "--k8s", str(table), "--dry-run")
    assert (body["data"]["pushed"], body["exit_code"]) == (False, 0)
    body = cli_json("profile", "push", "--k8s", str(table))
    assert body["data"]["pushed"] is True
    assert body["data"]["redis_service"] == "aibrix-system/aibrix-redis-master"
    with redis.Redis(port=store.port) as client:
        (key,) = client.scan_iter("aibrix:*")
        profile = json.loads(client.get(key) or b"")
    assert key.decode() == body["data"]["profiles"][0]["key"]
    assert key.decode().endswith("_l20")
    assert profile["gpu"] == "l20"
    words = fake_kubectl.calls(kubectl)[-1]
    assert words[-2:] == ["service/aibrix-redis-master", ":6379"]
    assert words[words.index("--namespace") + 1] == system


@pytest.fixture
def elsewhere(api: Api) -> Iterator[str]:
    """A namespace with the Service of a Redis."""
    create(api, service("aibrix-redis-master", 6379, SELECTOR, 6379))
    yield api.namespace
    api.delete(SERVICE, "aibrix-redis-master")


def test_a_redis_of_another_namespace_is_found_or_given(
    cli_json: Any, elsewhere: str, kubectl: Path, table: Path
) -> None:
    found = cli_json("profile", "push", "--k8s", str(table), "--dry-run")
    assert found["data"]["redis_service"] == f"{elsewhere}/aibrix-redis-master"
    given = f"{elsewhere}/aibrix-redis-master"
    found = cli_json("profile", "push", "--k8s", str(table), "--redis-service", given, "--dry-run")
    assert found["data"]["redis_service"] == given


@pytest.mark.parametrize(
    ("more", "code", "error"),
    [
        ((), 13, "redis.no_service"),
        (("--redis-service", "nowhere/redis"), 1, "cluster.not_found"),
    ],
)
def test_no_redis(
    more: tuple[str, ...], code: int, error: str, cli_json: Any, kubectl: Path, table: Path
) -> None:
    body = cli_json("profile", "push", "--k8s", str(table), *more)
    assert (body["exit_code"], body["errors"][0]["code"]) == (code, error)


def test_without_a_table_there_is_nothing_to_push(cli_json: Any) -> None:
    body = cli_json("profile", "push", "redis://127.0.0.1:1")
    assert (body["exit_code"], body["errors"][0]["code"]) == (2, "push.tables")


def test_a_redis_and_the_cluster_s_exclude_each_other(cli_json: Any, table: Path) -> None:
    body = cli_json("profile", "push", "redis://u:p@127.0.0.1:1/0", str(table), "--k8s")
    assert (body["exit_code"], body["errors"][0]["code"]) == (2, "push.target")
    assert "redis://127.0.0.1:1/0 and --k8s" in body["errors"][0]["message"]


@pytest.mark.parametrize("name", ["a/b/c", "../x", "/a", "A"])
def test_what_can_be_no_service_is_refused(
    cli_json: Any, kubectl: Path, table: Path, name: str
) -> None:
    body = cli_json("profile", "push", "--k8s", str(table), "--redis-service", name)
    assert (body["exit_code"], body["errors"][0]["code"]) == (2, "cluster.name")
    assert not kubectl.exists()
