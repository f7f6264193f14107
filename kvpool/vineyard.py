"""A vineyard daemon on this machine: its objects can be listed, looked at and removed.

An object is a tree of metadata whose leaves are blobs in shared memory. Engines that keep a KV
cache in vineyard (AIBrix 0.2) leave nothing that tells model or tokens; what there is are types
and sizes. The daemon lists everything at once, and silently stops after five objects unless it is
told a limit. Seen with vineyard 0.24.
"""

import re
import socket
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from kvpool.entry import Entry, Node, PoolFacts, Value
from kvpool.errors import KvPoolError, KvPoolUsageError, PoolUnreachableError, UnsupportedError
from kvpool.pool import BATCH, Closing, Depth, Verb
from kvpool.url import PoolUrl

EXTRA = "pip install 'aibrixctl[vineyard]'"
_EVERYTHING = 1 << 30
_CONNECT_S = 5.0
_ID = re.compile(r"o[0-9a-f]{16}", re.ASCII)
_TREE = (
    "an object is a tree of metadata and blobs, and no one value; vineyard's own migrate moves "
    "them between daemons"
)
_LIMITS: dict[Verb, str] = {
    "read": _TREE,
    "write": _TREE,
    "expiry": "vineyard keeps objects until they are removed or its daemon ends",
    "headers": "its metadata is no header of a KV cache",
}


class VineyardPool(Closing):
    """See ``kvpool.pool.Pool``. Keys are ids such as ``o687eac016fc00002``."""

    def __init__(self, url: PoolUrl):
        """Connect to the daemon's socket.

        Raises:
            KvPoolUsageError: there is no such socket.
            KvPoolError: the package is not installed.
            PoolUnreachableError: no daemon answers.
        """
        self.url = url
        self.limits: Mapping[Verb, str] = _LIMITS
        if not Path(url.path).is_socket():
            raise KvPoolUsageError(
                "kv.vineyard.socket",
                f"{url.path} is no socket",
                hint="vineyardd --socket names it; /var/run/vineyard.sock unless told otherwise",
                target=str(url),
            )
        self._vineyard = _load()
        try:
            _probe(url.path)
            self._client = self._vineyard.connect(url.path)
        except Exception as error:  # the package raises classes of its native part
            raise PoolUnreachableError(
                "kv.vineyard.unreachable",
                f"no vineyard daemon answers at {url.path}: {_first_line(error)}",
                target=str(url),
            ) from error

    def close(self) -> None:
        """Disconnect."""
        self._client.close()

    def describe(self) -> PoolFacts:
        """Return how full the shared memory is."""
        status = self._ask(lambda: self._client.status)
        members = self._ask(lambda: self._client.meta)
        return PoolFacts(
            backend=f"vineyard {self._client.version}",
            medium="memory",
            used_bytes=int(status.memory_usage),
            capacity_bytes=int(status.memory_limit),
            nodes=tuple(
                Node(str(member.get("nodename", number)), str(member.get("rpc_endpoint", "")))
                for number, member in sorted(members.items())
            ),
            details={
                "deployment": str(status.deployment),
                "connections": int(status.ipc_connections) + int(status.rpc_connections),
            },
        )

    def scan(self, *, depth: Depth = "quiet", batch: int = BATCH) -> Iterator[list[Entry]]:
        """Yield every object that is no part of another.

        Memory grows with the pool, by some hundred bytes an object, for the daemon lists at once.
        """
        found = self._ask(lambda: self._client.list_metadatas("*", False, _EVERYTHING))
        parts = {repr(part.id) for meta in found for part in _members(meta)}
        whole = (meta for meta in found if repr(meta.id) not in parts)
        entries = (_entry(meta) for meta in whole)
        while some := list(islice(entries, batch)):
            yield some

    def stat(self, key: str) -> Entry | None:
        """Return one object."""
        return next((_entry(meta) for meta in self._metas([key])), None)

    def read(self, key: str) -> Value | None:
        """Refuse."""
        self._refuse("read")

    def write(self, key: str, value: Value, *, expires_s: float | None = None) -> None:
        """Refuse."""
        self._refuse("write")

    def delete(self, keys: Sequence[str]) -> int:
        """Remove objects with their blobs, but for what other objects use too."""
        removed = 0
        for meta in self._metas(keys):
            self._ask(lambda meta=meta: self._client.delete(meta.id))
            removed += 1
        return removed

    def _metas(self, keys: Sequence[str]) -> Iterable[Any]:
        for key in keys:
            if not _ID.fullmatch(key):
                raise KvPoolUsageError(
                    "kv.key",
                    f"{key!r} is no id of an object of vineyard; expected o and 16 digits",
                    target=key,
                )
            name = self._vineyard.ObjectID(key)
            if self._ask(lambda name=name: self._client.exists(name)):
                yield self._ask(lambda name=name: self._client.get_meta(name))

    def _ask(self, question: Any) -> Any:
        try:
            return question()
        except Exception as error:
            gone = not self._client.connected
            kind = PoolUnreachableError if gone else KvPoolError
            raise kind(
                "kv.vineyard.unreachable" if gone else "kv.vineyard.failed",
                f"vineyard at {self.url.path}: {_first_line(error)}",
                target=str(self.url),
            ) from error

    def _refuse(self, verb: Verb) -> NoReturn:
        raise UnsupportedError(
            f"kv.cannot.{verb}", f"{self.url}: {_LIMITS[verb]}", target=str(self.url)
        )


def _probe(path: str) -> None:
    """Find out at once what the package would find out after ten tries, and print each."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_S)
        probe.connect(path)


def _load() -> Any:
    try:
        with warnings.catch_warnings():
            # It imports pkg_resources, which warns of its own end.
            warnings.simplefilter("ignore")
            import vineyard
    except ImportError as error:
        lacking = "" if error.name in (None, "vineyard") else f" ({error.name} is missing)"
        raise KvPoolError(
            "kv.vineyard.package",
            f"vineyard takes its package, which is not installed{lacking}",
            hint=EXTRA,
        ) from error
    return vineyard


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


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
