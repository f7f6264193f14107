"""Draw a diagnosis for a person, and give it its JSON form."""

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aibrixctl.active_view import draw_active
from diagnose.findings import Device, Finding, Report
from diagnose.verdict import health, is_fault, verdict

if TYPE_CHECKING:
    from rich.console import Console

    from diagnose.facts import DeviceFacts, Facts

STYLES = {"fatal": "bold red", "degraded": "red", "warning": "yellow", "info": "cyan"}
_MOVES = re.compile(r"\b[Mm]ove (the |this )?work")
_WIDE_ONLY = ("context",)


def to_json(report: Report) -> dict[str, Any]:
    """Return the document of a report; readings stand as the driver gave them."""
    return {
        "verdict": verdict(report),
        "simulated": report.simulated,
        "checks_passed": report.passed,
        "devices": [vars(each) | {"health": health(each, report)} for each in report.devices],
        "findings": [finding.to_json() for finding in report.findings],
        "unchecked": [vars(each) | {"device": vars(each.device)} for each in report.unchecked],
        "facts": {
            name: facts if isinstance(facts, Mapping) else _facts(facts)
            for name, facts in report.facts.items()
        },
    }


def _facts(facts: "Facts") -> dict[str, Any]:
    return {
        "driver": _readings(facts),
        "devices": [{"index": each.device.index} | _readings(each) for each in facts.devices],
    }


def _readings(facts: "Facts | DeviceFacts") -> dict[str, Any]:
    return {
        "readings": dict(facts.values),
        "not_read": {name: failure.text for name, failure in facts.failures.items()},
        "error": facts.error.text if facts.error else None,
        "hung_in": facts.hung_in,
    }


def draw(console: "Console", report: Report, *, wide: bool) -> None:
    """Print verdict, devices, findings, and what was not checked."""
    from aibrixctl.render import table_of

    _draw_verdict(console, report)
    if report.devices:
        console.print(table_of([_row(each, report, wide=wide) for each in report.devices]))
    for finding in report.findings:
        console.print()
        draw_finding(console, finding, wide=wide)
    if "active" in report.facts:
        draw_active(console, report.facts["active"])
    draw_unchecked(console, report, wide=wide)


def _draw_verdict(console: "Console", report: Report) -> None:
    found = verdict(report)
    faults = [finding for finding in report.findings if is_fault(finding)]
    text = {
        "healthy": f"Healthy: {report.passed} checks passed",
        "faults": f"{len(faults)} fault{'s' if len(faults) != 1 else ''} found",
        "unknown": "Not known: some checks could not run",
        "no_access": "No access to the driver",
    }[found]
    mark = "SIMULATED  " if report.simulated else ""
    console.print(f"{mark}{text}", style="bold green" if found == "healthy" else "bold red")


def _row(device: Device, report: Report, *, wide: bool) -> dict[str, Any]:
    values = _values(device, report)
    used, total = values.get("memory_used_bytes"), values.get("memory_total_bytes")
    power = values.get("power_mw")
    row = {
        "": f"{device.kind.upper()} {device.index}",
        "name": device.name,
        "PCI address": device.pci_bus_id,
        "°C": values.get("temperature_c"),
        "W": round(power / 1000) if power is not None else None,
        "use %": values.get("gpu_utilization_percent"),
        "memory": f"{used / 2**30:.1f}/{total / 2**30:.0f} GiB"
        if total and used is not None
        else None,
        "health": health(device, report),
    }
    return row | {"uuid": device.uuid, "serial": device.serial} if wide else row


_OF_NPU = {
    "gpu_utilization_percent": "aicore_utilization_percent",
    "memory_used_bytes": "hbm_used_bytes",
    "memory_total_bytes": "hbm_total_bytes",
}


def _values(device: Device, report: Report) -> Mapping[str, Any]:
    """Return the readings of a device, those of NPUs under the names of GPUs."""
    for facts in report.facts.values():
        if isinstance(facts, Mapping):
            continue
        for each in facts.devices:
            if each.device == device:
                values = dict(each.values)
                for name, of_npu in _OF_NPU.items():
                    values.setdefault(name, values.get(of_npu))
                return values
    return {}


def draw_finding(console: "Console", finding: Finding, *, wide: bool) -> None:
    """Print one finding: what, where, its readings, what to do."""
    severity = finding.severity
    console.print(
        f"{severity.upper():<9}{finding.code}  {_place(finding.device)}", style=STYLES[severity]
    )
    shown = {
        name: value
        for name, value in finding.evidence.items()
        if value is not None and (wide or name not in _WIDE_ONLY)
    }
    evidence = ", ".join(f"{name} {_text(value)}" for name, value in shown.items())
    first = finding.move_workload and not _MOVES.search(finding.action)
    for text in (
        finding.meaning,
        f"Evidence: {evidence}",
        f"What to do: {'Move the work away first. ' if first else ''}{finding.action}",
    ):
        _indented(console, text)


def _indented(console: "Console", text: str) -> None:
    """Print a paragraph whose every line is set in."""
    from rich.padding import Padding

    console.print(Padding(text, (0, 0, 0, 2), expand=False))


def _place(device: Device) -> str:
    if device.kind == "node" and device.name is None:
        return "node"
    known = (device.pci_bus_id, device.uuid)
    more = f" ({', '.join(part for part in known if part)})" if any(known) else ""
    index = "" if device.index is None else f" {device.index}"
    return (
        f"{device.name if device.kind in ('node', 'engine') else device.kind.upper()}{index}{more}"
    )


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return " ".join(f"{name} {_text(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(map(_text, value)) or "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)


def draw_unchecked(console: "Console", report: Report, *, wide: bool) -> None:
    """Print what was not checked, grouped by why; skips only in a number unless asked for."""
    groups: dict[tuple[bool, str], list[str]] = defaultdict(list)
    for each in report.unchecked:
        place = "" if each.device.kind == "node" else f" {_short(each.device)}"
        groups[each.skipped, each.reason].append(f"{each.check}{place}")
    for (skipped, reason), names in sorted(groups.items()):
        if not skipped or wide:
            label = "Skipped" if skipped else "NOT CHECKED"
            style = "" if skipped else "yellow"
            console.print(f"\n{label}: {reason}", style=style)
            _indented(console, ", ".join(names))
    skips = sum(each.skipped for each in report.unchecked)
    if skips and not wide:
        what = "1 check" if skips == 1 else f"{skips} checks"
        console.print(f"\n{what} skipped, for what the devices do not have (-o wide says why)")


def _short(device: Device) -> str:
    return f"{device.kind.upper()} {device.index}" if device.index is not None else device.kind
