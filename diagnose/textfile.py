"""A report as a Prometheus text file, for node-exporter's textfile collector.

Metrics are gauges of the last round; a finding that is over has no sample any more.
"""

from collections.abc import Iterator, Mapping

from diagnose.findings import Device, Report
from diagnose.verdict import verdict

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def render(report: Report | None, *, finished_at_s: float, took_s: float) -> str:
    """Return the text of the file.

    Args:
        report: None where there was no accelerator at all: then nothing is healthy.
        finished_at_s: Unix time at the end of the round.
        took_s: wall time of the round.
    """
    return "\n".join(_lines(report, finished_at_s, took_s)) + "\n"


def _lines(report: Report | None, finished_at_s: float, took_s: float) -> Iterator[str]:
    healthy = report is not None and verdict(report) == "healthy"
    yield from _metric("healthy", "1 when every check that applies ran and found no fault.")
    yield _sample("healthy", {}, int(healthy))
    yield from _metric("devices", "Accelerators that the driver lists, by kind.")
    for kind in ("gpu", "npu"):
        number = sum(device.kind == kind for device in report.devices) if report else 0
        yield _sample("devices", {"kind": kind}, number)
    yield from _metric("unchecked", "Checks that should have run and could not.")
    unchecked = sum(not each.skipped for each in report.unchecked) if report else 0
    yield _sample("unchecked", {}, unchecked)
    yield from _metric("finding", "1 for each finding there is.")
    seen: set[str] = set()
    for finding in report.findings if report else ():
        labels = {"code": finding.code, "severity": finding.severity, **_device(finding.device)}
        line = _sample("finding", labels, 1)
        if line not in seen:  # the same series twice would spoil the whole file
            seen.add(line)
            yield line
    yield from _metric("simulated", "1 when a mock was diagnosed.")
    yield _sample("simulated", {}, int(report is not None and report.simulated))
    yield from _metric("last_run_timestamp_seconds", "When the round ended.")
    yield _sample("last_run_timestamp_seconds", {}, round(finished_at_s, 3))
    yield from _metric("last_run_duration_seconds", "How long the round took.")
    yield _sample("last_run_duration_seconds", {}, round(took_s, 3))


def _metric(name: str, about: str) -> tuple[str, str]:
    return (
        f"# HELP aibrixctl_diagnose_{name} {about}",
        f"# TYPE aibrixctl_diagnose_{name} gauge",
    )


def _device(device: Device) -> dict[str, str]:
    return {
        "kind": device.kind,
        "index": "" if device.index is None else str(device.index),
        "uuid": device.uuid or "",
        "pci_bus_id": device.pci_bus_id or "",
    }


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    written = ",".join(f'{key}="{text.translate(_ESCAPES)}"' for key, text in labels.items())
    return f"aibrixctl_diagnose_{name}{'{' + written + '}' if written else ''} {value}"
