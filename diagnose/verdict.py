"""What a report comes to."""

from typing import Literal

from diagnose.findings import SEVERITIES, Device, Finding, Report, Severity

Verdict = Literal["healthy", "faults", "unknown", "no_access"]

_NO_ACCESS = ("NV-NO-PERMISSION", "ASCEND-NO-PERMISSION")


def is_fault(finding: Finding) -> bool:
    """Tell whether a finding is more than information."""
    return finding.severity != "info"


def verdict(report: Report) -> Verdict:
    """Return the verdict: what is not known is never healthy.

    ``faults`` goes before ``no_access``, and that before ``unknown``: some check that should have
    run could not.
    """
    faults = [finding for finding in report.findings if is_fault(finding)]
    if any(finding.code not in _NO_ACCESS for finding in faults):
        return "faults"
    if faults:
        return "no_access"
    if any(not each.skipped for each in report.unchecked):
        return "unknown"
    return "healthy"


def health(device: Device, report: Report) -> Severity | Literal["healthy", "unknown"]:
    """Return the worst that was found on a device; ``unknown`` where a check could not run."""
    worst = [f.severity for f in report.findings if same_device(f.device, device)]
    faults = [severity for severity in worst if severity != "info"]
    if faults:
        return max(faults, key=SEVERITIES.index)
    if any(not each.skipped and same_device(each.device, device) for each in report.unchecked):
        return "unknown"
    return "info" if worst else "healthy"


def same_device(one: Device, other: Device) -> bool:
    """Tell whether two descriptions are of one device, though one may know less of it."""
    return one.kind == other.kind and one.index == other.index
