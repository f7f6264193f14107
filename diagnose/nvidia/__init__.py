"""NVIDIA GPUs: the checks, and which of their findings another one explains."""

from collections.abc import Mapping

from diagnose.checks import Check
from diagnose.nvidia import driver, kernel, links, memory, peers, thermal

CHECKS: tuple[Check, ...] = (
    *driver.CHECKS,
    *kernel.CHECKS,
    *memory.CHECKS,
    *links.CHECKS,
    *thermal.CHECKS,
    *peers.CHECKS,
)

_DRIVER = frozenset(
    {
        "NV-DRIVER-NOT-LOADED",
        "NV-LIBRARY-MISSING",
        "NV-DRIVER-MISMATCH",
        "NV-NO-PERMISSION",
        "NV-DRIVER-ERROR",
        "DRIVER-HANG",
    }
)
_HEAT = frozenset({"NV-THERMAL-SLOWDOWN", "NV-FAN"})
_SLOWDOWNS = _HEAT | {"NV-POWER-BRAKE", "NV-HW-SLOWDOWN", "NV-TEMPERATURE"}
_MEMORY = frozenset(
    {
        "NV-ECC-UNCORRECTABLE",
        "NV-ECC-SRAM",
        "NV-ROW-REMAP-PENDING",
        "NV-ROW-REMAP-FAILURE",
        "NV-ROW-REMAP-EXHAUSTED",
        "NV-RETIRED-PAGES-PENDING",
    }
)

CAUSES: Mapping[str, frozenset[str]] = {
    "NV-GPU-COUNT": _DRIVER,
    "NV-NVRM": _DRIVER | {"NV-GPU-LOST", "NV-GPU-RESET-REQUIRED", "NV-GPU-ERROR", "NV-GPU-COUNT"},
    "NV-THERMAL-SLOWDOWN": frozenset({"NV-FAN"}),
    "NV-TEMPERATURE": _HEAT,
    "NV-CLOCKS-LOW": _SLOWDOWNS,
    "NV-OUTLIER": _SLOWDOWNS | {"NV-CLOCKS-LOW"},
    "NV-NVLINK-DOWN": frozenset({"NV-FABRIC-NOT-READY"}),
    "NV-ECC-UNCORRECTABLE-AGGREGATE": _MEMORY | {"NV-RETIRED-PAGES-DBE"},
    "NV-ROW-REMAP-EXHAUSTED": frozenset({"NV-ROW-REMAP-FAILURE"}),
    "NV-RECOVERY-ACTION": _MEMORY | {"NV-NVLINK-DOWN", "NV-FABRIC-NOT-READY"},
    "NV-ECC-MODE-DRIFT": frozenset({"NV-ECC-MODE-PENDING"}),
    "NV-MEMORY-LEAK": frozenset({"NV-ZOMBIE-PROCESS"}),
}
"""Consequence to the findings that explain it, on the same device or on the whole node."""
