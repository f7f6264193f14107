"""A vineyard daemon on this machine: its objects can be listed, looked at and removed.

An object is a tree of metadata whose leaves are blobs in shared memory. Engines that keep a KV
cache in vineyard (AIBrix 0.2) leave nothing that tells model or tokens; what there is are types
and sizes. The daemon lists everything at once, and silently stops after five objects unless it is
told a limit. Its package is kept in a child (``kvpool.vineyard_child``). Seen with vineyard 0.24.
"""

import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from kvpool.entry import Entry, Node, PoolFacts, Value
from kvpool.errors import KvPoolUsageError, PoolUnreachableError, UnsupportedError
from kvpool.pool import BATCH, Closing, Depth, Verb
from kvpool.url import PoolUrl
from kvpool.vineyard_client import LIST_S, Client

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

    def __init__(self, url: PoolUrl, timeout_s: float):
        """Connect to the daemon's socket.

        Args:
            url: of the pool.
            timeout_s: for which the daemon may keep silent.

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
        self._probe(timeout_s)
        self._client = Client(url, timeout_s)

    def close(self) -> None:
        """Disconnect."""
        self._client.close()

    def describe(self) -> PoolFacts:
        """Return how full the shared memory is."""
        found = self._client.ask("describe")
        return PoolFacts(
            backend=f"vineyard {found['version']}",
            medium="memory",
            used_bytes=found["used_bytes"],
            capacity_bytes=found["capacity_bytes"],
            nodes=tuple(Node(name, address) for name, address in found["nodes"]),
            details={name: found[name] for name in ("deployment", "connections")},
        )

    def scan(self, *, depth: Depth = "quiet", batch: int = BATCH) -> Iterator[list[Entry]]:
        """Yield every object that is no part of another.

        Memory grows with the pool, by some hundred bytes an object, for the daemon lists at once.
        """
        number = self._client.ask("scan", limit_s=LIST_S)
        while some := self._client.ask("more", number, batch):
            yield some

    def stat(self, key: str) -> Entry | None:
        """Return one object."""
        found: Entry | None = self._client.ask("stat", _checked(key))
        return found

    def read(self, key: str) -> Value | None:
        """Refuse."""
        self._refuse("read")

    def write(self, key: str, value: Value, *, expires_s: float | None = None) -> None:
        """Refuse."""
        self._refuse("write")

    def delete(self, keys: Sequence[str]) -> int:
        """Remove objects with their blobs, but for what other objects use too."""
        return sum(self._client.ask("delete", _checked(key)) for key in keys)

    def _probe(self, timeout_s: float) -> None:
        """Find out at once what the package would find out after ten tries."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.settimeout(timeout_s)
                probe.connect(self.url.path)
        except OSError as error:
            raise PoolUnreachableError(
                "kv.vineyard.unreachable",
                f"no vineyard daemon answers at {self.url.path}: {error.strerror or error}",
                target=str(self.url),
            ) from error

    def _refuse(self, verb: Verb) -> NoReturn:
        raise UnsupportedError(
            f"kv.cannot.{verb}", f"{self.url}: {_LIMITS[verb]}", target=str(self.url)
        )


def _checked(key: str) -> str:
    """Return an object's id. Raises KvPoolUsageError for another text."""
    if not _ID.fullmatch(key):
        raise KvPoolUsageError(
            "kv.key",
            f"{key!r} is no id of an object of vineyard; expected o and 16 digits",
            target=key,
        )
    return key
