"""Versioned JSON documents on disk: read with a clear refusal, written atomically.

Every document carries ``"schema": "aibrixctl/<name>/v<major>"``. Additions keep the major
version; a reader refuses a major it does not know.
"""

import contextlib
import datetime
import errno
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from accelerators.errors import ToolError, UsageError

_SCHEMA = re.compile(r"^aibrixctl/([a-z0-9-]+)/v(\d+)$")


def timestamp(*, precise: bool = False) -> str:
    """Return the current UTC time as ISO 8601, or SOURCE_DATE_EPOCH when that is set.

    Args:
        precise: to the microsecond, for readers that ask which of two documents is newer.
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    utc = datetime.UTC
    moment = (
        datetime.datetime.fromtimestamp(int(epoch), utc) if epoch else datetime.datetime.now(utc)
    )
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if precise else "%Y-%m-%dT%H:%M:%SZ")


def read_text(path: str | os.PathLike[str]) -> str:
    """Return a file's text.

    Raises:
        UsageError: the file is missing, unreadable or not UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            "file.not_text", f"{path} is not UTF-8 text (byte {error.start})", target=str(path)
        ) from error
    except OSError as error:
        raise UsageError(
            "file.unreadable", f"cannot read {path}: {error.strerror}", target=str(path)
        ) from error


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return the parsed JSON of a file.

    Raises:
        UsageError: the file is missing, unreadable or not JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(
            "file.not_json",
            f"{path} is not JSON: {error}",
            hint="the file may be cut short; make it again",
            target=str(path),
        ) from error


def check_schema(document: Any, name: str, major: int, source: str) -> dict[str, Any]:
    """Return the document when it is ``aibrixctl/<name>/v<major>``.

    An envelope that a command printed with ``-o json`` is accepted too: its ``data`` is taken.

    Raises:
        UsageError: another document, another major version, or none at all.
    """
    found = document.get("schema") if isinstance(document, dict) else None
    inner = document.get("data") if isinstance(document, dict) else None
    if isinstance(inner, dict) and _SCHEMA.match(str(inner.get("schema"))):
        return check_schema(inner, name, major, source)
    wanted = f"aibrixctl/{name}/v{major}"
    match = _SCHEMA.match(found) if isinstance(found, str) else None
    if match is None or match[1] != name:
        what = f"schema {found!r}" if found else "no aibrixctl schema"
        raise UsageError("document.kind", f"{source} has {what}; expected {wanted}", target=source)
    if int(match[2]) != major:
        raise UsageError(
            "document.version",
            f"{source} is {found}; this version reads {wanted}",
            hint="make the document again with this version, or use the version that wrote it",
            target=source,
        )
    assert isinstance(document, dict)
    return document


def fault(error: Exception) -> str:
    """Return what is wrong with a document whose parsing raised, as the end of a sentence."""
    return f"lacks {error}" if isinstance(error, KeyError) else f"is malformed: {error}"


def dump_json(document: Any) -> str:
    """Return the canonical text of a document: sorted keys, two spaces, a final newline."""
    return (
        json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    )


@contextlib.contextmanager
def write_errors(path: str | os.PathLike[str], hint: str = "") -> Iterator[None]:
    """Turn an OSError of the block into a ToolError that names the path and what to do.

    Args:
        path: what is written.
        hint: what to do where the disk is not full.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise ToolError(
            "file.disk_full" if full else "file.unwritable",
            f"cannot write {path}: {error.strerror}",
            hint="free some space and run the command again" if full else hint,
            target=str(path),
        ) from error


@contextlib.contextmanager
def atomic_writer(path: str | os.PathLike[str]) -> Iterator[IO[str]]:
    """Open a text file that appears under its name only when the block ends well.

    A link is followed, so that the file it names is replaced; a device or a pipe is written to.
    Bytes of a name that are not UTF-8 are escaped, as on stdout.

    Raises:
        ToolError: the folder is missing or the disk is full; the old file is untouched.
    """
    goal = Path(os.path.realpath(path))
    if Path(path).exists() and not Path(path).is_file():
        with (
            write_errors(path),
            Path(path).open("w", encoding="utf-8", errors="backslashreplace") as device,
        ):
            yield device
        return
    with write_errors(path):
        handle, name = tempfile.mkstemp(dir=goal.parent, prefix=f".{goal.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            mask = os.umask(0)
            os.umask(mask)
            Path(name).chmod(0o666 & ~mask)
            Path(name).replace(goal)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def check_target(path: str | os.PathLike[str]) -> None:
    """Find out before the work whether a file can be written, as far as its folder says.

    Raises:
        ToolError: the folder is missing or takes no files, or the path is a folder itself.
    """
    named = Path(path)
    folder = Path(os.path.realpath(path)).parent
    with write_errors(path):
        if named.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if named.exists() and not named.is_file():
            return
        if not stat.S_ISDIR(folder.stat().st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a file atomically. Raises ToolError when that fails; the old file then remains."""
    with atomic_writer(path) as file:
        file.write(text)


def write_json(path: str | os.PathLike[str], document: Any) -> None:
    """Write a document atomically in its canonical text."""
    write_text(path, dump_json(document))
