"""Become a command that runs under a mock of its own.

The command takes this process's place, so that its terminal, signals and exit status are its own;
the mock's guardian sees it end, however it does.
"""

import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mockfail import environment, guardian, machine
from mockfail.environment import Command, Record
from mockfail.errors import MockUsageError
from mockfail.native import preload_environment


def find(word: str) -> str:
    """Return the file that a command's first word means.

    Raises:
        MockUsageError: there is none that may be run.
    """
    found = shutil.which(word)
    if found is None:
        there = Path(word).exists() and "/" in word
        raise MockUsageError(
            "mock.command",
            f"{word}: not a program that may be run" if there else f"{word}: command not found",
            hint="it is looked for on PATH, as a shell does",
            target=word,
        )
    return found


def this_process(words: Sequence[str]) -> Command:
    """Return what will be the command: this process."""
    ticks = machine.start_ticks(os.getpid())
    assert ticks is not None
    return Command(os.getpid(), ticks, tuple(words))


def become(folder: Path, record: Record, program: str, words: Sequence[str]) -> NoReturn:
    """Make the mock and run the command in this process's place.

    Raises:
        MockUsageError: the system can't run it; the mock is removed again.
        MockError: there are no native libraries.
        ToolError: the mock can't be made.
    """
    variables = {**os.environ, **preload_environment(folder)}
    environment.create(folder, record)
    try:
        guardian.start(folder)
        sys.stdout.flush()
        sys.stderr.flush()
        # Python ignores these two; a command expects them as they are by default.
        for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(ignored, signal.SIG_DFL)
        os.execve(program, list(words), variables)
    except OSError as error:
        raise MockUsageError(
            "mock.command", f"{words[0]} can't be run: {error.strerror}", target=words[0]
        ) from error
    finally:
        environment.remove(folder)
