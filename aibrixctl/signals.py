"""SIGINT and SIGTERM: the first asks a command to stop and report, the second ends it at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from aibrixctl.exit_codes import ExitCode

_CODES = {signal.SIGINT: ExitCode.SIGINT, signal.SIGTERM: ExitCode.SIGTERM}


class StopFlag(threading.Event):
    """Set by the first signal; libraries take it as a plain ``threading.Event``."""

    exit_code: ExitCode = ExitCode.OK


class Interrupted(BaseException):
    """A signal arrived where no command was ready to stop by itself."""

    def __init__(self, code: ExitCode):
        super().__init__(code.name)
        self.code = code


def raise_interrupted(signum: int, frame: FrameType | None) -> None:
    """Handle a signal by unwinding to the entry point."""
    raise Interrupted(_CODES[signal.Signals(signum)])


def install() -> None:
    """Make both signals unwind to the entry point until a command takes them over."""
    for signum in _CODES:
        signal.signal(signum, raise_interrupted)


@contextmanager
def interruptible() -> Iterator[StopFlag]:
    """Turn the first signal into a set flag for the block, so that it can end with a result."""
    flag = StopFlag()

    def handle(signum: int, frame: FrameType | None) -> None:
        code = _CODES[signal.Signals(signum)]
        if flag.is_set():
            os._exit(code)
        flag.exit_code = code
        flag.set()

    before: dict[signal.Signals, Any] = {s: signal.signal(s, handle) for s in _CODES}
    try:
        yield flag
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
