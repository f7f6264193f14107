"""Child processes that run one of our modules and talk over a pipe."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection

_PR_SET_PDEATHSIG = 1


def start(
    module: str, *words: str, environment: Mapping[str, str] | None = None
) -> tuple[subprocess.Popen[bytes], Connection]:
    """Start ``python -m module FD WORDS…`` and return the process and our end of the pipe.

    FD is the child's end. Nothing else joins the two: no standard streams, and no process group,
    so that Ctrl-C is for us and we end the child ourselves. A folder of the module's name where
    the user stands is not taken for it. The child has our environment unless it is given its own.
    """
    ours, theirs = Pipe()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(theirs.fileno()), *words],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=None if environment is None else dict(environment),
        )
    return process, ours


def end_with(parent: int) -> None:
    """Ask Linux, in a child, to kill it when the thread that started it ends, however it does.

    A child that only listens at its pipe needs no such thing: it hears of that end.
    """
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
