"""What is new between two diagnoses of the same machine.

A finding is over only when its check ran again and did not give it: a driver that stopped
answering clears nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from diagnose.findings import Device, Finding, Report

ChangeType = Literal[
    "finding_appeared",
    "finding_changed",
    "finding_cleared",
    "device_appeared",
    "device_lost",
]
_Key = tuple[str, str, str | None, int | None, str | None]


@dataclass(frozen=True)
class Change:
    """One change; a device's has no finding."""

    type: ChangeType
    device: Device
    finding: Finding | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        about = {"finding": self.finding.to_json()} if self.finding else {}
        return {"type": self.type, "device": asdict(self.device), **about}


@dataclass
class Ledger:
    """What is known so far; each report is entered once."""

    findings: dict[_Key, Finding] = field(default_factory=dict)
    devices: dict[tuple[str, int | None], Device] = field(default_factory=dict)

    def enter(self, report: Report) -> list[Change]:
        """Take a report and return what it changes."""
        return [*self._devices(report), *self._findings(report)]

    def _devices(self, report: Report) -> Iterator[Change]:
        now = {(device.kind, device.index): device for device in report.devices}
        for place in [place for place in self.devices if place not in now]:
            if _lists_devices(report, place[0]):
                yield Change("device_lost", self.devices.pop(place))
        for place, device in now.items():
            known = self.devices.get(place)
            if known is None or (known.uuid and device.uuid and known.uuid != device.uuid):
                if known is not None:
                    yield Change("device_lost", known)
                yield Change("device_appeared", device)
            if known is None or device.uuid:
                self.devices[place] = device

    def _findings(self, report: Report) -> Iterator[Change]:
        now = {_key(finding): finding for finding in report.findings}
        for key in [key for key in self.findings if key not in now]:
            if _judged(self.findings[key], report):
                over = self.findings.pop(key)
                yield Change("finding_cleared", over.device, over)
        for key, finding in now.items():
            known = self.findings.get(key)
            if known is None:
                yield Change("finding_appeared", finding.device, finding)
            elif known.severity != finding.severity:
                yield Change("finding_changed", finding.device, finding)
            self.findings[key] = finding


def _key(finding: Finding) -> _Key:
    """Return what makes a finding the same one in the next round."""
    device = finding.device
    place = None if device.index is not None else device.pci_bus_id
    return finding.check, finding.code, device.kind, device.index, place


def _lists_devices(report: Report, kind: str) -> bool:
    """Tell whether the driver of that kind of device answered, so that its list holds."""
    family = {"gpu": "nvidia", "npu": "ascend"}[kind]
    facts = report.facts.get(family)
    return facts is not None and facts.answers


def _judged(finding: Finding, report: Report) -> bool:
    """Tell whether the check of an earlier finding had a verdict on its device this time."""
    for each in report.unchecked:
        same = each.device == finding.device or each.device.kind == "node"
        if not each.skipped and each.check == finding.check and same:
            return False
    return not _silent(finding.device, report.facts)


def _silent(device: Device, facts: Mapping[str, Any]) -> bool:
    """Tell whether a device is listed, but did not answer."""
    return any(
        each.device.index == device.index and each.device.kind == device.kind and not each.answers
        for family in facts.values()
        for each in getattr(family, "devices", ())
    )
