"""One torch device: time work on it, and see how much memory it has left."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_BATCH_S = 0.05
"""Calls are timed in batches of at least this long, which hides what a launch costs."""


class Bench:
    """A device of torch, of whatever kind.

    Attributes:
        torch: the module, which is imported in the child only.
        device: as torch names it.
    """

    def __init__(self, torch: Any, device: Any):
        self.torch = torch
        self.device = device
        self._module = getattr(torch, device.type)
        if device.type != "cpu":
            self._module.set_device(device)

    @property
    def is_cpu(self) -> bool:
        """Whether there is no accelerator to measure, only results to check."""
        return bool(self.device.type == "cpu")

    def sync(self) -> None:
        """Wait until all work is done; errors of the driver come out here."""
        self._module.synchronize(self.device)

    def empty(self, *shape: int, dtype: Any) -> Any:
        """Return an uninitialised tensor on the device."""
        return self.torch.empty(*shape, dtype=dtype, device=self.device)

    def put(self, tensor: Any, dtype: Any) -> Any:
        """Return a copy of a host tensor on the device."""
        return tensor.to(device=self.device, dtype=dtype, copy=True)

    def free_bytes(self) -> int:
        """Return what can be allocated."""
        if self.is_cpu:
            return _available_bytes()
        self._module.empty_cache()
        return int(self._module.mem_get_info(self.device)[0])

    def release(self) -> None:
        """Give freed memory back to the driver."""
        if not self.is_cpu:
            self._module.empty_cache()

    def seconds_per_call(self, work: Callable[[], Any], budget_s: float) -> float:
        """Return the median time of a call, measured in batches for about ``budget_s``."""
        self._timed(work, 1)  # loads kernels, and wakes clocks
        once_s = self._timed(work, 1)
        calls = max(1, int(_BATCH_S / max(once_s, 1e-7)))
        until_s = time.perf_counter() + budget_s
        times = [self._timed(work, calls)]
        while time.perf_counter() < until_s:
            times.append(self._timed(work, calls))
        return sorted(times)[len(times) // 2]

    def _timed(self, work: Callable[[], Any], calls: int) -> float:
        self.sync()
        started_s = time.perf_counter()
        for _ in range(calls):
            work()
        self.sync()
        return (time.perf_counter() - started_s) / calls


def _available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0
