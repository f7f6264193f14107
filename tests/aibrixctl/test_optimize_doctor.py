"""``optimize doctor``: exit codes, what it prints, and where Redis does not answer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from cluster.api import Api
from optimizer.plan import save
from tests import fleet
from tests.kube import Server
from tests.optimizer.doctor.test_doctor import SOURCE, system
from tests.optimizer.rollout.test_draft import autoscaler, plan_of
from tests.redis_server import redis_server, requires_redis

Cli = Callable[..., Any]


@pytest.fixture(autouse=True)
def _reached(kube: Server, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kube.kubeconfig))
    api.create(fleet.deployment("a", 2))
    api.create(autoscaler("p", "a", 1, 9, metricsSources=[SOURCE]))
    tracing = {"AIBRIX_GPU_OPTIMIZER_TRACING_FLAG": "true"}
    api.create(system("aibrix-gateway-plugins", "aibrix/gateway:v0.8.0", **tracing))
    api.create(system("aibrix-controller-manager", "aibrix/controller-manager:v0.8.0"))


def words(api: Api) -> tuple[str, ...]:
    return "optimize", "doctor", "-n", api.namespace, "--aibrix-namespace", api.namespace


@requires_redis
def test_says_what_is_wrong_and_what_helps(
    cli: Cli, cli_json: Cli, api: Api, tmp_path: Path, snapshot: SnapshotAssertion
) -> None:
    save(plan_of({"a": 0}), "plan.json")
    with redis_server(tmp_path) as server:
        asked = (*words(api), "--redis", server.url, "--plan", "plan.json")
        outcome = cli(*asked, "-o", "wide")
        document = cli_json(*asked)
    assert outcome.code == 10
    text = outcome.out.replace(api.namespace, "NAMESPACE").replace(api.host, "HOST")
    assert text == snapshot
    assert [finding["code"] for finding in document["data"]["findings"]] == [
        "AS-TRACING-OFF",
        "AS-PROFILE-MISSING",
        "AS-MINIMUM",
    ]


def test_runs_the_other_checks_where_redis_does_not_answer(cli: Cli, api: Api) -> None:
    outcome = cli(*words(api), "--redis", "redis://127.0.0.1:9")
    assert outcome.code == 3
    assert "could not be checked: no Redis answers at 127.0.0.1:9" in outcome.err
    assert "no fault" in outcome.out
    outcome = cli(*words(api))
    assert outcome.code == 3
    assert "no --redis was given" in outcome.err


def test_faults_weigh_more_than_open_checks(cli: Cli, api: Api) -> None:
    api.create(autoscaler("q", "a", 0, 9))
    outcome = cli(*words(api))
    assert outcome.code == 10
    assert "AS-CONFLICT" in outcome.out


def test_a_model_that_nobody_serves_is_named(cli: Cli, api: Api) -> None:
    outcome = cli(*words(api), "--model", "zephyr")
    assert outcome.code == 1
    assert "serves model 'zephyr'" in outcome.err
