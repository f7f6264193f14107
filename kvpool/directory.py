"""What the pools that live in a directory share: walking, looking, writing whole or not at all."""

import contextlib
import errno
import os
import stat
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

from kvpool.entry import PoolFacts
from kvpool.errors import KvPoolError, KvPoolUsageError
from kvpool.pool import Removal
from kvpool.url import PoolUrl

_Item = TypeVar("_Item")
OWN_PREFIX = ".aibrixctl-"
"""What our own temporary files begin with; no reader of a pool takes such a file."""


def existing_directory(url: PoolUrl) -> Path:
    """Return the directory of a pool.

    Raises:
        KvPoolUsageError: it is missing, is no directory or can't be read.
    """
    path = Path(url.path)
    reason = ""
    if not path.exists():
        reason = "there is no such directory"
    elif not path.is_dir():
        reason = "it is no directory"
    elif not os.access(path, os.R_OK | os.X_OK):
        reason = "it can't be read: Permission denied"
    if reason:
        raise KvPoolUsageError("kv.directory", f"{path}: {reason}", target=str(url))
    return path


def describe(root: Path, backend: str) -> PoolFacts:
    """Return how full the file system of a directory is."""
    with reading(root):
        disk = os.statvfs(root)
    capacity_bytes = disk.f_blocks * disk.f_frsize
    return PoolFacts(
        backend=backend,
        medium="disk",
        used_bytes=capacity_bytes - disk.f_bfree * disk.f_frsize,
        capacity_bytes=capacity_bytes,
        writable=os.access(root, os.W_OK),
        details={"free_bytes": disk.f_bavail * disk.f_frsize, "free_inodes": disk.f_favail},
    )


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into an error that names the path."""
    try:
        yield
    except OSError as error:
        raise KvPoolError(
            "kv.file.unreadable", f"cannot read {path}: {error.strerror}", target=str(path)
        ) from error


def batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Yield lists of at most ``size`` items."""
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch


def walk(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield every file below a directory, as its path from there and what ``stat`` says.

    One folder is open per level, and links are not followed. What vanishes meanwhile is left out.

    Raises:
        KvPoolError: a folder can't be read.
    """
    with reading(root):
        folder = os.scandir(root)
    prefix_length = len(str(root)) + 1
    open_folders = [folder]
    try:
        while open_folders:
            item = next(open_folders[-1], None)
            if item is None:
                open_folders.pop().close()
            elif item.is_dir(follow_symlinks=False):
                with reading(Path(item.path)), contextlib.suppress(FileNotFoundError):
                    open_folders.append(os.scandir(item.path))
            else:
                with contextlib.suppress(FileNotFoundError):
                    yield item.path[prefix_length:], item.stat(follow_symlinks=False)
    finally:
        for folder in open_folders:
            folder.close()


def look(path: Path) -> os.stat_result | None:
    """Return what ``stat`` says of a regular file; None where there is none."""
    try:
        found = path.lstat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            return None
        raise KvPoolError(
            "kv.file.unreadable", f"cannot read {path}: {error.strerror}", target=str(path)
        ) from error
    return found if stat.S_ISREG(found.st_mode) else None


def read_start(path: str | os.PathLike[str], count: int) -> bytes:
    """Return the first bytes of a file, without marking it as used where that is allowed.

    Raises:
        OSError: it can't be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOATIME)
    except PermissionError:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(handle, count)
    finally:
        os.close(handle)


def write_whole(path: Path, parts: Iterable[bytes], *, durable: bool = True) -> None:
    """Write a file that appears under its name only when all of it is there.

    Args:
        path: of the file; its folder is made.
        parts: of its content.
        durable: wait until it is on the disk, so that not even a power cut leaves half of it.

    Raises:
        KvPoolError: the disk is full, or the folder can't be written; nothing is left behind.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=OWN_PREFIX)
        with os.fdopen(handle, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            if durable:
                os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise KvPoolError(
            "kv.file.disk_full" if full else "kv.file.unwritable",
            f"cannot write {path}: {error.strerror}",
            hint="free some space, or take another target" if full else "",
            target=str(path),
        ) from error


def remove(path: Path) -> bool:
    """Remove a file; return whether there was one.

    Raises:
        KvPoolError: it can't be removed.
    """
    try:
        path.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise KvPoolError(
            "kv.file.unwritable", f"cannot remove {path}: {error.strerror}", target=str(path)
        ) from error
    return True


def remove_stale(path: Path, min_age_s: float, *, dry_run: bool = False) -> Removal:
    """Remove a temporary file that nobody has touched for long.

    It is first renamed, so that a writer who comes back in between keeps a file of that name.

    Args:
        path: of the file.
        min_age_s: how long it must have been left alone.
        dry_run: only look.

    Raises:
        KvPoolError: it can't be read or removed.
    """
    before = look(path)
    if before is None:
        return "changed"
    # Our own are renamed while they are old; only the time of that rename tells their age.
    is_own = path.name.startswith(OWN_PREFIX)
    touched_s = max(before.st_mtime, before.st_ctime) if is_own else before.st_mtime
    if time.time() - touched_s < min_age_s:
        return "young"
    if dry_run:
        return "removed"
    aside = path.with_name(f"{OWN_PREFIX}stale-{uuid.uuid4().hex}")
    try:
        path.rename(aside)
        if _identity(aside.lstat()) == _identity(before):
            aside.unlink()
            return "removed"
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
        aside.unlink()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise KvPoolError(
            "kv.file.unwritable", f"cannot remove {path}: {error.strerror}", target=str(path)
        ) from error
    return "changed"


def _identity(facts: os.stat_result) -> tuple[int, int, int]:
    return facts.st_ino, facts.st_size, facts.st_mtime_ns
