"""The parent's side of a vineyard daemon: a child with a deadline (``kvpool.vineyard_child``)."""

import os
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accelerators import children
from kvpool.errors import KvPoolError, PoolUnreachableError
from kvpool.url import PoolUrl

EXTRA = "pip install 'aibrixctl[vineyard]'"
LIST_S = 60.0
"""For how long a daemon may keep silent over a list of everything."""
_START_S = 60.0
"""For how long the child may stand still while it loads the package."""
_LOOK_S = 0.5
_ENDED = "the process that asks it has ended"
_TICKS = slice(11, 13)
"""CPU time in user and system mode, in the fields of ``/proc/PID/stat`` behind the name."""


class Client:
    """A connected child.

    A call fails when nothing has come for its limit, and the child has computed nothing: a long
    answer takes it long to read.
    """

    def __init__(self, url: PoolUrl, timeout_s: float):
        """Start the child and have it connect.

        Raises:
            KvPoolError: the package is not installed.
            PoolUnreachableError: the daemon refuses, or keeps silent.
        """
        if find_spec("vineyard") is None:
            raise _lacking("")
        self._url = url
        self._timeout_s = timeout_s
        self._process, self._pipe = children.start(
            "kvpool.vineyard_child", url.path, str(os.getpid())
        )
        try:
            self._answer(_START_S)
            self._answer(timeout_s)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the child, whatever it waits for; the daemon takes that for a good-bye."""
        self._pipe.close()
        self._process.kill()
        self._process.wait()

    def ask(self, name: str, *arguments: Any, limit_s: float = 0.0) -> Any:
        """Return what a method of ``kvpool.vineyard_child.Daemon`` does.

        Args:
            name: of the method.
            arguments: for it.
            limit_s: for which silence is allowed, where that is more than usual.

        Raises:
            KvPoolError: the daemon refuses.
            PoolUnreachableError: it has gone, or keeps silent.
        """
        if self._pipe.closed:
            raise self._gone("it kept silent before")
        try:
            self._pipe.send((name, *arguments))
        except OSError as error:
            raise self._gone(_ENDED) from error
        return self._answer(max(self._timeout_s, limit_s))

    def _answer(self, limit_s: float) -> Any:
        self._wait(limit_s)
        try:
            kind, *content = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise self._gone(_ENDED) from error
        if kind == "ok":
            return content[0]
        code, text = content
        if code == "package":
            raise _lacking(f" ({text})")
        if code == "unreachable":
            raise self._gone(text)
        raise KvPoolError(
            "kv.vineyard.failed", f"vineyard at {self._url.path}: {text}", target=str(self._url)
        )

    def _wait(self, limit_s: float) -> None:
        """Wait for an answer for as long as it may take."""
        worked, until_s = -1, 0.0
        while not self._pipe.poll(_LOOK_S):
            if worked != (worked := self._worked()):
                until_s = time.monotonic() + limit_s
            elif time.monotonic() >= until_s:
                self.close()
                raise self._gone(f"it has kept silent for {limit_s:g} s")

    def _worked(self) -> int:
        """Return the child's CPU time so far."""
        try:
            text = Path(f"/proc/{self._process.pid}/stat").read_text()
        except OSError:
            return 0
        return sum(map(int, text.rpartition(")")[2].split()[_TICKS]))

    def _gone(self, reason: str) -> PoolUnreachableError:
        return PoolUnreachableError(
            "kv.vineyard.unreachable",
            f"no vineyard daemon answers at {self._url.path}: {reason}",
            hint="see whether vineyardd still runs, and is not stopped or swapped out",
            target=str(self._url),
        )


def _lacking(what: str) -> KvPoolError:
    return KvPoolError(
        "kv.vineyard.package",
        f"vineyard takes its package, which is not installed{what}",
        hint=EXTRA,
    )
