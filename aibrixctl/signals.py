"""SIGINT and SIGTERM: the first asks a command to stop and report, the second ends it at once.

A second one leaves what the command would have cleaned up.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

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


_last_words: Callable[[ExitCode], object] | None = None


def install(last_words: Callable[[ExitCode], object]) -> None:
    """Make both signals unwind to the entry point until a command takes them over.

    Args:
        last_words: called before the process ends at a second signal.
    """
    global _last_words  # noqa: PLW0603 - one command runs per process
    _last_words = last_words
    for signum in _CODES:
        signal.signal(signum, raise_interrupted)


def _end_at_once(code: ExitCode) -> NoReturn:
    for signum in _CODES:  # A third one does not wait for a full pipe either.
        signal.signal(signum, signal.SIG_DFL)
    try:
        if _last_words is not None:
            _last_words(code)
    finally:
        os._exit(code)


@contextmanager
def interruptible() -> Iterator[StopFlag]:
    """Turn the first signal into a set flag for the block, so that it can end with a result."""
    flag = StopFlag()

    def handle(signum: int, frame: FrameType | None) -> None:
        code = _CODES[signal.Signals(signum)]
        if flag.is_set():
            _end_at_once(code)
        flag.exit_code = code
        flag.set()

    before: dict[signal.Signals, Any] = {s: signal.signal(s, handle) for s in _CODES}
    try:
        yield flag
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
