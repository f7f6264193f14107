"""Entries that are files, one each: LMCache's ``fs://`` connector and AIBrix's SHFS.

A file appears under its name whole or not at all: it is written beside it and then linked, which
fails when somebody else was first, or renamed over the one that was looked at.
"""

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from accelerators.documents import write_errors
from kvpool.directory import OWN_PREFIX
from kvpool.errors import KvPoolError
from kvpool.migrate.side import Look, Piece
from kvpool.migrate.wire import OutOfStepError, value_of

_LEAVING: Final = f"{OWN_PREFIX}leaving"
_NAME_MAX: Final = 255
_NO_FILE: Final = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)
_NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""What file systems answer that know no second name for a file."""
_HEADER_LIMIT_BYTES: Final = 4096


@dataclass(frozen=True)
class Layout:
    """How a directory pool names its files, and how long the header is that each begins with."""

    path_of: Callable[[str], Path]
    header_bytes: Callable[[bytes, int], int | None]
    """Of a file's first bytes and its size; None where no header is to be found."""


class DirectorySide:
    """A session with a directory.

    Args:
        layout: of the pool.
        durable: wait until what is committed is on the disk.
    """

    keeps_expiry = False

    def __init__(self, layout: Layout, *, durable: bool = False):
        self._layout = layout
        self._durable = durable
        self._asked: Sequence[str] = ()
        self._seen: dict[str, str | None] = {}
        self._data_starts: dict[str, int] = {}
        self._put: list[tuple[str, Path]] = []

    def ask(self, keys: Sequence[str]) -> None:
        """Remember what is asked about."""
        self._asked = keys

    def told(self) -> list[Look | None]:
        """Note what each entry is now; a later change is told by inode, size and time."""
        keys = self._asked
        self._data_starts = {}
        found = [self._look(key) for key in keys]
        self._seen = {
            key: look.stamp if look else self._stamp(key)
            for key, look in zip(keys, found, strict=True)
        }
        return found

    def look(self, keys: Sequence[str]) -> list[Look | None]:
        """Ask, and return what is told."""
        self.ask(keys)
        return self.told()

    def fetch(self, pieces: Sequence[Piece], buffer: memoryview) -> list[memoryview]:
        """Read pieces of files into the buffer."""
        framed = []
        start = 0
        for piece in pieces:
            head = b"$%d\r\n" % piece.length
            data = start + len(head)
            end = data + piece.length
            buffer[start:data] = head
            self._read(piece, buffer[data:end])
            buffer[end : end + 2] = b"\r\n"
            framed.append(buffer[start : end + 2])
            start = end + 2
        return framed

    def put(self, key: str, look: Look, framed: Iterable[memoryview]) -> None:
        """Write a file beside the entry's place."""
        goal = self._layout.path_of(key)
        scratch = goal.parent / f"{OWN_PREFIX}{hashlib.sha256(goal.name.encode()).hexdigest()[:24]}"
        self._put.append((key, scratch))
        self._data_starts[key] = len(look.header)
        with write_errors(goal):
            goal.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            handle = os.open(scratch, flags, 0o666)
            try:
                _write(handle, look.header)
                for piece in framed:
                    _write(handle, value_of(piece))
                if self._durable:
                    os.fdatasync(handle)
            finally:
                os.close(handle)

    def commit(self) -> bool:
        """Give the files their names; an entry that somebody else wrote meanwhile stays theirs."""
        done = True
        places = set()
        for key, scratch in self._put:
            goal = self._layout.path_of(key)
            with write_errors(goal):
                done &= self._name(key, scratch, goal)
            places.add(goal.parent)
        self._put = []
        if self._durable:
            for place in places:
                _sync(place)
        return done

    def abandon(self) -> None:
        """Remove what was put."""
        for _, scratch in self._put:
            scratch.unlink(missing_ok=True)
        self._put = []

    def leave(self, remove: Sequence[str] = ()) -> bool:
        """Tell whether an entry changed since it was looked at, and remove some if none did."""
        if any(self._stamp(key) != stamp for key, stamp in self._seen.items()):
            return False
        removed = [self._remove(key) for key in remove]
        return all(removed)

    def close(self) -> None:
        """Drop what was put."""
        self.abandon()

    def _look(self, key: str) -> Look | None:
        path = self._layout.path_of(key)
        try:
            with path.open("rb", buffering=0) as file:
                start = file.read(_HEADER_LIMIT_BYTES) or b""
                status = os.fstat(file.fileno())
        except OSError as error:
            if error.errno in _NO_FILE:
                return None
            raise _unreadable(path, error) from error
        count = self._layout.header_bytes(start, status.st_size)
        if count is None:
            return None
        self._data_starts[key] = count
        return Look(status.st_size - count, start[:count], stamp=_stamp_of(status))

    def _read(self, piece: Piece, view: memoryview) -> None:
        path = self._layout.path_of(piece.key)
        offset = self._data_starts[piece.key] + piece.offset
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in _NO_FILE:
                raise OutOfStepError from error
            raise _unreadable(path, error) from error
        try:
            while view:
                count = os.preadv(handle, [view], offset)
                if not count:
                    raise OutOfStepError
                offset += count
                view = view[count:]
        except OSError as error:
            raise _unreadable(path, error) from error
        finally:
            os.close(handle)

    def _stamp(self, key: str) -> str | None:
        try:
            return _stamp_of(self._layout.path_of(key).stat())
        except OSError:
            return None

    def _name(self, key: str, scratch: Path, goal: Path) -> bool:
        if self._seen.get(key) is None:
            return _link(scratch, goal)
        if self._stamp(key) != self._seen[key]:
            scratch.unlink()
            return False
        scratch.replace(goal)
        return True

    def _remove(self, key: str) -> bool:
        """Remove a file that is still the one that was looked at.

        It is taken out of sight first: were it unlinked by its name, a new one that a writer
        put there in between would go instead.
        """
        path = self._layout.path_of(key)
        aside = path.with_name(path.name + _LEAVING)
        if len(os.fsencode(aside.name)) > _NAME_MAX:
            path.unlink(missing_ok=True)
            return True
        with write_errors(path):
            path.rename(aside)
            if self._seen[key] == _stamp_of(aside.stat()):
                aside.unlink()
                return True
            _link(aside, path)
            return False


def clear(root: Path) -> int:
    """Tidy up what a migration that was killed left under a directory; return how many files.

    What had not got its name yet is removed; what was being taken away gets its name back.
    """
    found = 0
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if name.endswith(_LEAVING):
                _link(path, path.with_name(name.removesuffix(_LEAVING)))
            elif name.startswith(OWN_PREFIX):
                path.unlink(missing_ok=True)
            else:
                continue
            found += 1
    return found


def _link(scratch: Path, goal: Path) -> bool:
    """Give a file a name that is free; return whether it was."""
    try:
        os.link(scratch, goal)
    except FileExistsError:
        scratch.unlink()
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS or goal.exists():
            raise
        scratch.replace(goal)
    else:
        scratch.unlink()
    return True


def _stamp_of(status: os.stat_result) -> str:
    # The time of the inode's last change is left out: renaming and linking touch it.
    return f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"


def _write(handle: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unreadable(path: Path, error: OSError) -> KvPoolError:
    return KvPoolError(
        "kv.file.unreadable", f"cannot read {path}: {error.strerror}", target=str(path)
    )
