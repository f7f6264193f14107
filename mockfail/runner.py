"""Become a command that runs under a mock of its own.

The command takes this process's place, so that its terminal, signals and exit status are its own;
the mock's guardian sees it end, however it does.
"""

import os
import shutil
import signal
import stat
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mockfail import environment, guardian, machine
from mockfail.environment import Command, Record
from mockfail.errors import MockUsageError
from mockfail.native import preload_environment

_HEAD_BYTES = 4096  # of an ELF file: its header, and the program headers behind it
_CLASS = 4
_MACHINE = slice(18, 20)
_PT_INTERP = 3


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


def out_of_reach(program: str | Path) -> str | None:
    """Return why a program will see nothing of a mock; None when it will, as far as one can tell.

    The loader preloads nothing into a program that it does not load, that runs with other rights,
    or that is made for another processor.
    """
    try:
        if _gains_rights(Path(program).stat()):
            return "setuid"
        with Path(program).open("rb") as file, Path(sys.executable).open("rb") as ours:
            return _out_of_reach(file.read(_HEAD_BYTES), ours.read(_HEAD_BYTES))
    except (OSError, IndexError, struct.error):
        return None


def _gains_rights(status: os.stat_result) -> bool:
    user = status.st_mode & stat.S_ISUID and status.st_uid != os.geteuid()
    group = status.st_mode & stat.S_ISGID and status.st_gid != os.getegid()
    return bool(user or group)


def _out_of_reach(head: bytes, ours: bytes) -> str | None:
    if not head.startswith(b"\x7fELF"):
        return None  # a script: its interpreter is a program of the system
    if head[_CLASS] != ours[_CLASS] or head[_MACHINE] != ours[_MACHINE]:
        return "made for another processor or word size"
    (table,) = struct.unpack_from("<Q", head, 32)
    size, count = struct.unpack_from("<HH", head, 54)
    kinds = {struct.unpack_from("<I", head, table + n * size)[0] for n in range(count)}
    return None if _PT_INTERP in kinds else "statically linked"


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
