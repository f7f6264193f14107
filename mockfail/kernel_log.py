"""Kernel-log lines as the NVIDIA driver writes them, in the form that ``dmesg`` prints.

Sources: NVIDIA's XID documentation (https://docs.nvidia.com/deploy/xid-errors/) and logs that
users of these cards published.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from accelerators.documents import write_errors
from mockfail.layer import LogLine

KMSG = Path("/dev/kmsg")
_KMSG_WARNING = "<4>"
_DETAILS = {
    13: "Graphics SM Warp Exception on (GPC 1, TPC 2, SM 0): Out Of Range Address",
    31: "Ch 00000008, intr 00000000. MMU Fault: ENGINE GRAPHICS GPCCLIENT_T1_3 faulted @ "
    "0x7f2a_4c000000. Fault is of type FAULT_PDE ACCESS_TYPE_VIRT_READ",
    43: "Ch 00000008",
    45: "Ch 00000008",
    48: "An uncorrectable double bit error (DBE) has been detected on GPU in the framebuffer at "
    "partition 6, subpartition 0.",
    62: "Internal micro-controller halt",
    63: "Row Remapper: New row (0x000000010e1f4000) marked for remapping, reset gpu to activate.",
    64: "Row Remapper: Failed to remap row (0x000000010e1f4000), no spare row is left in its bank.",
    74: "NVLink: fatal error detected on link 3(0x0, 0x0, 0x10000, 0x0, 0x0, 0x0, 0x0)",
    79: "GPU has fallen off the bus.",
    92: "High single-bit ECC error rate",
    94: "Contained: SM (0x1). RST: No, D-RST: No",
    95: "Uncontained: LTC TAG (0x2,0x0). RST: Yes, D-RST: No",
    119: "Timeout after 6s of waiting for RPC response from GPU0 GSP! Expected function 76 "
    "(GSP_RM_CONTROL) (0x20802a02 0x4).",
}
_AFTERWARDS = {79: "NVRM: GPU {pci}: GPU has fallen off the bus."}


def short_address(pci_bus_id: str) -> str:
    """Return an address as the driver's log has it, ``0000:18:00``, from NVML's form."""
    return pci_address(pci_bus_id).rpartition(".")[0]


def pci_address(pci_bus_id: str) -> str:
    """Return an address as Linux has it, ``0000:18:00.0``, from NVML's form."""
    domain, _, rest = pci_bus_id.lower().partition(":")
    return f"{int(domain or '0', 16):04x}:{rest}"


def xid_lines(
    xid: int,
    *,
    pci_bus_id: str,
    uuid: str,
    serial: str,
    detail: str | None = None,
    pid: int | None = None,
    process: str | None = None,
) -> list[str]:
    """Return what the driver logs of an XID: which GPU it is, then the XID itself.

    The driver writes the two lines that say which GPU it is once per GPU.
    """
    short = short_address(pci_bus_id)
    who = f"pid={pid}" if pid is not None else "pid='<unknown>'"
    name = process or ("<unknown>" if pid is None else "python3")
    what = detail or _DETAILS.get(xid, "Ch 00000008")
    lines = [
        *([f"NVRM: GPU at PCI:{short}: {uuid}"] if uuid else []),
        *([f"NVRM: GPU Board Serial Number: {serial}"] if serial else []),
        f"NVRM: Xid (PCI:{short}): {xid}, {who}, name={name}, {what}",
    ]
    if xid in _AFTERWARDS:
        lines.append(_AFTERWARDS[xid].format(pci=pci_address(pci_bus_id)))
    return lines


def identifies_gpu(text: str) -> bool:
    """Tell whether a line only says which GPU the next one is about."""
    return text.startswith(("NVRM: GPU at PCI:", "NVRM: GPU Board Serial Number:"))


def once_per_gpu(lines: Iterable[LogLine]) -> list[LogLine]:
    """Drop the lines that identify a GPU once more."""
    seen: set[str] = set()
    kept = []
    for line in lines:
        if identifies_gpu(line.text) and line.text in seen:
            continue
        seen.add(line.text)
        kept.append(line)
    return kept


def render(lines: Iterable[LogLine], started_s: float) -> str:
    """Return the text of a kernel log; ``started_s`` is seconds since boot."""
    return "".join(f"[{started_s + line.start_s:12.6f}] {line.text}\n" for line in lines)


def update(path: Path, text: str) -> None:
    """Make a file hold a text: by appending where that is enough, so that a reader can follow.

    Raises:
        ToolError: it can't be written.
    """
    with write_errors(path):
        data = text.encode()
        before = path.read_bytes() if path.exists() else b""
        if data == before and path.exists():
            return
        if before and data.startswith(before):
            with path.open("ab") as file:
                file.write(data[len(before) :])
            return
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_bytes(data)
        fresh.replace(path)


def write_kmsg(lines: Iterable[str], path: Path = KMSG) -> None:
    """Write lines to the machine's own kernel log, one record each; needs root.

    Raises:
        ToolError: it can't be written.
    """
    with write_errors(path):
        device = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            for line in lines:
                os.write(device, f"{_KMSG_WARNING}{line}\n".encode())
        finally:
            os.close(device)
