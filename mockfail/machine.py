"""The machine that a mock runs on: its clock, its boot, its processes, its accelerators."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from accelerators.errors import UsageError
from accelerators.mocked import VARIABLE
from mockfail.nodes import node as simulated
from mockfail.state import Mode, Node

_SYS = Path("/sys")
_WSL_DRIVER = Path("/usr/lib/wsl/lib/libnvidia-ml.so.1")
_NVIDIA, _HUAWEI = "0x10de", "0x19e5"
_DISPLAY, _ACCELERATOR = "0x03", "0x12"  # base classes of PCI functions


def now_s() -> float:
    """Return the clock by which mocks count: seconds since boot, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Return what tells this boot from others; in a container without it, nothing."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def start_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None when it has ended.

    With its number it names a process for good, as numbers come round again.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])


def lives(pid: int, ticks: int) -> bool:
    """Tell whether the process that started then still runs."""
    return start_ticks(pid) == ticks


def processes_under(folder: Path) -> Iterator[int]:
    """Yield the processes that were started under the mock in a folder, as far as we may see."""
    mark = f"{VARIABLE}={folder}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if mark in environment.split(b"\0") and start_ticks(int(entry.name)) is not None:
            yield int(entry.name)


def addresses(sysfs: Path = _SYS) -> dict[str, list[str]]:
    """Return the PCI addresses of the real accelerators, by ``gpu`` and ``npu``, in bus order."""
    found: dict[str, list[str]] = {"gpu": [], "npu": []}
    devices = sysfs / "bus" / "pci" / "devices"
    for folder in sorted(devices.iterdir()) if devices.is_dir() else ():
        try:
            vendor = (folder / "vendor").read_text().strip()
            class_ = (folder / "class").read_text().strip()
        except OSError:
            continue
        if vendor == _NVIDIA and class_.startswith(_DISPLAY):
            found["gpu"].append(folder.name)
        elif vendor == _HUAWEI and class_.startswith(_ACCELERATOR):
            found["npu"].append(folder.name)
    return found


def resolve(mode: Mode, *, node_given: bool, sysfs: Path = _SYS) -> Mode:
    """Return the mode that suits this machine: an overlay only where there is something to overlay.

    A node that was asked for is simulated, also beside real devices.

    Raises:
        UsageError: an overlay was asked for, and there is nothing to lay faults over.
    """
    if mode == "standalone":
        return mode
    real = any(addresses(sysfs).values()) or _WSL_DRIVER.exists()
    if mode == "overlay":
        if real:
            return mode
        raise UsageError(
            "mock.no_devices",
            "--mode overlay: there is no NVIDIA or Ascend device to lay faults over",
            hint="--mode standalone simulates a node",
        )
    return "auto" if real and not node_given else "standalone"


def node(spec: str, mode: Mode, sysfs: Path = _SYS) -> Node:
    """Return a healthy node; over real devices, as many as there are, at their addresses.

    Raises:
        UsageError: ``spec`` names no node.
    """
    made = simulated(spec)
    if mode == "standalone":
        return made
    real = addresses(sysfs)
    gpus = tuple(
        replace(
            made.gpus[index % len(made.gpus)],
            # The driver alone knows the real ones, and lines of the log leave them out.
            values=made.gpus[index % len(made.gpus)].values
            | {"pci_bus_id": _nvml_address(address), "uuid": "", "serial": ""},  # type: ignore[operator]
        )
        for index, address in enumerate(real["gpu"] if made.gpus else ())
    )
    npus = tuple(
        {**made.npus[index % len(made.npus)], "pci_bus_id": _nvml_address(address)}
        for index, address in enumerate(real["npu"] if made.npus else ())
    )
    return replace(made, gpus=gpus or made.gpus, npus=npus or made.npus)


def _nvml_address(address: str) -> str:
    domain, _, rest = address.partition(":")
    return f"{int(domain, 16):08X}:{rest.upper()}"
