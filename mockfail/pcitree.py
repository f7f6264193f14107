"""The PCI tree of a simulated node, as Linux shows it in sysfs.

A card that the driver lost or does not list stays in the tree: that is how one that is missing is
found.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from accelerators.documents import write_errors
from mockfail.kernel_log import pci_address
from mockfail.layer import holds
from mockfail.state import Node, Override, Value

_3D_CONTROLLER = "0x030200"  # PCI code and ID assignment
_VGA_CONTROLLER = "0x030000"
_PROCESSING_ACCELERATOR = "0x120000"
_GT_PER_S = {1: "2.5", 2: "5.0", 3: "8.0", 4: "16.0", 5: "32.0", 6: "64.0"}
"""Transfers per second and lane of a PCIe generation, as the kernel writes them."""

Readings = Mapping[str, Value]


def lay_out(
    node: Node, sysfs: Path, overrides: Iterable[Override] = (), moment_s: float = 0.0
) -> None:
    """Write ``bus/pci/devices/<address>/…`` for every card of a node; what is there is updated.

    Args:
        node: the healthy node.
        sysfs: the folder that stands for ``/sys``.
        overrides: what faults set: the links' width and generation show in the tree.
        moment_s: time since the mock's start, for overrides with a condition.

    Raises:
        ToolError: a file can't be written.
    """
    now = [each for each in overrides if holds(each.when, moment_s)]
    bus = sysfs / "bus" / "pci" / "devices"
    there = dict(_functions(node, now))
    for folder in bus.iterdir() if bus.is_dir() else ():
        if folder.name not in there:  # a card that had another address
            shutil.rmtree(folder, ignore_errors=True)
    for address, files in there.items():
        folder = bus / address
        with write_errors(str(folder)):
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                _replace(folder / name, f"{text}\n")


def _functions(node: Node, overrides: list[Override]) -> Iterator[tuple[str, dict[str, str]]]:
    for index, gpu in enumerate(node.gpus):
        now = dict(gpu.values) | _changes("gpu", index, overrides)
        yield pci_address(str(now["pci_bus_id"])), _gpu(now)
    for index, npu in enumerate(node.npus):
        now = dict(npu) | _changes("npu", index, overrides)
        yield pci_address(str(now["pci_bus_id"])), _npu(npu, now)


def _changes(scope: str, index: int, overrides: list[Override]) -> dict[str, Value]:
    return {
        each.name: each.value for each in overrides if (each.scope, each.index) == (scope, index)
    }


def _gpu(now: Readings) -> dict[str, str]:
    class_ = _VGA_CONTROLLER if now["display_active"] else _3D_CONTROLLER
    return (
        {"class": class_, "numa_node": str(now["numa_node"])}
        | _ids("", now["pci_device_id"])
        | _ids("subsystem_", now["pci_subsystem_id"])
        | _link("current", now["pcie_width_current"], now["pcie_generation_current"])
        | _link("max", now["pcie_width_max"], now["pcie_generation_max"])
    )


def _npu(healthy: Readings, now: Readings) -> dict[str, str]:
    return (
        {"class": _PROCESSING_ACCELERATOR, "numa_node": "-1"}
        | _ids("", now["pcie_device_id"])
        | _link("current", now["pcie_width_current"], now["pcie_generation_current"])
        | _link("max", healthy["pcie_width_current"], healthy["pcie_generation_current"])
    )


def _ids(prefix: str, both: Value) -> dict[str, str]:
    number = int(both)
    return {
        f"{prefix}vendor": f"0x{number & 0xFFFF:04x}",
        f"{prefix}device": f"0x{number >> 16 & 0xFFFF:04x}",
    }


def _link(which: str, width: Value, generation: Value) -> dict[str, str]:
    speed = _GT_PER_S.get(int(generation))
    return {
        f"{which}_link_width": str(max(0, int(width))),
        f"{which}_link_speed": f"{speed} GT/s PCIe" if speed else "Unknown",
    }


def _replace(path: Path, text: str) -> None:
    """Write a file whole: a reader never finds it empty."""
    if path.exists() and path.read_text() == text:
        return
    made = path.with_name(f".{path.name}.{os.getpid()}")
    made.write_text(text)
    made.replace(path)
