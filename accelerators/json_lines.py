"""Journals: files of JSON objects, one a line, that only grow and survive a kill at any moment."""

import contextlib
import fcntl
import json
import os
import stat
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from accelerators.documents import write_errors


class JsonLines:
    """An open, locked file; a context manager. Lines may be added from several threads."""

    def __init__(self, path: str | os.PathLike[str]):
        """Open a file, making it where there is none.

        Raises:
            BlockingIOError: another process has it open.
            ToolError: it can't be written.
        """
        self.path = Path(path)
        self._one_at_a_time = threading.Lock()
        with write_errors(self.path):
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._file = os.open(self.path, flags, 0o666)
        # Not a device or a pipe, which everyone shares and nothing can be read back from.
        self._regular = stat.S_ISREG(os.fstat(self._file).st_mode)
        try:
            if self._regular:
                self._lock()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "JsonLines":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, which another process may open then."""
        os.close(self._file)

    @property
    def empty(self) -> bool:
        """Return whether there is nothing in the file."""
        return os.fstat(self._file).st_size == 0

    def clear(self) -> None:
        """Forget all lines."""
        with write_errors(self.path):
            os.ftruncate(self._file, 0)

    def remove(self) -> None:
        """Take the file away; whoever opened it meanwhile can't lock it any more.

        A device or a pipe stays.
        """
        if self._regular:
            self.path.unlink(missing_ok=True)

    def read(self) -> Iterator[dict[str, Any]]:
        """Cut a torn last line off the file and yield the others.

        Raises:
            ValueError: a line is no JSON object; says which.
        """
        if not self._regular:
            return
        with write_errors(self.path):
            data = self.path.read_bytes()
            whole = data.rfind(b"\n") + 1
            if whole < len(data):
                os.ftruncate(self._file, whole)
        for number, line in enumerate(data[:whole].split(b"\n")[:-1], 1):
            try:
                record = json.loads(line)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error
            if not isinstance(record, dict):
                raise ValueError(f"line {number}: not an object")
            yield record

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one line and wait until it is on the disk.

        Raises:
            ToolError: it can't be written; the file is left as it was before.
        """
        line = json.dumps(record, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
        rest = memoryview(line.encode())
        with self._one_at_a_time, write_errors(self.path):
            size = os.fstat(self._file).st_size
            try:
                while rest:  # A disk that fills up takes a part of a line.
                    rest = rest[os.write(self._file, rest) :]
                if self._regular:
                    os.fsync(self._file)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, size)
                raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(self._file), self.path.stat()):
                raise BlockingIOError  # Its owner took it away as we opened it.
        except OSError as error:
            raise BlockingIOError from error
