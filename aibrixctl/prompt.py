"""Questions to whoever sits at the terminal."""

import os
import select
import sys
import threading
from typing import Annotated

import typer

from aibrixctl.command import session

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before changing anything.")]

_LOOK_S = 0.1
"""How often a question looks whether a signal has come, which does not end a read."""


def can_ask() -> bool:
    """Tell whether there is a terminal to ask and answer at, and asking is not forbidden."""
    has_terminal = sys.stdin.isatty() and sys.stderr.isatty()
    return has_terminal and not session().no_input and _is_in_foreground()


def _is_in_foreground() -> bool:
    """Tell whether what is typed comes here; a shell's background job is stopped when it reads."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError:  # the terminal is not the one that controls us
        return True


def agrees(question: str, stop: threading.Event) -> bool:
    """Ask once, on stderr; return whether the answer is yes.

    Where nobody can be asked, at the end of the input, and when ``stop`` is set meanwhile, it is
    no.
    """
    if not can_ask():
        return False
    session().reporter.ask(f"{question} [y/N] ")
    while not select.select([sys.stdin], [], [], _LOOK_S)[0]:
        if stop.is_set():
            session().reporter.line("")
            return False
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def confirmed(question: str, stop: threading.Event, *, yes: bool) -> bool | None:
    """Return whether to go on; None where there is nobody to ask.

    Args:
        question: that is asked.
        stop: as for ``agrees``.
        yes: it was answered on the command line.
    """
    if yes or not can_ask():
        return yes or None
    return agrees(question, stop)
