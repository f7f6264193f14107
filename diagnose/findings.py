"""What a diagnosis says: findings, skipped and failed checks, and the report that holds them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["info", "warning", "degraded", "fatal"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "degraded", "fatal")


@dataclass(frozen=True)
class Device:
    """What a finding is about; None where it is not known, or where it is the whole node."""

    kind: Literal["gpu", "npu", "node", "engine"]
    index: int | None = None
    name: str | None = None
    uuid: str | None = None
    pci_bus_id: str | None = None
    serial: str | None = None


@dataclass(frozen=True)
class Finding:
    """One fault, with what shows it and what to do.

    Attributes:
        code: stable, such as ``NV-ECC-UNCORRECTABLE``; ``aibrixctl diagnose explain`` knows it.
        severity: ``info`` is no fault and leaves the exit code alone.
        device: what it is about.
        evidence: the readings behind it, units in the names.
        meaning: one sentence.
        action: what to do.
        move_workload: whether the work on the device must go elsewhere first.
        check: the check that found it.
        number: the XID, SXID or Ascend fault code, where the finding is about one.
    """

    code: str
    severity: Severity
    device: Device
    evidence: Mapping[str, Any]
    meaning: str
    action: str
    move_workload: bool
    check: str
    number: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return vars(self) | {"device": dict(vars(self.device)), "evidence": dict(self.evidence)}


@dataclass(frozen=True)
class Unchecked:
    """A check that gave no verdict on a device, and why.

    ``skipped``: the device has no such thing, or nobody asked. Otherwise it should have run and
    could not, so the device's health isn't known.
    """

    check: str
    device: Device
    reason: str
    skipped: bool


@dataclass(frozen=True)
class Report:
    """The outcome of one diagnosis."""

    devices: tuple[Device, ...] = ()
    findings: tuple[Finding, ...] = ()
    unchecked: tuple[Unchecked, ...] = ()
    passed: int = 0
    simulated: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
