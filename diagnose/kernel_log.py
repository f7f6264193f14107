"""The kernel's log: where it comes from, and the lines in it that speak of accelerators.

Read are, in this order, a file that the user names, the log of the mock, ``/dev/kmsg``, and what
``dmesg`` prints. Times count from boot.
"""

import errno
import os
import re
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from accelerators.mocked import Mock
from diagnose.errors import DiagnoseUsageError
from diagnose.kernel_events import Event, Line, events_of

_KMSG = Path("/dev/kmsg")
_KMSG_NUMBER = os.makedev(1, 11)  # Linux's list of allocated devices
_KMSG_RECORD = 8192  # bytes; the kernel gives one record per read, and EINVAL for a smaller buffer
_DMESG_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class KernelLog:
    """What the log says of accelerators.

    Attributes:
        source: where it was read; None where it could not be.
        events: in the order of their first line.
        error: why it could not be read.
    """

    source: str | None = None
    events: tuple[Event, ...] = ()
    error: str | None = None


def read(file: Path | None, mock: Mock | None, since_s: float | None = None) -> KernelLog:
    """Return what the kernel said; a log that can't be read is named in ``error``.

    Args:
        file: in the form of ``dmesg``, or of ``/dev/kmsg``.
        mock: its log stands for the machine's.
        since_s: only the last so many seconds; lines without a time are kept.

    Raises:
        DiagnoseUsageError: the file that the user named can't be read.
    """
    if file is not None:
        return KernelLog(str(file), events_of(_named(file)))
    if mock is not None:
        return _of_mock(mock, since_s)
    try:
        return _log(str(_KMSG), _kmsg(_KMSG), since_s)
    except OSError as error:
        return _dmesg(f"{_KMSG}: {error.strerror}", since_s)


def _named(file: Path) -> list[Line]:
    """Read a file that the user names; what hardware and drivers print need not be UTF-8."""
    try:
        if os.stat(file).st_rdev == _KMSG_NUMBER:  # noqa: PTH116 - beside os.makedev
            return _kmsg(file)  # read as a file it never ends
        return parse(file.read_text(encoding="utf-8", errors="replace").splitlines())
    except OSError as error:
        raise DiagnoseUsageError(
            "file.unreadable", f"cannot read {file}: {error.strerror}", target=str(file)
        ) from error


def _of_mock(mock: Mock, since_s: float | None) -> KernelLog:
    try:
        text = mock.kernel_log.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        text = ""
    except OSError as error:
        return KernelLog(error=f"{mock.kernel_log}: {error.strerror}")
    return _log(str(mock.kernel_log), parse(text.splitlines()), since_s)


def _log(source: str, lines: Sequence[Line], since_s: float | None) -> KernelLog:
    if since_s is not None:
        start_s = time.clock_gettime(time.CLOCK_BOOTTIME) - since_s
        lines = [line for line in lines if line.time_s is None or line.time_s >= start_s]
    return KernelLog(source, events_of(lines))


def _kmsg(device: Path) -> list[Line]:
    """Read the ring buffer to its end, without waiting for more."""
    lines: list[Line] = []
    handle = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        while True:
            try:
                record = os.read(handle, _KMSG_RECORD)
            except BlockingIOError:
                return lines
            except OSError as error:
                if error.errno == errno.EPIPE:  # overwritten while we read; the next read goes on
                    continue
                raise
            if not record:
                return lines
            lines.append(_of_record(record.decode("utf-8", "replace")))
    finally:
        os.close(handle)


def _of_record(record: str) -> Line:
    """Return the message of ``priority,sequence,microseconds,flags;message``, continuations cut."""
    prefix, _, text = record.partition(";")
    fields = prefix.split(",")
    time_s = int(fields[2]) / 1e6 if len(fields) > 2 and fields[2].isdigit() else None
    return Line(time_s, text.split("\n", 1)[0])


def _dmesg(why: str, since_s: float | None) -> KernelLog:
    try:
        done = subprocess.run(
            ["dmesg"], capture_output=True, timeout=_DMESG_TIMEOUT_S, check=False, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return KernelLog(error=f"{why}; dmesg: {error}")
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        return KernelLog(error=f"{why}; dmesg: {said[-1] if said else done.returncode}")
    return _log("dmesg", parse(done.stdout.splitlines()), since_s)


_STAMP = re.compile(r"^(?:<\d+>)?\[\s*(\d+\.\d+)\]\s?(?:\[\s*[TC]\d+\]\s?)?(.*)$")
_SYSLOG = re.compile(r"^.*? kernel: (?:\[\s*(\d+\.\d+)\]\s?)?(.*)$")


def parse(texts: Iterable[str]) -> list[Line]:
    """Return the lines of a log as ``dmesg``, ``journalctl -k`` or a syslog file has them."""
    lines = []
    for text in texts:
        match = _STAMP.match(text) or _SYSLOG.match(text)
        time_s = float(match[1]) if match and match[1] else None
        lines.append(Line(time_s, match[2] if match else text))
    return lines
