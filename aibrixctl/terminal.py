"""The two streams: stdout carries results, stderr carries everything else."""

import io
import os
import select
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from aibrixctl.secret import redact

if TYPE_CHECKING:
    from rich.console import Console

_UNLIMITED = 10_000
"""Columns when nobody looks, or asked for wide output: tables are never cut or wrapped."""


def console(stream: IO[str], into: IO[str] | None = None, *, unlimited: bool = False) -> "Console":
    """Return a console that draws for a stream, and writes there or ``into`` a buffer.

    ``unlimited`` lets lines grow past the terminal's width, as they do without a TTY. No colour
    without a TTY, nor where NO_COLOR is set; FORCE_COLOR gives it all the same.
    """
    from aibrixctl.screen import Screen

    tty = stream.isatty()
    forced = bool(os.environ.get("FORCE_COLOR"))
    colour = (tty or forced) and not os.environ.get("NO_COLOR")
    return Screen(
        file=into or stream,
        force_terminal=colour,
        no_color=not colour,
        color_system="auto" if colour else None,
        width=None if tty and not unlimited else _UNLIMITED,
        highlight=False,
        markup=False,
        emoji=False,
    )


def prepare_streams() -> None:
    """Write UTF-8 whatever the locale, and nothing to a stream that was closed.

    Bytes of a file's name that are not UTF-8 are escaped. A closed stream is replaced, so that no
    file that is opened later takes its number.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def drop_stdout() -> None:
    """Point stdout away, so that the interpreter's last flush can't fail on a closed pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def reader_watched(stop: threading.Event) -> Iterator[None]:
    """Set ``stop`` in the block when whoever reads stdout has gone.

    A command that writes seldom would else run on behind ``| head -1`` until it next writes.
    """
    ended, end = os.pipe()
    polled = select.poll()
    polled.register(sys.stdout.fileno(), 0)  # no events asked for: only errors and hang-ups
    polled.register(ended, select.POLLIN)

    def wait() -> None:
        if all(number != ended for number, _ in polled.poll()):
            stop.set()

    thread = threading.Thread(target=wait, name="reader of stdout", daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.close(end)
        thread.join()
        os.close(ended)


class Reporter:
    """Progress, logs and hints on stderr.

    Args:
        quiet: print errors only.
        verbosity: 0, 1 (``-v``) or 2 (``-vv``).
    """

    def __init__(self, *, quiet: bool = False, verbosity: int = 0):
        self.quiet = quiet
        self.verbosity = verbosity
        self._live: Any = None

    def line(self, text: str) -> None:
        """Print one line, errors and warnings included, above any progress bar."""
        text = redact(text)
        if self._live is not None:
            self._live.console.print(text)
        else:
            print(text, file=sys.stderr, flush=True)  # noqa: T201 - the one place for stderr

    def ask(self, text: str) -> None:
        """Print a question and stay on its line."""
        print(redact(text), end="", file=sys.stderr, flush=True)  # noqa: T201

    def say(self, text: str) -> None:
        """Print a line unless quiet."""
        if not self.quiet:
            self.line(text)

    def detail(self, text: str, level: int = 1) -> None:
        """Print a line at ``-v`` (level 1) or ``-vv`` (level 2)."""
        if self.verbosity >= level and not self.quiet:
            self.line(text)

    @contextmanager
    def progress(self, title: str, total: float | None = None) -> Iterator["Progress"]:
        """Show a progress bar on a terminal; without one only ``-v`` logs the steps."""
        if self.quiet or not sys.stderr.isatty():
            yield Progress(self)
            return
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Bar(
            *columns, console=console(sys.stderr), transient=True, refresh_per_second=2
        ) as bar:
            self._live = bar
            try:
                yield Progress(self, bar, bar.add_task(title, total=total))
            finally:
                self._live = None


class Progress:
    """One running task; does nothing but ``-v`` logging where there is no terminal."""

    def __init__(self, reporter: Reporter, bar: Any = None, task: Any = None):
        self._reporter = reporter
        self._bar = bar
        self._task = task

    def update(self, done: float, total: float | None = None, text: str | None = None) -> None:
        """Move to ``done`` of ``total``; ``text`` replaces the title."""
        if self._bar is not None:
            changes = {"completed": done, "total": total, "description": text}
            self._bar.update(self._task, **{k: v for k, v in changes.items() if v is not None})
        elif text:
            self._reporter.detail(text)
