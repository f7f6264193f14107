"""The child that talks to a vineyard daemon: ``python -m kvpool.vineyard_child FD SOCKET PARENT``.

The package's calls hold the interpreter's lock and wait without an end for a daemon that stands
still, so that neither a time-out nor a signal gets through. Here they stop nobody: the parent
ends this process.

It says ``("ok", None)`` when the package is loaded, and again when it is connected. Then it answers
questions, each a method of ``Daemon`` and its arguments, with ``("ok", value)``. Wherever it can't,
it says ``("refused", code, text)``, with ``package``, ``unreachable`` or ``failed`` as the code.
"""

import sys
import warnings
from collections.abc import Iterator
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any

from kvpool.entry import Entry

_EVERYTHING = 1 << 30
"""A daemon that is told no limit silently stops after five objects."""


class Daemon:
    """What the parent can ask for."""

    def __init__(self, package: Any, path: str):
        self._package = package
        self._client = package.connect(path)
        self._scans: list[Iterator[Entry]] = []

    @property
    def connected(self) -> bool:
        """Whether the daemon is still there."""
        return bool(self._client.connected)

    def describe(self) -> dict[str, Any]:
        """Return what the daemon says of itself and of its peers."""
        status, members = self._client.status, self._client.meta
        return {
            "version": str(self._client.version),
            "used_bytes": int(status.memory_usage),
            "capacity_bytes": int(status.memory_limit),
            "nodes": [
                (str(member.get("nodename", number)), str(member.get("rpc_endpoint", "")))
                for number, member in sorted(members.items())
            ],
            "deployment": str(status.deployment),
            "connections": int(status.ipc_connections) + int(status.rpc_connections),
        }

    def scan(self) -> int:
        """Look for every object that is no part of another; return the scan's number."""
        found = self._client.list_metadatas("*", False, _EVERYTHING)
        parts = {repr(part.id) for meta in found for part in _members(meta)}
        self._scans.append(_entry(meta) for meta in found if repr(meta.id) not in parts)
        return len(self._scans) - 1

    def more(self, scan: int, count: int) -> list[Entry]:
        """Return the next objects that a scan found; none at its end."""
        return list(islice(self._scans[scan], count))

    def stat(self, key: str) -> Entry | None:
        """Return one object."""
        name = self._package.ObjectID(key)
        return _entry(self._client.get_meta(name)) if self._client.exists(name) else None

    def delete(self, key: str) -> bool:
        """Remove an object with its blobs, and tell whether there was one."""
        name = self._package.ObjectID(key)
        if not self._client.exists(name):
            return False
        self._client.delete(name)
        return True


def _members(meta: Any) -> Iterator[Any]:
    """Yield the parts of an object, and theirs."""
    for _, value in meta.items():  # noqa: PERF102 - there is no values()
        if hasattr(value, "typename"):
            yield value
            yield from _members(value)


def _entry(meta: Any) -> Entry:
    created_ms = int(meta.timestamp)
    size = int(meta.memory_usage)
    return Entry(
        repr(meta.id),
        "whole",
        size,
        namespace=str(meta.typename),
        value_bytes=size,
        stored_s=created_ms / 1000 if created_ms else None,
        node=str(meta.instance_id),
    )


def _serve(pipe: Connection, daemon: Daemon) -> None:
    while True:
        name, *arguments = pipe.recv()
        try:
            pipe.send(("ok", getattr(daemon, name)(*arguments)))
        except Exception as error:  # the package raises classes of its native part
            code = "failed" if daemon.connected else "unreachable"
            pipe.send(("refused", code, _first_line(error)))


def _run(pipe: Connection, path: str) -> None:
    """Connect, say so, and serve until the parent has gone."""
    try:
        with warnings.catch_warnings():
            # It imports pkg_resources, which warns of its own end.
            warnings.simplefilter("ignore")
            import vineyard
    except ImportError as error:
        pipe.send(("refused", "package", f"{error.name} is missing"))
        return
    pipe.send(("ok", None))
    try:
        daemon = Daemon(vineyard, path)
    except Exception as error:
        pipe.send(("refused", "unreachable", _first_line(error)))
        return
    pipe.send(("ok", None))
    _serve(pipe, daemon)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


if __name__ == "__main__":
    import contextlib

    from accelerators.children import end_with

    end_with(int(sys.argv[3]))
    with contextlib.suppress(EOFError, BrokenPipeError):
        _run(Connection(int(sys.argv[1])), sys.argv[2])
