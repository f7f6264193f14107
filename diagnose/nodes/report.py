"""What a scan says of one node."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from diagnose.explain import explain
from diagnose.findings import SEVERITIES, Device, Finding
from diagnose.nodes.node import Node
from diagnose.verdict import is_fault

Verdict = Literal["healthy", "faults", "unknown"]
NO_ANSWER = "NODE-NO-ANSWER"
_BLIND = frozenset(
    {"NV-LIBRARY-MISSING", "NV-NO-PERMISSION", "ASCEND-LIBRARY-MISSING", "ASCEND-NO-PERMISSION"}
)
"""What a pod finds when its container was not given the driver: no fault of the node."""


@dataclass(frozen=True)
class NodeReport:
    """The outcome for one node.

    Attributes:
        node: its name.
        product: of its accelerators, by label.
        verdict: ``unknown`` when it did not answer, or what it answered leaves something open.
        devices: each with its health.
        findings: worst first.
        simulated: a mock was diagnosed.
        why: what is not known, and why; None when all is.
    """

    node: str
    product: str | None = None
    verdict: Verdict = "unknown"
    devices: tuple[tuple[Device, str], ...] = ()
    findings: tuple[Finding, ...] = ()
    simulated: bool = False
    why: str | None = None

    @property
    def faults(self) -> tuple[Finding, ...]:
        """Findings that are faults of the node's hardware or driver, worst first."""
        return tuple(f for f in self.findings if is_fault(f) and not _says_nothing(f))

    @property
    def fatal(self) -> int:
        """How many faults are fatal: they take a node out of service."""
        return sum(finding.severity == "fatal" for finding in self.faults)


def unanswered(node: Node, why: str) -> NodeReport:
    """Return the report of a node that did not answer."""
    known = explain(NO_ANSWER)
    finding = Finding(
        NO_ANSWER,
        known.severity,
        Device("node", name=node.name),
        {"why": why},
        known.meaning,
        known.action,
        known.move_workload,
        "answer",
    )
    return NodeReport(node.name, node.product, findings=(finding,), why=why)


def parse(node: Node, document: bytes) -> NodeReport:
    """Return the report that a Job delivered: the output of ``diagnose -o json``."""
    try:
        body = json.loads(document)
        if body["schema"] != "aibrixctl/diagnose/v1":
            return unanswered(node, f"it delivered {body['schema']}, which we do not read")
        data = body["data"]
        if data is None:
            said = "; ".join(error["message"] for error in body["errors"])
            return unanswered(node, f"diagnose failed there: {said}")
        return _of_data(node, data)
    except (ValueError, KeyError, TypeError) as error:
        why = f"it delivered what is no diagnosis: {type(error).__name__}: {error}"
        return unanswered(node, why)


def _of_data(node: Node, data: Mapping[str, Any]) -> NodeReport:
    findings = tuple(_finding(each) for each in data["findings"])
    report = NodeReport(
        node.name,
        node.product,
        devices=tuple((_device(each), str(each["health"])) for each in data["devices"]),
        findings=tuple(sorted(findings, key=lambda f: -SEVERITIES.index(f.severity))),
        simulated=bool(data["simulated"]),
    )
    left_open = [each for each in data["unchecked"] if not each["skipped"]]
    blind = [f for f in findings if _says_nothing(f)]
    why = None
    if blind:
        why = f"{blind[0].code}: the container was not given the driver"
    elif left_open:
        checks = "1 check" if len(left_open) == 1 else f"{len(left_open)} checks"
        first = left_open[0]
        why = f"{checks} could not run, such as {first['check']}: {first['reason']}"
    verdict: Verdict = "faults" if report.faults else "unknown" if why else "healthy"
    return replace(report, verdict=verdict, why=why)


def _says_nothing(finding: Finding) -> bool:
    return finding.code in _BLIND or finding.code == NO_ANSWER


def _device(body: Mapping[str, Any]) -> Device:
    fields = ("kind", "index", "name", "uuid", "pci_bus_id", "serial")
    return Device(**{name: body[name] for name in fields})


def _finding(body: Mapping[str, Any]) -> Finding:
    return Finding(**{**body, "device": _device(body["device"])})
