"""What a scan changes on nodes of a real API server, and what an undo takes back."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.api import Api
from cluster.errors import ForbiddenError
from cluster.kinds import NODE
from diagnose.explain import explain
from diagnose.findings import Device, Finding
from diagnose.nodes.mark import How, Policy, mark
from diagnose.nodes.report import NodeReport, unanswered
from diagnose.nodes.service import Limit
from diagnose.nodes.undo import undo
from tests.kube import Server
from tests.kube_nodes import events, node, nodes, state_of

NAMES = ("gpu-1", "gpu-2", "gpu-3")


@pytest.fixture
def three(api: Api) -> Iterator[None]:
    with nodes(api, *(node(name) for name in NAMES)):
        yield


def finding(code: str, gpu: int = 0) -> Finding:
    known = explain(code)
    return Finding(code, known.severity, Device("gpu", gpu), {}, known.meaning, known.action,
                   known.move_workload, "check")  # fmt: skip


def report(name: str, *codes: str) -> NodeReport:
    device = Device("gpu", 0)
    found = tuple(finding(code) for code in codes)
    verdict: Any = "faults" if found else "healthy"
    return NodeReport(name, "H100", verdict, ((device, "healthy"),), found)


FATAL = report("gpu-2", "NV-GPU-LOST")


def policy(how: How = "cordon", most: int = 1, **more: Any) -> Policy:
    return Policy(how, Limit(most, 0), **more)


def condition(api: Api, name: str) -> dict[str, Any] | None:
    found = api.get(NODE, name)["status"]["conditions"]
    return next((one for one in found if one["type"] == "AcceleratorHealthy"), None)


def spec(api: Api, name: str) -> dict[str, Any]:
    found: dict[str, Any] = api.get(NODE, name).get("spec") or {}
    return found


@pytest.mark.parametrize("how", ["condition", "taint", "cordon"])
@pytest.mark.usefixtures("three")
def test_an_undo_restores_every_byte(api: Api, how: How) -> None:
    own = {"key": "team", "value": "a", "effect": "NoSchedule"}
    api.patch(NODE, "gpu-2", {"spec": {"taints": [own]}, "metadata": {"annotations": {"a": "b"}}})
    before = {name: state_of(api, name) for name in NAMES}
    reports = [report("gpu-1"), FATAL, unanswered(_node(api, "gpu-3"), "no image")]
    marked = {one.node: one for one in mark(api, reports, policy(how))}
    assert all(one.error is None and one.left is None for one in marked.values())
    found = {name: condition(api, name) for name in NAMES}
    assert [one and (one["status"], one["reason"]) for one in found.values()] == [
        ("True", "AcceleratorsHealthy"), ("False", "NV-GPU-LOST"), ("Unknown", "NODE-NO-ANSWER"),
    ]  # fmt: skip
    assert explain("NV-GPU-LOST").action in str(found["gpu-2"])
    assert spec(api, "gpu-2").get("unschedulable", False) is (how == "cordon")
    taints = [taint["key"] for taint in spec(api, "gpu-2")["taints"]]
    assert taints == (["team", "aibrixctl/accelerator"] if how == "taint" else ["team"])
    assert not any(spec(api, name).get("unschedulable") for name in ("gpu-1", "gpu-3"))
    undone = list(undo(api))
    assert [one.node for one in undone] == list(NAMES)
    assert {name: state_of(api, name) for name in NAMES} == before
    assert not list(undo(api))


def _node(api: Api, name: str) -> Any:
    from diagnose.nodes.changes import current

    return current(api, name)


@pytest.mark.usefixtures("three")
def test_a_second_run_changes_nothing_and_counts_its_event(api: Api) -> None:
    list(mark(api, [FATAL], policy()))
    before = {name: api.get(NODE, name) for name in NAMES}
    (again,) = mark(api, [FATAL], policy())
    assert again.changes == ()
    after = {name: api.get(NODE, name) for name in NAMES}
    for name in NAMES:
        assert after[name].get("spec") == before[name].get("spec")
        assert after[name]["metadata"].get("annotations") == before[name]["metadata"].get(
            "annotations"
        )
    (event,) = events(api, NAMES)
    assert (event["reason"], event["count"], event["involvedObject"]["uid"]) == (
        "NV-GPU-LOST", 2, "gpu-2",
    )  # fmt: skip
    assert "GPU 0: " in event["message"]


@pytest.mark.usefixtures("three")
def test_no_more_are_closed_than_may_be_and_the_rest_is_named(api: Api) -> None:
    reports = [report(name, "NV-GPU-LOST") for name in NAMES]
    reports[1] = report("gpu-2", "NV-GPU-LOST", "NV-ECC-SRAM")  # the worst
    planned = list(mark(api, reports, policy(most=2), dry_run=True))
    assert not any(spec(api, name).get("unschedulable") for name in NAMES)
    done = list(mark(api, reports, policy(most=2)))
    assert planned == done
    assert [one.node for one in done if one.left is None] == ["gpu-2", "gpu-1"]
    assert done[2].left == "2 of 3 nodes are out of service, and at most 2 may be"
    assert [spec(api, name).get("unschedulable", False) for name in NAMES] == [True, True, False]
    assert str(condition(api, "gpu-3")).count("NV-GPU-LOST")


@pytest.mark.usefixtures("three")
def test_nodes_that_are_out_for_another_reason_count(api: Api) -> None:
    api.patch(NODE, "gpu-1", {"spec": {"unschedulable": True}})
    (marked,) = mark(api, [FATAL], policy(most=1))
    assert marked.left is not None
    assert "unschedulable" not in spec(api, "gpu-2")


@pytest.mark.usefixtures("three")
def test_what_an_administrator_closed_stays_closed(api: Api) -> None:
    api.patch(NODE, "gpu-2", {"spec": {"unschedulable": True}})
    before = state_of(api, "gpu-2")
    (marked,) = mark(api, [FATAL], policy())
    assert [change.what for change in marked.changes] == ["condition"]
    list(undo(api))
    assert state_of(api, "gpu-2") == before


@pytest.mark.usefixtures("three")
def test_what_an_administrator_closed_since_stays_closed(api: Api) -> None:
    list(mark(api, [FATAL], policy()))
    url = NODE.path(None, "gpu-2") + "?fieldManager=kubectl-cordon"
    for value in (None, True):
        from cluster.transport import Deed

        api.transport.request(
            Deed("patch", "nodes"), "PATCH", url, body={"spec": {"unschedulable": value}},
            content_type="application/merge-patch+json",
        )  # fmt: skip
    (undone,) = undo(api)
    assert undone.left == "someone else has cordoned it since"
    assert spec(api, "gpu-2")["unschedulable"] is True
    assert condition(api, "gpu-2") is None


@pytest.mark.usefixtures("three")
def test_a_condition_of_before_comes_back(api: Api) -> None:
    old = {"type": "AcceleratorHealthy", "status": "True", "reason": "Other", "message": "m",
           "lastHeartbeatTime": "2026-01-01T00:00:00Z",
           "lastTransitionTime": "2026-01-01T00:00:00Z"}  # fmt: skip
    api.patch(
        NODE, "gpu-2", {"status": {"conditions": [old]}}, subresource="status",
        how="strategic-merge",
    )  # fmt: skip
    before = state_of(api, "gpu-2")
    list(mark(api, [FATAL], policy()))
    list(mark(api, [report("gpu-2")], policy()))
    list(undo(api))
    assert state_of(api, "gpu-2") == before


@pytest.mark.usefixtures("three")
def test_a_healed_node_stays_closed_until_it_is_asked_back(api: Api) -> None:
    list(mark(api, [FATAL], policy()))
    list(mark(api, [report("gpu-2")], policy()))
    assert spec(api, "gpu-2")["unschedulable"] is True
    healthy = condition(api, "gpu-2")
    assert healthy is not None and healthy["status"] == "True"
    (back,) = mark(api, [report("gpu-2")], policy(return_healed=True))
    assert [(change.what, change.after) for change in back.changes] == [("cordon", "open")]
    assert "unschedulable" not in spec(api, "gpu-2")


class Cut(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.usefixtures("three")
def test_what_is_cut_off_between_two_writes_is_repaired(
    api: Api, monkeypatch: pytest.MonkeyPatch, number: int, after: bool
) -> None:
    before = state_of(api, "gpu-2")
    whole = Api._write
    count = 0

    def cut(self: Api, *args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count == number and not after:
            raise Cut
        answer = whole(self, *args, **kwargs)
        if count == number:
            raise Cut
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(Api, "_write", cut)
        with pytest.raises(Cut):
            list(mark(api, [FATAL], policy()))
    list(mark(api, [FATAL], policy()))
    assert spec(api, "gpu-2")["unschedulable"] is True
    assert str(condition(api, "gpu-2")).count("NV-GPU-LOST")
    assert [event["reason"] for event in events(api, NAMES)] == ["NV-GPU-LOST"]
    count = 0
    if number < 3:
        with monkeypatch.context() as patched:
            patched.setattr(Api, "_write", cut)
            with pytest.raises(Cut):
                list(undo(api))
    list(undo(api))
    assert state_of(api, "gpu-2") == before


@pytest.mark.usefixtures("three")
def test_a_node_that_changes_meanwhile_is_read_anew(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another operator closes a second node between our look and our write of the first."""
    whole = Api.patch
    done: list[str] = []

    def meanwhile(self: Api, kind: Any, name: str, body: Any, *rest: Any, **more: Any) -> Any:
        if not done:
            done.append(name)
            whole(self, NODE, "gpu-1", {"spec": {"unschedulable": True}})
            whole(self, NODE, "gpu-2", {"metadata": {"annotations": {"other": "x"}}})
        return whole(self, kind, name, body, *rest, **more)

    monkeypatch.setattr(Api, "patch", meanwhile)
    (marked,) = mark(api, [FATAL], policy(most=1))
    assert marked.error is None
    assert marked.left == "1 of 3 nodes are out of service, and at most 1 may be"
    assert "unschedulable" not in spec(api, "gpu-2")
    annotations = api.get(NODE, "gpu-2")["metadata"]["annotations"]
    assert annotations["other"] == "x"


@pytest.mark.usefixtures("three")
def test_what_was_done_before_a_conflict_is_told(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node changes between the two writes of it, on the way there and back."""
    whole = Api.patch
    count, numbers = 0, itertools.count()

    def meanwhile(self: Api, *args: Any, **more: Any) -> Any:
        nonlocal count
        count += 1
        if count == 2:
            text = str(next(numbers))
            whole(self, NODE, "gpu-2", {"metadata": {"annotations": {"other": text}}})
        return whole(self, *args, **more)

    monkeypatch.setattr(Api, "patch", meanwhile)
    (marked,) = mark(api, [FATAL], policy())
    assert count == 3
    assert {change.what for change in marked.changes} == {"cordon", "condition"}
    count = 0
    (undone,) = undo(api)
    assert count == 3
    assert {change.what for change in undone.changes} == {"cordon", "condition"}
    assert "unschedulable" not in spec(api, "gpu-2")
    assert condition(api, "gpu-2") is None


@pytest.mark.usefixtures("three")
def test_says_which_right_is_missing_and_stops(kube: Server, api: Api) -> None:
    from cluster.access import Access, connect

    rules = [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "patch"]}]
    file = kube.account(api, "half", rules, api.namespace)
    reports = [FATAL, report("gpu-1")]
    with connect(Access(str(file))) as limited:
        (marked,) = mark(limited, reports, policy())
    assert isinstance(marked.error, ForbiddenError)
    assert "may not patch nodes/status gpu-2" in marked.error.message
    assert condition(api, "gpu-1") is None


@pytest.mark.usefixtures("three")
def test_a_record_that_is_not_ours_is_left_alone(api: Api) -> None:
    for text in ("x", "[]", '{"version": 2, "before": {}}'):
        api.patch(NODE, "gpu-2", {"metadata": {"annotations": {"aibrixctl/applied": text}}})
        (marked,) = mark(api, [FATAL], policy())
        assert marked.error is not None and "is not a record of ours" in marked.error.message
        (undone,) = undo(api)
        assert undone.error is not None
    assert "unschedulable" not in spec(api, "gpu-2")


@pytest.mark.usefixtures("three")
def test_the_record_says_what_stood_there_before(api: Api) -> None:
    list(mark(api, [FATAL], policy()))
    text = api.get(NODE, "gpu-2")["metadata"]["annotations"]["aibrixctl/applied"]
    assert json.loads(text)["before"] == {"spec.unschedulable": None, "status.conditions": None}
