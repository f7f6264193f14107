"""A timer that wakes an event loop on time.

The loop's own timers round to a millisecond. A Linux timerfd takes an absolute deadline on the
monotonic clock and wakes the loop within about 0.1 ms of it, without spinning.
"""

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable

_MONOTONIC, _NONBLOCK_CLOEXEC, _ABSOLUTE = 1, 0o2004000, 1


class _Itimerspec(ctypes.Structure):
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class Timer:
    """Calls ``callback`` once per :meth:`arm`, at a time of ``time.monotonic``."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]):
        self._loop = loop
        self._callback = callback
        self._fd = -1
        self._handle: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._fd = self._libc.timerfd_create(_MONOTONIC, _NONBLOCK_CLOEXEC)
        if self._fd >= 0:
            loop.add_reader(self._fd, self._fired)

    def arm(self, deadline: float) -> None:
        """Set the time of the next call, instead of any earlier one."""
        self._deadline = deadline
        if self._fd >= 0:
            # A value of zero would disarm the timer; the past fires at once.
            nanoseconds = max(1, int(deadline * 1e9))
            value = _Itimerspec(0, 0, *divmod(nanoseconds, 1_000_000_000))
            self._libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(value), None)
            return
        if self._handle is not None:
            self._handle.cancel()
        delay = max(0.0, deadline - time.monotonic())
        self._handle = self._loop.call_later(delay, self._woke)

    def _fired(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return
        self._callback()

    def _woke(self) -> None:
        if time.monotonic() < self._deadline:
            self.arm(self._deadline)
        else:
            self._callback()

    def close(self) -> None:
        """Disarm the timer for good."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        if self._handle is not None:
            self._handle.cancel()
