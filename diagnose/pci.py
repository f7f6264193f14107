"""Accelerators on the PCI bus, as sysfs lists them, whether a driver sees them or not."""

import re
from dataclasses import dataclass
from pathlib import Path

_ADDRESS = re.compile(r"^[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$")
_VENDORS = {"nvidia": 0x10DE, "ascend": 0x19E5}
# PCI code and ID assignment: VGA controller, 3D controller; processing accelerator.
_CLASSES = {"nvidia": (0x0300, 0x0302), "ascend": (0x1200,)}


@dataclass(frozen=True)
class PciFunction:
    """One function on the bus.

    Attributes:
        address: in the kernel's form, such as ``0000:18:00.0``.
        vendor, device: PCI ids.
        upstream: the bridges between it and the root, as addresses.
        width, width_max: lanes of its link now, and what card and slot can have; None where the
            kernel doesn't tell.
    """

    address: str
    vendor: int
    device: int
    upstream: tuple[str, ...] = ()
    width: int | None = None
    width_max: int | None = None


def accelerators(family: str, sysfs: Path) -> tuple[PciFunction, ...] | None:
    """Return the accelerators of a family by address; None where there is no PCI tree to read.

    Left out are other functions of a card, such as audio, and cards that were given to a virtual
    machine: they are not for this system's driver.
    """
    folder = sysfs / "bus" / "pci" / "devices"
    try:
        addresses = sorted(path.name for path in folder.iterdir())
    except OSError:
        return None
    found = []
    for address in addresses:
        path = folder / address
        vendor, class_ = _number(path / "vendor"), _number(path / "class")
        if vendor != _VENDORS[family] or class_ >> 8 not in _CLASSES[family]:
            continue
        if not _passed_through(path):
            found.append(
                PciFunction(
                    address,
                    vendor,
                    device=_number(path / "device"),
                    upstream=_upstream(path),
                    width=_lanes(path / "current_link_width"),
                    width_max=_lanes(path / "max_link_width"),
                )
            )
    return tuple(found)


def address_of(bus_id: str) -> str:
    """Return the kernel's form of an address that a driver wrote.

    ``00000000:18:00.0``, ``0000:18:00`` and ``18:00.0`` all are ``0000:18:00.0``.
    """
    device, _, function = bus_id.lower().partition(".")
    parts = device.split(":")
    if len(parts) == 2:
        parts.insert(0, "0")
    try:
        domain, bus, slot = (int(part, 16) for part in parts)
    except ValueError:
        return bus_id.lower()
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function or '0'}"


def _passed_through(path: Path) -> bool:
    try:
        return (path / "driver").readlink().name in ("vfio-pci", "pci-stub", "xen-pciback")
    except OSError:
        return False


def _upstream(path: Path) -> tuple[str, ...]:
    """Return the bridges on the way that the link of a device takes through the tree."""
    parts = path.resolve().parts[:-1]
    return tuple(part for part in parts if _ADDRESS.match(part))


def _number(path: Path) -> int:
    """Return a number of sysfs; 0 where it can't be read, which no vendor and no class has."""
    try:
        return int(path.read_text(), 16)
    except (OSError, ValueError):
        return 0


def _lanes(path: Path) -> int | None:
    """Return a link's width; None without one, for which the kernel writes 0 or 255."""
    try:
        lanes = int(path.read_text())
    except (OSError, ValueError):
        return None
    return lanes if 0 < lanes <= 32 else None
