"""Facts as a reader would give them, for checks that are tried without a driver."""

from typing import Any

from diagnose.checks import Context, Outcome, run_checks
from diagnose.facts import DeviceFacts, Facts, Failure
from diagnose.families import FAMILIES
from diagnose.findings import Device

NVIDIA = next(family for family in FAMILIES if family.name == "nvidia")
UNSUPPORTED = Failure("not_supported", "NVML: Not Supported", 3)
BUSES = ("1b", "43", "52", "61", "9d", "c3", "d1", "df")


def gpu(
    index: int = 0,
    *,
    name: str = "NVIDIA H100 80GB HBM3",
    failures: dict[str, Failure] | None = None,
    error: Failure | None = None,
    hung_in: str | None = None,
    **values: Any,
) -> DeviceFacts:
    device = Device("gpu", index, name, f"GPU-{index}", f"00000000:{BUSES[index].upper()}:00.0")
    if error is not None or hung_in is not None:
        device = Device("gpu", index)
    return DeviceFacts(values, failures or {}, device=device, error=error, hung_in=hung_in)


def facts(*gpus: DeviceFacts, **more: Any) -> Facts:
    return Facts(more.pop("values", {}), family="nvidia", devices=gpus, **more)


def judge(read: Facts, *checks: str, context: Context | None = None) -> Outcome:
    """Run the named checks, or all, as a diagnosis does."""
    chosen = [check for check in NVIDIA.checks if not checks or check.name in checks]
    assert {check.name for check in chosen} >= set(checks)
    return run_checks(chosen, read, context or Context(), {}, NVIDIA.causes)


def found(
    read: Facts, *checks: str, context: Context | None = None
) -> list[tuple[str, int | None]]:
    """Return code and device of every finding."""
    outcome = judge(read, *checks, context=context)
    return [(finding.code, finding.device.index) for finding in outcome.findings]
