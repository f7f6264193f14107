"""One migration at a time: what a pool is marked with while entries move in or out of it.

A directory is locked with flock, which ends with the process. A Redis database gets a key that
its owner keeps renewing; it ends by itself soon after the owner did, and at once where the owner
was a process of this machine that is gone.
"""

import contextlib
import fcntl
import json
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from accelerators.documents import timestamp
from kvpool.errors import KvPoolError
from kvpool.migrate.wire import BulkConnection
from kvpool.redis_wire import RefusalError, command

LOCK_KEY: Final = "aibrixctl:migration-lock"
_LEASE_S: Final = 30.0
_ENDED: Final = "ZX"
"""States of a process that was killed and that nobody has asked about yet."""
_live: set[str] = set()
"""Tokens of the locks that this process holds."""


@contextlib.contextmanager
def directory_lock(root: Path) -> Iterator[None]:
    """Hold a directory for the block.

    Raises:
        KvPoolError: another migration holds it.
    """
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _busy(str(root), "another process", "wait until it has ended") from error
        except OSError:
            pass  # a file system without locks; the journal's own lock remains
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def redis_lock(
    connect: Callable[[], BulkConnection], lost: threading.Event, lease_s: float = _LEASE_S
) -> Iterator[None]:
    """Hold a database for the block.

    Args:
        connect: opens a connection to it.
        lost: set when the lock was lost, because this process was stopped for too long.
        lease_s: how long the lock outlives its owner.

    Raises:
        KvPoolError: another migration holds it, or the key can't be written.
    """
    owner = _owner()
    redis = connect()
    done = threading.Event()
    keeper = threading.Thread(
        target=_keep, args=(redis, owner, lease_s, done, lost), daemon=True, name="lock"
    )
    try:
        _acquire(redis, owner, lease_s)
        _live.add(owner["token"])
        keeper.start()
        try:
            yield
        finally:
            done.set()
            keeper.join()
            _live.discard(owner["token"])
            with contextlib.suppress(KvPoolError):
                _replace(redis, owner, command("DEL", LOCK_KEY))
    finally:
        redis.close()


def _acquire(redis: BulkConnection, owner: dict[str, Any], lease_s: float) -> None:
    text = json.dumps(owner)
    lease_ms = round(lease_s * 1000)
    if redis.ask("SET", LOCK_KEY, text, "NX", "PX", lease_ms) is not None:
        return
    raw = redis.ask("GET", LOCK_KEY)
    holder = _parsed(raw)
    if holder is not None and _is_dead(holder):
        if _replace(redis, holder, command("SET", LOCK_KEY, text, "PX", lease_ms)):
            return
        holder = _parsed(redis.ask("GET", LOCK_KEY))
    left_s = max(0, redis.ask("PTTL", LOCK_KEY)) / 1000
    who = (
        f"process {holder.get('pid')} on {holder.get('host')}, since {holder.get('since')}"
        if holder
        else "somebody unknown"
    )
    hint = f"wait until it has ended; were it killed, its lock would end within {left_s:.0f} s"
    raise _busy(redis.place, who, hint)


def _keep(
    redis: BulkConnection,
    owner: dict[str, Any],
    lease_s: float,
    done: threading.Event,
    lost: threading.Event,
) -> None:
    """Renew the lock until ``done``; one failure is one too many only at the lease's end."""
    renew = command("PEXPIRE", LOCK_KEY, round(lease_s * 1000))
    while not done.wait(lease_s / 3):
        try:
            if not _replace(redis, owner, renew):
                lost.set()
                return
        except KvPoolError:
            lost.set()
            return


def _replace(redis: BulkConnection, owner: dict[str, Any], then: bytes) -> bool:
    """Run a command if the lock is still of an owner; return whether it was."""
    redis.ask("WATCH", LOCK_KEY)
    if redis.ask("GET", LOCK_KEY) != json.dumps(owner).encode():
        redis.ask("UNWATCH")
        return False
    answers = redis.pipeline([command("MULTI"), then, command("EXEC")], 3)
    for answer in answers:
        if isinstance(answer, RefusalError):
            raise redis.refused(answer)
    return answers[-1] is not None


def _owner() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "boot": _boot_id(),
        "pids": _pid_space(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "since": timestamp(),
        "token": uuid.uuid4().hex,
    }


def _is_dead(holder: dict[str, Any]) -> bool:
    """Return whether a lock's owner was a process of this machine, and is gone."""
    here = (socket.gethostname(), _boot_id(), _pid_space())
    if (holder.get("host"), holder.get("boot"), holder.get("pids")) != here:
        return False
    pid = holder.get("pid")
    if pid == os.getpid():
        return holder.get("token") not in _live
    return not isinstance(pid, int) or _started(pid) != holder.get("started")


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _pid_space() -> str:
    """Return which processes a number can name: containers of one machine may share its name."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Return when a process started, in ticks since boot; empty when none of that number runs."""
    try:
        # The name of the program, in brackets, may itself hold blanks and brackets.
        state, *numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state in _ENDED else numbers[18]
    except (OSError, ValueError, IndexError):
        return ""


def _parsed(raw: bytes | None) -> dict[str, Any] | None:
    try:
        holder = json.loads(raw) if raw is not None else None
    except ValueError:
        return None
    return holder if isinstance(holder, dict) else None


def _busy(place: str, who: str, hint: str) -> KvPoolError:
    return KvPoolError(
        "kv.migrate.busy",
        f"another migration is using {place}: {who}",
        hint=hint,
        target=place,
    )
