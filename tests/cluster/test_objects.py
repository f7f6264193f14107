"""What objects say of themselves: names, pods, nodes and selectors."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.devices import product_of
from cluster.errors import ClusterUsageError
from cluster.kinds import full_name
from cluster.nodes import TAINT, complaints
from cluster.objects import is_name, is_namespace, parse_name, split_name
from cluster.pods import is_ready, trouble, why_not_ready
from cluster.selectors import labels_text, selects, to_text

READY = {"type": "Ready", "status": "True"}


def pod(*conditions: dict[str, str], leaving: bool = False, **status: Any) -> dict[str, Any]:
    metadata = {"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z"} if leaving else {}
    return {"metadata": metadata, "status": {"conditions": list(conditions), **status}}


def waiting(reason: str, kind: str = "containerStatuses", **more: str) -> dict[str, Any]:
    return {kind: [{"state": {"waiting": {"reason": reason, **more}}}]}


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (pod(READY, phase="Running", leaving=True), "being deleted"),
        (pod(phase="Failed", reason="Evicted", message="disk"), "Evicted: disk"),
        (
            pod(phase="Pending", **waiting("ErrImagePull", "initContainerStatuses", message="m")),
            "ErrImagePull: m",
        ),
        (
            pod(
                {"type": "Ready", "status": "False", "reason": "ContainersNotReady"},
                phase="Pending",
                **waiting("PodInitializing"),
            ),
            "ContainersNotReady",
        ),
        (
            pod(
                containerStatuses=[{"state": {"terminated": {"exitCode": 3, "message": "boom\n"}}}]
            ),
            "exit code 3: boom",
        ),
        (
            pod({"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}),
            "Unschedulable",
        ),
        (pod(phase="Running"), "not ready"),
        ({"metadata": {}}, "phase Unknown"),
    ],
)
def test_why_a_pod_is_not_ready(found: dict[str, Any], why: str) -> None:
    assert not is_ready(found)
    assert why_not_ready(found) == why


def test_a_pod_that_works_has_no_trouble() -> None:
    works = pod(READY, phase="Running", containerStatuses=[{"state": {"running": {}}}])
    assert is_ready(works)
    assert trouble(works) is None
    assert not is_ready(pod(READY, phase="Succeeded"))


def test_what_speaks_against_a_node_is_told_in_one_order() -> None:
    sick = {"type": "AcceleratorHealthy", "status": "False", "reason": "NV-XID-79"}
    silent = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}
    taint = {"key": "nvidia.com/gpu", "effect": "NoSchedule"}
    node = {
        "metadata": {"labels": {"nvidia.com/gpu.product": "L20", "accelerator": "other"}},
        "spec": {"unschedulable": True, "taints": [taint, TAINT]},
        "status": {"conditions": [silent, sick]},
    }
    assert complaints(node) == (
        "AcceleratorHealthy is False (NV-XID-79)",
        "not ready (NodeStatusUnknown)",
        "cordoned",
        "tainted aibrixctl/accelerator=unhealthy:NoSchedule",
    )
    assert product_of(node) == "L20"
    well = {"metadata": {}, "spec": {"taints": [taint]}, "status": {"conditions": [READY]}}
    assert complaints(well) == ()
    assert product_of(well) is None


@given(st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,20}[a-z0-9])?", fullmatch=True), st.booleans())
def test_a_full_name_is_taken_apart_again(name: str, placed: bool) -> None:
    namespace = "ns" if placed else None
    assert split_name(full_name({"namespace": namespace, "name": name})) == (namespace, name)


@pytest.mark.parametrize("text", ["", "/", "a/", "/a", "a/b/c", "..", "A", "a b", "a?b", "a\n"])
def test_what_names_nothing_is_refused(text: str) -> None:
    with pytest.raises(ClusterUsageError, match=r"--redis-service is .*NAMESPACE"):
        parse_name(text, "--redis-service")


def test_names_are_those_of_rfc_1123() -> None:
    for text in ("a", "0", "a-b", "n" * 63):
        assert is_namespace(text) and is_name(text)
    for text in ("", "-a", "a-", "A", "a_b", "a\n", "é"):
        assert not is_namespace(text) and not is_name(text)
    assert is_name("a.b-c.d") and not is_namespace("a.b")
    assert not is_namespace("n" * 64)
    assert not is_name("a..b")
    assert is_name(".".join(["n" * 63] * 3 + ["n" * 61]))
    assert not is_name(".".join(["n" * 63] * 4))


def test_a_selector_as_text() -> None:
    expressions = [
        {"key": "a", "operator": "In", "values": ["b", "c"]},
        {"key": "d", "operator": "NotIn", "values": ["e"]},
        {"key": "f", "operator": "Exists"},
        {"key": "g", "operator": "DoesNotExist"},
    ]
    selector = {"matchLabels": {"x": "y"}, "matchExpressions": expressions}
    assert to_text(selector) == "x=y,a in (b,c),d notin (e),f,!g"
    assert to_text({"matchExpressions": expressions[2:3]}) == "f"
    assert labels_text({"x": "y", "z": ""}) == "x=y,z="
    assert not selects({}, {"x": "y"})


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        ({}, False),
        ({"matchLabels": {"a": "1"}}, True),
        ({"matchLabels": {"a": "1", "b": "1"}}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, False),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, False),
        ({"matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["1"]}]}, True),
    ],
)
def test_selectors_choose_as_the_api_does(selector: dict[str, Any], chosen: bool) -> None:
    assert selects(selector, {"a": "1"}) is chosen
