"""Put every program of the machine under a mock, through the loader's preload file, and undo it.

``/etc/ld.so.preload`` names libraries that the loader puts into each program, setuid ones too. So
the libraries are copied to a folder that only root may write; the file's former content stands in a
journal on disk before the file changes; and an entry is only written when a program has been seen
to start with it. When the machine restarts in between, the entry is harmless: without a state
everything passes through.
"""

import base64
import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerators.documents import write_errors
from accelerators.errors import ToolError
from mockfail.errors import MockError, MockUsageError
from mockfail.native import library_paths

_OTHER_LOADERS = (Path("/lib/ld-linux.so.2"), Path("/lib/ld-linux-armhf.so.3"))
_TRUE = "/bin/true"
_SEPARATORS = " \t\n:"  # of the file's entries: none may stand in a path


@dataclass(frozen=True)
class Places:
    """The files that are involved; tests have their own."""

    preload: Path = Path("/etc/ld.so.preload")
    kept: Path = Path("/var/lib/aibrixctl/mock")

    @property
    def journal(self) -> Path:
        """What the preload file was, and what we made of it."""
        return self.kept / "preload.json"


@dataclass(frozen=True)
class Outcome:
    """What an undo found.

    Attributes:
        restored: there was something to undo.
        edited: someone else had changed the file meanwhile, so only our entries were taken out.
    """

    restored: bool
    edited: bool = False


MACHINE = Places()


def check_privilege(places: Places = MACHINE) -> None:
    """Refuse who may not write the preload file, before anything is made.

    Raises:
        MockUsageError: says what is needed.
    """
    if not os.access(places.preload.parent, os.W_OK):
        raise MockUsageError(
            "preload.root",
            f"{places.preload} can't be written",
            hint="run as root, or leave out --node-wide",
            target=str(places.preload),
        )


def install(places: Places = MACHINE) -> tuple[Path, ...]:
    """Enter the native libraries into the preload file.

    Returns:
        The copies that the file now names.

    Raises:
        MockError: another entry of ours is in force, or the libraries would not load; nothing was
            changed then.
        ToolError: a file can't be written; needs root.
    """
    if places.journal.exists():
        raise MockError(
            "preload.in_force",
            f"{places.preload} already holds a mock",
            hint="`aibrixctl mock-fail stop node-wide` restores it",
            target=str(places.preload),
        )
    with write_errors(places.kept):
        places.kept.mkdir(parents=True, exist_ok=True, mode=0o755)
    try:
        copies = tuple(_copied(path, places.kept) for path in library_paths())
        check_loads(copies)
        before = _read(places.preload)
        after = _with_entries(before, copies)
        journal = _journal(before, after, copies)
        _write_durably(places.journal, json.dumps(journal, sort_keys=True).encode(), None)
    except BaseException:
        _remove_copies(places)
        raise
    try:
        _write_durably(places.preload, after, places.preload)
    except BaseException:
        restore(places)
        raise
    return copies


def restore(places: Places = MACHINE) -> Outcome:
    """Make the preload file what it was, to the byte; nothing happens where that is done.

    It needs the journal only, so it works after a kill or a restart as well.

    Raises:
        MockError: the journal is damaged.
        ToolError: a file can't be written.
    """
    journal = _read_journal(places.journal)
    if journal is None:
        return Outcome(restored=False)
    now, before = _read(places.preload), journal["before"]
    edited = now not in (journal["after"], before)
    if edited and now is not None:
        wanted = _without_entries(now, journal["entries"])
        if wanted != now:
            _write_durably(places.preload, wanted, places.preload)
    elif not edited and now != before:
        _put_back(places.preload, before)
    with write_errors(places.journal):
        places.journal.unlink(missing_ok=True)
        _sync_folder(places.journal)
    _remove_copies(places)
    return Outcome(restored=True, edited=edited)


def _put_back(path: Path, before: bytes | None) -> None:
    if before is not None:
        _write_durably(path, before, path)
        return
    with write_errors(path):
        path.unlink(missing_ok=True)
        _sync_folder(path)


def in_force(places: Places = MACHINE) -> bool:
    """Tell whether there is something to undo."""
    return places.journal.exists()


def other_loaders() -> list[Path]:
    """Return the loaders of programs of another word size, which read the same preload file."""
    return [path for path in _OTHER_LOADERS if path.exists()]


def check_loads(libraries: Sequence[Path]) -> None:
    """Try the libraries on a program of the system.

    Raises:
        MockError: a path can't stand in the file, someone else may write it, or the loader refuses
            a library, as on a file system without execution.
    """
    for path in libraries:
        if not path.is_absolute() or any(separator in str(path) for separator in _SEPARATORS):
            raise _refuse(path, "its path is relative, or holds a space or a colon")
        if os.geteuid() == 0 and (owner := _foreign_owner(path)) is not None:
            raise _refuse(path, f"{owner} can be changed by others than root")
    try:
        tried = subprocess.run(
            [_TRUE],
            env={"LD_PRELOAD": ":".join(map(str, libraries)), "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _refuse(libraries[0], f"{_TRUE} does not run with it: {error}") from error
    if tried.returncode or tried.stderr:
        said = tried.stderr.decode(errors="replace").strip() or f"status {tried.returncode}"
        raise _refuse(libraries[0], said)


def _refuse(path: Path, why: str) -> MockError:
    return MockError(
        "preload.refused",
        f"{path} would not load into every program: {why}",
        hint="nothing was changed",
        target=str(path),
    )


def _foreign_owner(path: Path) -> Path | None:
    """Return the first part of a path that someone other than root may change."""
    for part in (path, *path.parents):
        status = part.stat()
        sticky = bool(status.st_mode & 0o1000)
        if status.st_uid != 0 or (status.st_mode & 0o022 and not sticky):
            return part
    return None


def _copied(library: Path, folder: Path) -> Path:
    goal = folder / library.name
    with write_errors(goal):
        fresh = goal.with_name(f".{goal.name}.new")
        shutil.copyfile(library, fresh)
        fresh.chmod(0o755)
        fresh.replace(goal)
    return goal


def _remove_copies(places: Places) -> None:
    """Remove what we kept; a program that has a library loaded keeps it."""
    with contextlib.suppress(OSError):
        for path in library_paths():
            (places.kept / path.name).unlink(missing_ok=True)
        places.kept.rmdir()


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ToolError(
            "preload.unreadable", f"cannot read {path}: {error.strerror}", target=str(path)
        ) from error


def _with_entries(before: bytes | None, copies: Sequence[Path]) -> bytes:
    text = before or b""
    if text and not text.endswith(b"\n"):
        text += b"\n"
    return text + b"".join(os.fsencode(path) + b"\n" for path in copies)


def _without_entries(text: bytes, entries: Sequence[bytes]) -> bytes:
    """Take our entries out of a file that others have changed; the rest stays as it is."""
    kept = []
    for line in text.splitlines(keepends=True):
        left = [word for word in line.replace(b":", b" ").split() if word not in entries]
        if len(left) == len(line.replace(b":", b" ").split()):
            kept.append(line)
        elif left:
            kept.append(b" ".join(left) + b"\n")
    return b"".join(kept)


def _journal(before: bytes | None, after: bytes, copies: Sequence[Path]) -> dict[str, Any]:
    return {
        "schema": "aibrixctl/mock-preload/v1",
        "before": None if before is None else base64.b64encode(before).decode(),
        "after": base64.b64encode(after).decode(),
        "entries": [str(path) for path in copies],
    }


def _read_journal(path: Path) -> dict[str, Any] | None:
    text = _read(path)
    if text is None:
        return None
    try:
        body = json.loads(text)
        before = body["before"]
        return {
            "before": None if before is None else base64.b64decode(before, validate=True),
            "after": base64.b64decode(body["after"], validate=True),
            "entries": [os.fsencode(entry) for entry in body["entries"]],
        }
    except (ValueError, KeyError, TypeError) as error:
        raise MockError(
            "preload.journal",
            f"{path} is damaged: {error}",
            hint="take the entries with libnvidia-ml.so.1 and libdcmi.so out of "
            "/etc/ld.so.preload by hand, then remove this file",
            target=str(path),
        ) from error


def _write_durably(path: Path, data: bytes, like: Path | None) -> None:
    """Replace a file at once and for good: with the mode, owner and labels of ``like``."""
    with write_errors(path):
        fresh = path.with_name(f".{path.name}.aibrixctl")
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                if like is not None and like.exists():
                    status = like.stat()
                    os.fchown(file.fileno(), status.st_uid, status.st_gid)
                    shutil.copystat(like, fresh)
                else:
                    os.fchmod(file.fileno(), 0o644)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        _sync_folder(path)


def _sync_folder(path: Path) -> None:
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
