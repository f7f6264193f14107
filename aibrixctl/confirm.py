"""Ask before something is changed: on a terminal a person, without one only ``--yes``."""

import sys
from typing import Annotated

import typer

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before changing anything.")]


def confirmed(question: str, *, yes: bool) -> bool | None:
    """Return the answer; None where there is nobody to ask.

    Args:
        question: that is asked on stderr, so that stdout holds data only.
        yes: it was answered on the command line.
    """
    from aibrixctl.command import session

    if yes:
        return True
    if session().no_input or not sys.stdin.isatty():
        return None
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
