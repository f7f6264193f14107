"""A limit on the rate of a migration, kept over any stretch of a second or more."""

import threading
import time
from typing import Final

_CREDIT_S: Final = 0.04
"""How late a sender may be and still catch up: threads wake up late, above all on busy cores."""


class Pace:
    """Tells those who move bytes how long to wait first; shared by all lanes.

    What was not used is not saved up beyond that, so that a stall is not followed by a burst.

    Args:
        bytes_per_s: the limit; None: none.
    """

    def __init__(self, bytes_per_s: float | None):
        self._rate = bytes_per_s
        self._lock = threading.Lock()
        self._free_at_s = 0.0

    def wait(self, count: int, stop: threading.Event) -> None:
        """Wait until ``count`` more bytes may leave, or until ``stop`` is set."""
        if self._rate is None:
            return
        with self._lock:
            now = time.monotonic()
            free_s = self._free_at_s or now
            end = self._free_at_s = max(now - _CREDIT_S, free_s) + count / self._rate
        # Waiting for the end of its own share keeps the first batch within the limit too.
        stop.wait(end - now)
