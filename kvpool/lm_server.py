"""LMCache's own cache server, ``lm://``: single entries can be read, and nothing else.

A request is nine native int32 (command, length, layout, dtype, location, four dimensions) and the
key in 150 bytes, padded with spaces; an answer is nine int32 (code, length, layout, dtype, four
dimensions, location), then the data. The server of LMCache 0.5 does not answer LIST, knows no
removal and keeps everything until it ends. Source: ``lmcache/v1/protocol.py`` and
``lmcache/v1/server/__main__.py`` of LMCache 0.5.6.
"""

import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn

from kvpool import lmcache
from kvpool.entry import Entry, Header, PoolFacts, Value
from kvpool.errors import KvPoolUsageError, PoolUnreachableError, UnsupportedError
from kvpool.pool import BATCH, Closing, Depth, Verb
from kvpool.url import PoolUrl

_REQUEST = struct.Struct("=9i150s")
_ANSWER = struct.Struct("=9i")
_KEY_BYTES = 150
_GET, _EXIST, _HEALTH = 2, 3, 5
_SUCCESS = 200
_CHUNK_BYTES = 1 << 20
_LIMITS: dict[Verb, str] = {
    "scan": "LMCache's server does not answer its LIST command",
    "write": "it is taken as read only: its server never removes an entry again",
    "delete": "LMCache's server knows no command that removes one",
    "expiry": "LMCache's server keeps everything until it ends",
    "age": "LMCache's server does not keep it",
}


class LmServerPool(Closing):
    """See ``kvpool.pool.Pool``."""

    def __init__(self, url: PoolUrl, timeout_s: float):
        """Connect. Raises PoolUnreachableError where no such server answers."""
        self.url = url
        self.limits: Mapping[Verb, str] = _LIMITS
        try:
            self._socket = socket.create_connection((url.host, url.port), timeout_s)
        except OSError as error:
            raise self._gone(error) from error
        try:
            self._ask(_HEALTH, "")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def describe(self) -> PoolFacts:
        """Return that it answers, which is all that it says."""
        self._ask(_HEALTH, "")
        return PoolFacts(backend="LMCache server", writable=False)

    def scan(self, *, depth: Depth = "quiet", batch: int = BATCH) -> Iterator[list[Entry]]:
        """Refuse."""
        self._refuse("scan")

    def stat(self, key: str) -> Entry | None:
        """Return one entry; the server sends its data along, which is dropped."""
        found = self._get(key, keep=False)
        if found is None:
            return None
        header, _ = found
        return lmcache.make_entry(
            key,
            size=header.value_bytes + lmcache.ONE_GROUP_BYTES,
            value_bytes=header.value_bytes,
            header=header,
            damage="",
        )

    def read(self, key: str) -> Value | None:
        """Return header and data of an entry."""
        found = self._get(key, keep=True)
        return None if found is None else Value(lmcache.pack_header(found[0]), found[1])

    def write(self, key: str, value: Value, *, expires_s: float | None = None) -> None:
        """Refuse."""
        self._refuse("write")

    def delete(self, keys: Sequence[str]) -> int:
        """Refuse."""
        self._refuse("delete")

    def _get(self, key: str, *, keep: bool) -> tuple[Header, bytes] | None:
        code, length, layout, dtype, *dims, _ = self._ask(_GET, key)
        if code != _SUCCESS:
            return None
        data = self._receive(length, keep=keep)
        header = lmcache.parse_header(struct.pack("=7i", length, layout, dtype, *dims))
        if header is None:
            raise self._gone(EOFError("what answers is no server of LMCache"))
        return header, data

    def _ask(self, code: int, key: str) -> tuple[int, ...]:
        # The server parses the key of any request, and drops the connection where it can't.
        name = (key or "health@1@0@0@half").encode()
        if len(name) > _KEY_BYTES or lmcache.parse_key(name.decode()) is None:
            raise KvPoolUsageError(
                "kv.key",
                f"{key!r} is no key that LMCache's server can hold; expected "
                f"MODEL@WORLD_SIZE@WORKER@HASH@DTYPE in at most {_KEY_BYTES} bytes",
                target=key,
            )
        request = _REQUEST.pack(code, 0, 1, 2, 0, 0, 0, 0, 0, name.ljust(_KEY_BYTES))
        try:
            self._socket.sendall(request)
        except OSError as error:
            raise self._gone(error) from error
        return _ANSWER.unpack(self._receive(_ANSWER.size, keep=True))

    def _receive(self, size: int, *, keep: bool) -> bytes:
        data = bytearray()
        missing = size
        while missing:
            try:
                part = self._socket.recv(min(missing, _CHUNK_BYTES))
            except OSError as error:
                raise self._gone(error) from error
            if not part:
                raise self._gone(EOFError("the server closed the connection"))
            missing -= len(part)
            if keep:
                data += part
        return bytes(data)

    def _gone(self, error: Exception) -> PoolUnreachableError:
        return PoolUnreachableError(
            "kv.lm.unreachable",
            f"no server of LMCache answers at {self.url.place}: "
            f"{getattr(error, 'strerror', None) or error}",
            hint="lmcache_server listens on port 65432 unless told otherwise",
            target=str(self.url),
        )

    def _refuse(self, verb: Verb) -> NoReturn:
        raise UnsupportedError(
            f"kv.cannot.{verb}", f"{self.url}: {_LIMITS[verb]}", target=str(self.url)
        )
