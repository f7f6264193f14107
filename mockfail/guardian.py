"""The process that looks after one mock: what begins and ends with time, and its end.

Run as ``python -m mockfail.guardian FOLDER``. It is nobody's child and has no terminal, so that it
outlives whatever ends its mock's command or user. It needs nothing but the folder: when it is
killed, the state file still expires by itself, and ``mock-fail stop`` cleans up.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from accelerators.errors import ToolError
from accelerators.mocked import NODE_WIDE, VARIABLE
from mockfail import environment, kernel_log, machine, preload
from mockfail.environment import Record
from mockfail.layer import log_lines, transitions

_POLL_S = 0.1
"""How long a command's end, or a change of the record, may go unseen."""
_GRACE_S = 5.0
"""How long what a command left behind may take to end after SIGTERM."""
_MAKING_S = 60.0
"""How long making a mock may take at most."""
_SHELL = '"$@" &'  # the shell ends at once, and its child belongs to nobody


def start(folder: Path) -> None:
    """Start the guardian of a mock.

    Raises:
        OSError: there is no shell.
    """
    clean = {k: v for k, v in os.environ.items() if k not in (VARIABLE, "LD_PRELOAD")}
    subprocess.run(
        ["/bin/sh", "-c", _SHELL, "sh", sys.executable, "-P", "-m", __name__, str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=clean,
        cwd="/",
        check=True,
    )


def sweep() -> None:
    """Clean up after mocks whose guardian was killed with their command, or lost to a restart."""
    for folder, record in environment.standing():
        if folder == NODE_WIDE:  # `stop` undoes it, and whoever may do that decides when
            continue
        if isinstance(record, Record):
            if record.over(machine.now_s()):
                start(folder)
        elif record.code == "mock.none" and _is_old(folder):
            environment.remove(folder)


def _is_old(folder: Path) -> bool:
    """Tell whether a folder without a record is no mock that is being made just now."""
    try:
        return time.time() - folder.stat().st_mtime > _MAKING_S
    except OSError:
        return False


class Guardian:
    """Looks after the mock in a folder."""

    def __init__(self, folder: Path, kmsg: Path = kernel_log.KMSG):
        self.folder = folder
        self.kmsg = kmsg
        self.made_s = -1.0
        self.record: Record | None = None
        self.record_of: tuple[int, int] | None = None
        self.logged: set[tuple[str, float]] = set()

    def watch(self) -> None:
        """Stay until the mock is over or gone, then clean up."""
        while True:
            try:
                record = self.read()
                if record.over(machine.now_s()):
                    self.end(record)
                    return
                self.follow(record)
            except ToolError:
                if not self.folder.is_dir():
                    return
            time.sleep(_POLL_S)

    def read(self) -> Record:
        """Return the mock's record, parsed once for each of its versions."""
        try:
            status = (self.folder / environment.RECORD).stat()
            version = (status.st_ino, status.st_mtime_ns)
        except OSError:
            version = None
        if self.record is None or version is None or version != self.record_of:
            self.record, self.record_of = environment.read(self.folder), version
        return self.record

    def follow(self, record: Record) -> None:
        """Make the mock's files anew when time has passed one of its moments."""
        moment_s = machine.now_s() - record.started_s
        if any(self.made_s < at_s <= moment_s for at_s in transitions(record.layers)):
            environment.refresh(self.folder)
        self.made_s = moment_s
        if record.kmsg:
            self.write_kmsg(record, moment_s)

    def write_kmsg(self, record: Record, moment_s: float) -> None:
        """Write the lines that are due to the machine's kernel log, each once."""
        due = kernel_log.once_per_gpu(log_lines(record.layers, moment_s))
        fresh = [line for line in due if (line.text, line.start_s) not in self.logged]
        self.logged |= {(line.text, line.start_s) for line in fresh}
        if fresh:
            kernel_log.write_kmsg((line.text for line in fresh), self.kmsg)

    def end(self, record: Record) -> None:
        """Remove a mock that is over, and what its command left running."""
        if record.command is not None:
            end_processes(self.folder)
        if self.folder == NODE_WIDE:
            preload.restore()
        environment.remove(self.folder)


def end_processes(folder: Path) -> None:
    """End everything that was started under a mock: SIGTERM, and SIGKILL for what stays."""
    deadline_s = time.monotonic() + _GRACE_S
    while left := list(machine.processes_under(folder)):
        late = time.monotonic() > deadline_s
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        if time.monotonic() > deadline_s + _GRACE_S:
            return  # what SIGKILL can't end, the kernel holds
        time.sleep(_POLL_S)


if __name__ == "__main__":
    Guardian(Path(sys.argv[1])).watch()
