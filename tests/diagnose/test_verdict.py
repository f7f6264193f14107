import pytest

from diagnose.checks import Sign, finding
from diagnose.findings import Device, Finding, Report, Unchecked
from diagnose.verdict import health, verdict

GPU = Device("gpu", 0, uuid="GPU-0")
NODE = Device("node")
OPEN = Unchecked("fans", GPU, "NVML: Unknown Error", skipped=False)
SKIP = Unchecked("fans", GPU, "NVML: Not Supported", skipped=True)


def of(code: str, device: Device = GPU) -> Finding:
    return finding(Sign(code, {}), "some", device, {})


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (Report(), "healthy"),
        (Report(unchecked=(SKIP,)), "healthy"),
        (Report(findings=(of("NV-POWER-CAP"),)), "healthy"),
        (Report(unchecked=(SKIP, OPEN)), "unknown"),
        (Report(findings=(of("NV-POWER-CAP"),), unchecked=(OPEN,)), "unknown"),
        (Report(findings=(of("NV-FAN"),), unchecked=(OPEN,)), "faults"),
        (Report(findings=(of("NV-NO-PERMISSION", NODE),), unchecked=(OPEN,)), "no_access"),
        (Report(findings=(of("NV-NO-PERMISSION", NODE), of("NV-XID-79"))), "faults"),
    ],
)
def test_what_is_not_known_is_never_healthy(report: Report, expected: str) -> None:
    assert verdict(report) == expected


def test_the_health_of_a_device_is_the_worst_that_concerns_it() -> None:
    other = Device("gpu", 1)
    report = Report(findings=(of("NV-POWER-CAP"), of("NV-FAN", other)), unchecked=(OPEN,))
    assert health(GPU, report) == "unknown"
    assert health(other, report) == "degraded"
    assert health(GPU, Report(findings=(of("NV-POWER-CAP"),))) == "info"
    assert health(GPU, Report(findings=(of("NV-FAN"), of("NV-GPU-LOST")))) == "fatal"
    assert health(GPU, Report(unchecked=(SKIP,))) == "healthy"
