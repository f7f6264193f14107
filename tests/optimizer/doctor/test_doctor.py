"""Every check, on a real API server and a real Redis: silent while all is well, found when not."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
import yaml

from cluster.access import Access, connect
from cluster.api import Api
from cluster.kinds import DEPLOYMENT, HORIZONTAL_POD_AUTOSCALER, POD_AUTOSCALER
from optimizer.doctor.examine import CHECKS, examine
from optimizer.doctor.facts import Facts
from optimizer.doctor.finding import Report
from optimizer.doctor.gather import TRACING, read_cluster, read_redis
from optimizer.errors import OptimizerError
from tests import fleet
from tests.kube import CRDS, Server
from tests.optimizer.rollout.test_draft import autoscaler
from tests.redis_server import redis_server, requires_redis

pytestmark = requires_redis
SAMPLES = CRDS.parent / "aibrix-samples"
Client = Any
SOURCE = {
    "metricSourceType": "domain",
    "protocolType": "http",
    "endpoint": "aibrix-gpu-optimizer.aibrix-system.svc.cluster.local:8080",
    "path": "/metrics/default/a",
    "targetMetric": "vllm:deployment_replicas",
    "targetValue": "100",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with (
        redis_server(tmp_path_factory.mktemp("redis")) as running,
        redis.Redis(port=running.port) as client,
    ):
        yield client


@pytest.fixture
def client(server: Client) -> Client:
    server.flushall()
    return server


def system(name: str, image: str, replicas: int = 1, **env: str) -> dict[str, Any]:
    """Return a deployment of AIBrix itself."""
    body = fleet.deployment(name, replicas, model=None)
    container = body["spec"]["template"]["spec"]["containers"][0]
    container |= {"image": image, "env": [{"name": k, "value": v} for k, v in env.items()]}
    return body


def profile(name: str, **changes: Any) -> dict[str, Any]:
    body = {
        "gpu": name,
        "cost": 1.0,
        "tputs": [[4.0, 2.0], [3.0, 1.0]],
        "indexes": [[32, 128], [128, 512]],
        "created": 1.0,
        "e2e": [[1.0, 2.0], [3.0, 4.0]],
        "slos": {"percentile": 99, "ttft": 2.0},
    }
    return {key: value for key, value in (body | changes).items() if value is not None}


def trace(client: Client, model: str, age_s: float, requests: int = 40) -> None:
    at_s = int(time.time() - age_s) // 10 * 10
    body = {"meta_v": 4, "meta_interval_sec": 10, "meta_precision": 10,
            "meta_total_reqs": requests, "meta_pending_reqs": 0, "90:70": requests}  # fmt: skip
    client.set(f"aibrix:{model}_request_trace_{at_s}", json.dumps(body))


@pytest.fixture
def well(api: Api, client: Client) -> None:
    """Two deployments of a model that AIBrix scales as it should."""
    for name in ("a", "b"):
        api.create(fleet.deployment(name, 2))
        api.create(autoscaler(f"p-{name}", name, 0, 9, metricsSources=[SOURCE]))
        client.set(f"aibrix:profile_m_{name}", json.dumps(profile(name)))
        status = {"desiredScale": 2, "actualScale": 2, "conditions": []}
        api.patch(POD_AUTOSCALER, f"p-{name}", {"status": status}, subresource="status")
    api.create(system("aibrix-gateway-plugins", "aibrix/gateway:v0.8.0", **{TRACING: "true"}))
    api.create(system("aibrix-controller-manager", "aibrix/controller-manager:v0.8.0"))
    trace(client, "m", 5)


def examined(api: Api, client: Client, **more: Any) -> Report:
    facts = read_cluster(api, system=api.namespace)
    return examine(replace(facts, redis=read_redis(client), **{"planned": {"a": 2}} | more))


def evidence(report: Report, code: str) -> list[str]:
    return [line for f in report.findings if f.hazard.code == code for line in f.evidence]


@pytest.mark.usefixtures("well")
def test_finds_nothing_where_all_is_well(api: Api, client: Client) -> None:
    report = examined(api, client)
    assert (report.findings, report.unchecked) == ((), ())
    assert set(report.passed) == {check.hazard.code for check in CHECKS}


def _env(api: Api, name: str, **changes: Any) -> None:
    api.delete(DEPLOYMENT, name)
    api.create(system(name, "aibrix/gateway:v0.8.0", **changes))


def _condition(api: Api, kind: str, message: str) -> None:
    condition = {"type": kind, "status": "False", "reason": "R", "message": message,
                 "lastTransitionTime": "2026-01-01T00:00:00Z"}  # fmt: skip
    api.patch(POD_AUTOSCALER, "p-a", {"status": {"conditions": [condition]}}, subresource="status")


def _rewrite(client: Client, name: str, **changes: Any) -> None:
    client.set(f"aibrix:profile_m_{name}", json.dumps(profile(name, **changes)))


def _pods(api: Api, **labels: str) -> None:
    api.delete(DEPLOYMENT, "a")
    api.create(fleet.deployment("a", 2, pod_labels=labels))


def _hpa(api: Api, owner: str | None = None) -> None:
    references = [{"apiVersion": "autoscaling.aibrix.ai/v1alpha1", "kind": "PodAutoscaler",
                   "name": owner, "uid": "u"}]  # fmt: skip
    metadata: dict[str, Any] = {"name": "h"} | ({"ownerReferences": references} if owner else {})
    spec = {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "a"}}
    kind = HORIZONTAL_POD_AUTOSCALER
    api.create({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata,
                "spec": spec})  # fmt: skip


def _spec(api: Api, **changes: Any) -> None:
    api.patch(POD_AUTOSCALER, "p-a", {"spec": changes})


def _scale(api: Api, desired: int) -> None:
    api.patch(POD_AUTOSCALER, "p-a", {"status": {"desiredScale": desired}}, subresource="status")


def _new_image(api: Api, image: str) -> None:
    api.delete(DEPLOYMENT, "aibrix-controller-manager")
    if image:
        api.create(system("aibrix-controller-manager", image))


def _prefixed(api: Api, client: Client) -> None:
    client.set("aibrix:profile_m_x_c", json.dumps(profile("c")))


BROKEN: list[tuple[str, Callable[[Api, Client], Any], str]] = [
    ("AS-TRACING-OFF", lambda api, _: _env(api, "aibrix-gateway-plugins"), "is not set"),
    ("AS-TRACING-OFF", lambda api, _: _env(api, "aibrix-gateway-plugins", **{TRACING: "1"}),
     "is '1'"),
    ("AS-TRACING-OFF", lambda _, c: c.delete(*c.keys("*_trace_*")), "has no key aibrix:m_"),
    ("AS-TRACING-STALE",
     lambda _, c: (c.delete(*c.keys("*_trace_*")), trace(c, "m", 400)), "m: the newest key is"),
    ("AS-GATEWAYS",
     lambda api, _: api.patch(DEPLOYMENT, "aibrix-gateway-plugins", {"spec": {"replicas": 2}}),
     "has 2 replicas"),
    ("AS-PROFILE-MISSING", lambda _, c: c.delete("aibrix:profile_m_a"), "no aibrix:profile_m_a"),
    ("AS-PROFILE-BROKEN", lambda _, c: c.set("aibrix:profile_m_a", "[1"), "holds no JSON object"),
    ("AS-PROFILE-BROKEN", lambda _, c: _rewrite(c, "a", cost=None), "lacks cost"),
    ("AS-PROFILE-NAME", lambda _, c: _rewrite(c, "a", gpu="A10"), "says gpu 'A10', which no"),
    ("AS-PROFILE-NAME", lambda _, c: _rewrite(c, "a", gpu="b"), "which is another deployment"),
    ("AS-PROFILE-NAME", lambda _, c: c.set("aibrix:profile_m_z", json.dumps(profile("z"))),
     "no deployment z serves m"),
    ("AS-PROFILE-SHAPES", lambda _, c: _rewrite(c, "b", indexes=[[32, 256], [128, 512]]),
     "profile_m_b has indexes"),
    ("AS-PROFILE-SHAPES", lambda _, c: _rewrite(c, "b", tputs=[[4.0], [3.0]]),
     "tputs is of shape (2, 1)"),
    ("AS-PROFILE-SLO", lambda _, c: _rewrite(c, "b", slos={"percentile": 99}), "has none of"),
    ("AS-PROFILE-SLO", lambda _, c: _rewrite(c, "b", e2e=None), "has no matrix e2e"),
    ("AS-MODEL-PREFIX", _prefixed, "the scan for m finds aibrix:profile_m_x_c of m_x"),
    ("AS-NAME-LABEL", lambda api, _: _pods(api, **{"app.kubernetes.io/name": "vllm"}),
     "app.kubernetes.io/name=vllm"),
    ("AS-PATH-IGNORED", lambda api, _: _new_image(api, "aibrix/controller-manager:v0.7.1"),
     "path /metrics/default/a"),
    ("AS-PATH-IGNORED", lambda api, _: _new_image(api, ""), "version is not known"),
    ("AS-METRIC-ZERO", lambda api, _: _scale(api, 0), "while the gateway saw 40 requests"),
    ("AS-AT-ZERO",
     lambda api, _: (_spec(api, minReplicas=1),
                     api.patch(DEPLOYMENT, "a", {"spec": {"replicas": 0}})),
     "has 0 replicas"),
    ("AS-ANNOTATION",
     lambda api, _: api.patch(POD_AUTOSCALER, "p-a", {"metadata": {"annotations": {
         "kpa.autoscaling.aibrix.ai/scale-down-delay": "0s"}}}), "scale-down-delay=0s"),
    ("AS-ANNOTATION",
     lambda api, _: api.patch(POD_AUTOSCALER, "p-a", {"metadata": {"annotations": {
         "autoscaling.aibrix.ai/max-scale-up": "2"}}}), "max-scale-up=2"),
    ("AS-CONFLICT", lambda api, _: api.create(autoscaler("q", "a", 0, 9)), "/p-a, podautoscaler"),
    ("AS-CONFLICT", lambda api, _: _hpa(api), "horizontalpodautoscaler"),
    ("AS-CONFLICT",
     lambda api, _: _condition(api, "MultiPodAutoscalerConflict", "controlled by q"),
     "controlled by q"),
    ("AS-TARGET", lambda api, _: api.create(autoscaler("q", "gone", 0, 9)), "no deployment"),
    ("AS-INVALID", lambda api, _: _condition(api, "ValidSpec", "bad bounds"), "bad bounds"),
    ("AS-AT-MAXIMUM", lambda api, _: _scale(api, 9), "maxReplicas 9"),
    ("AS-UNSCALED", lambda api, _: api.delete(POD_AUTOSCALER, "p-b"), "/b"),
]  # fmt: skip


@pytest.mark.usefixtures("well")
@pytest.mark.parametrize(("code", "breaks", "said"), BROKEN, ids=[f"{c}-{s}" for c, _, s in BROKEN])
def test_finds_what_is_wrong(
    api: Api, client: Client, code: str, breaks: Callable[[Api, Client], Any], said: str
) -> None:
    breaks(api, client)
    report = examined(api, client)
    assert any(said in line for line in evidence(report, code)), report.findings
    assert {finding.hazard.code for finding in report.findings} == {code}


def test_every_hazard_is_broken_in_a_test() -> None:
    assert {code for code, _, _ in BROKEN} | {"AS-MINIMUM"} == {c.hazard.code for c in CHECKS}


@pytest.mark.usefixtures("well")
def test_minimums_matter_where_the_plan_wants_none(api: Api, client: Client) -> None:
    _spec(api, minReplicas=1)
    api.patch(DEPLOYMENT, "b", {"metadata": {"labels": {"model.aibrix.ai/min_replicas": "1"}}})
    assert not examined(api, client, planned={"a": 1, "b": 1}).findings
    report = examined(api, client, planned={"a": 0, f"{api.namespace}/b": 0})
    assert evidence(report, "AS-MINIMUM") == [
        f"podautoscaler {api.namespace}/p-a: minReplicas 1",
        f"deployment {api.namespace}/b: model.aibrix.ai/min_replicas=1",
    ]
    left_out = examined(api, client, planned=None).unchecked
    assert [(check.code, check.applies) for check in left_out] == [("AS-MINIMUM", False)]


@pytest.mark.usefixtures("well")
def test_an_hpa_that_a_podautoscaler_made_is_no_conflict(api: Api, client: Client) -> None:
    _hpa(api, owner="p-a")
    assert not examined(api, client).findings


@pytest.mark.usefixtures("well")
def test_looks_at_one_model_of_several(api: Api, client: Client) -> None:
    api.create(fleet.deployment("other", 1, model="n"))
    assert evidence(examined(api, client), "AS-PROFILE-MISSING")
    facts = read_cluster(api, model="m", system=api.namespace)
    assert not examine(replace(facts, redis=read_redis(client), planned={})).findings
    with pytest.raises(OptimizerError, match="serves model 'x'"):
        read_cluster(api, model="x")


@pytest.mark.usefixtures("well")
def test_what_can_not_be_read_leaves_its_checks_open(kube: Server, api: Api) -> None:
    rules = [
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list"]},
        {"apiGroups": ["orchestration.aibrix.ai"], "resources": ["stormservices"],
         "verbs": ["list"]},
        {"apiGroups": ["autoscaling.aibrix.ai"], "resources": ["podautoscalers"],
         "verbs": ["list"]},
        {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"],
         "verbs": ["list"]},
    ]  # fmt: skip
    file = kube.account(api, "patient", rules, api.namespace)
    with connect(Access(str(file))) as limited:
        facts: Facts = read_cluster(limited, system="elsewhere")
    report = examine(facts)
    assert not report.faults or {f.hazard.code for f in report.faults} == {"AS-PATH-IGNORED"}
    reasons = {check.code: check.reason for check in report.unchecked}
    assert "no deployment aibrix-gateway-plugins" in reasons["AS-GATEWAYS"]
    assert "AS-PROFILE-MISSING" in reasons
    assert "AS-CONFLICT" in report.passed


@pytest.mark.skipif(not SAMPLES.exists(), reason="AIBrix's samples are not at hand")
def test_says_what_is_wrong_with_aibrix_s_own_sample(api: Api, client: Client) -> None:
    for path in sorted(SAMPLES.glob("*l20*.yaml")) + sorted(SAMPLES.glob("*v100*.yaml")):
        for body in yaml.safe_load_all(path.read_text()):
            body["metadata"]["namespace"] = api.namespace
            if body["kind"] in ("Deployment", "PodAutoscaler"):
                api.create(body)
    api.create(system("aibrix-gateway-plugins", "aibrix/gateway-plugins:v0.7.0"))
    api.create(system("aibrix-controller-manager", "aibrix/controller-manager:v0.7.0"))
    report = examined(api, client, planned={"deepseek-coder-7b-v100": 0})
    assert [finding.hazard.code for finding in report.findings] == [
        "AS-TRACING-OFF", "AS-PROFILE-MISSING", "AS-PATH-IGNORED", "AS-ANNOTATION",
    ]  # fmt: skip
    assert len(evidence(report, "AS-ANNOTATION")) == 2
