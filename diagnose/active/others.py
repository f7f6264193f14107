"""What NVML says of a GPU that torch can't: who else uses it, its place, its host link's best."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

_HIDDEN_BYTES = 2 * 2**30
"""More memory in use than this, with no process in sight, belongs to one that a container hides:
the driver and a context of our own take less."""


def look(uuid: str | None, pci_bus_id: str | None) -> dict[str, Any]:
    """Return what NVML knows of a GPU.

    Keys, each absent where NVML can't tell: ``others`` (why the device isn't ours alone, or None),
    ``index``, ``serial``, ``pci_bus_id``, and of the card in its slot ``pcie_generation_max`` and
    ``pcie_width_max``.
    """
    found: dict[str, Any] = {}
    try:
        import pynvml

        with _opened(pynvml):
            handle = (
                pynvml.nvmlDeviceGetHandleByUUID(uuid)
                if uuid
                else pynvml.nvmlDeviceGetHandleByPciBusId(pci_bus_id or "")
            )
            for name, ask in (
                ("others", lambda: _others(pynvml, handle)),
                ("index", lambda: pynvml.nvmlDeviceGetIndex(handle)),
                ("serial", lambda: pynvml.nvmlDeviceGetSerial(handle)),
                ("pci_bus_id", lambda: _address(pynvml, handle)),
                ("pcie_generation_max", lambda: pynvml.nvmlDeviceGetMaxPcieLinkGeneration(handle)),
                ("pcie_width_max", lambda: pynvml.nvmlDeviceGetMaxPcieLinkWidth(handle)),
            ):
                with contextlib.suppress(pynvml.NVMLError):
                    found[name] = ask()
    except Exception:
        # No NVML, or one that can't find the device: torch has the last word on it.
        return found
    return found


@contextlib.contextmanager
def _opened(pynvml: Any) -> Iterator[None]:
    pynvml.nvmlInit()
    try:
        yield
    finally:
        pynvml.nvmlShutdown()


def _address(pynvml: Any, handle: Any) -> str:
    found: bytes | str = pynvml.nvmlDeviceGetPciInfo(handle).busId
    return found if isinstance(found, str) else found.decode()


def _others(pynvml: Any, handle: Any) -> str | None:
    processes = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    pids = sorted({process.pid for process in processes} - {os.getpid()})
    if pids:
        return f"processes {', '.join(map(str, pids))} use it"
    used = int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)
    if used > _HIDDEN_BYTES and not processes:
        return f"{used / 2**30:.1f} GiB of its memory are in use by no process in sight"
    return None
