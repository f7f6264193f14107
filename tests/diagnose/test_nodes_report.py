"""What is made of the documents that nodes deliver, whatever they are."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.explain import explain
from diagnose.nodes.condition import condition_for
from diagnose.nodes.node import Node, node_of
from diagnose.nodes.report import NodeReport, parse
from tests.kube_nodes import NOW, node


def gpu_node() -> Node:
    obj = node("gpu-1")
    obj["metadata"]["resourceVersion"] = "1"
    found = node_of(obj)
    assert found is not None
    return found


def document(*codes: str, unchecked: Any = (), data: bool = True) -> bytes:
    device = {"kind": "gpu", "index": 0, "name": "H100", "uuid": None, "pci_bus_id": None,
              "serial": None}  # fmt: skip
    findings = []
    for code in codes:
        known = explain(code)
        findings.append({"code": code, "severity": known.severity, "device": device,
                         "evidence": {}, "meaning": known.meaning, "action": known.action,
                         "move_workload": True, "check": "c", "number": None})  # fmt: skip
    body = {"devices": [device | {"health": "healthy"}], "findings": findings,
            "unchecked": list(unchecked), "simulated": False}  # fmt: skip
    errors = [] if data else [{"message": "no accelerator found"}]
    head = {"schema": "aibrixctl/diagnose/v1", "errors": errors}
    return json.dumps(head | {"data": body if data else None}).encode()


def said(report: NodeReport) -> tuple[str, str]:
    condition = condition_for(report, None, NOW)
    return condition["status"], condition["reason"]


@pytest.mark.parametrize(
    ("codes", "verdict", "fatal", "condition"),
    [
        ((), "healthy", 0, ("True", "AcceleratorsHealthy")),
        (("NV-GPU-LOST", "NV-PCIE-WIDTH"), "faults", 1, ("False", "NV-GPU-LOST")),
        (("NV-PCIE-WIDTH",), "faults", 0, ("False", "NV-PCIE-WIDTH")),
        (("NV-TEMPERATURE",), "faults", 0, ("True", "NV-TEMPERATURE")),
        (("NV-POWER-CAP",), "healthy", 0, ("True", "AcceleratorsHealthy")),
        # The container lacks the driver; of the node that says nothing.
        (("NV-LIBRARY-MISSING",), "unknown", 0, ("Unknown", "NotAllChecked")),
        (("NV-NO-PERMISSION",), "unknown", 0, ("Unknown", "NotAllChecked")),
    ],
)
def test_findings_make_the_verdict(
    codes: tuple[str, ...], verdict: str, fatal: int, condition: tuple[str, str]
) -> None:
    report = parse(gpu_node(), document(*codes))
    assert (report.verdict, report.fatal, said(report)) == (verdict, fatal, condition)


def test_what_could_not_be_checked_is_not_healthy() -> None:
    device = {"kind": "gpu", "index": 0}
    left_open = {"check": "ecc", "device": device, "reason": "refused", "skipped": False}
    report = parse(gpu_node(), document(unchecked=[left_open, left_open | {"skipped": True}]))
    assert report.verdict == "unknown"
    assert report.why == "1 check could not run, such as ecc: refused"
    assert said(report) == ("Unknown", "NotAllChecked")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (document(data=False), "diagnose failed there: no accelerator found"),
        (b"", "it delivered what is no diagnosis: JSONDecodeError"),
        (b'{"schema": "aibrixctl/diagnose/v2"}', "it delivered aibrixctl/diagnose/v2"),
        (b'{"schema": "aibrixctl/diagnose/v1"}', "it delivered what is no diagnosis: KeyError"),
        (b"[]", "it delivered what is no diagnosis: TypeError"),
    ],
)
def test_a_document_that_is_none_is_no_answer(text: bytes, why: str) -> None:
    report = parse(gpu_node(), text)
    assert report.why is not None and report.why.startswith(why)
    assert [finding.code for finding in report.findings] == ["NODE-NO-ANSWER"]
    assert said(report) == ("Unknown", "NODE-NO-ANSWER")


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["schema", "data", "findings", "devices", "unchecked", "errors"]), inner
    ),
))  # fmt: skip
def test_nothing_that_a_node_says_makes_it_fail(body: Any) -> None:
    if isinstance(body, dict):
        body["schema"] = "aibrixctl/diagnose/v1"
    assert parse(gpu_node(), json.dumps(body).encode()).verdict == "unknown"
