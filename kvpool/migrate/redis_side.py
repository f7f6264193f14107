"""LMCache's entries in Redis, moved with transactions.

Both halves of every entry of a batch are written by one ``MULTI``/``EXEC``, so there is no moment
at which only one is there; if this process dies, the server drops what it had queued. ``WATCH``
makes the server itself say whether anybody touched the entries since they were looked at.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from kvpool import lmcache
from kvpool.migrate.side import Look, Piece
from kvpool.migrate.wire import Buffer, BulkConnection, OutOfStepError, framed_bytes, value_of
from kvpool.redis_wire import RefusalError, argument, command, opening

_DATA: Final = lmcache.DATA_SUFFIX.encode()
_HEADER: Final = lmcache.HEADER_SUFFIX.encode()
_GET: Final = opening(b"GET", more=1)
_GETRANGE: Final = opening(b"GETRANGE", more=3)
_SET: Final = opening(b"SET", more=2)
_SET_UNTIL: Final = opening(b"SET", more=4)
_STRLEN: Final = opening(b"STRLEN", more=1)
_ABSOLUTE: Final = opening(b"PEXPIRETIME", more=1)
_RELATIVE: Final = opening(b"PTTL", more=1)
_NONE: Final = (b"", b"", b"")
_NEVER: Final = [b":-1", b":-1"]
_MULTI: Final = command("MULTI")
_EXEC: Final = command("EXEC")


class _Name(NamedTuple):
    """The two keys of an entry, framed as arguments: its value's and its header's.

    Attributes:
        questions: the commands for length and expiries.
    """

    data: bytes
    header: bytes
    questions: bytes


@lru_cache(maxsize=4096)  # both ends of a migration ask for the same names
def _name_of(key: str, expiry: bytes) -> _Name:
    stem = key.encode("utf-8", "surrogateescape")
    data, header = argument(stem + _DATA), argument(stem + _HEADER)
    return _Name(data, header, b"".join((_STRLEN, data, expiry, data, expiry, header)))


class RedisSide:
    """A session with a Redis server.

    Args:
        connect: opens a connection.
        eager: ask all about entries at once, since most will be there; else first whether they
            are.
    """

    keeps_expiry = True

    def __init__(self, connect: Callable[[], BulkConnection], *, eager: bool):
        self._connect = connect
        self._redis = self._connected()
        self._eager = eager
        self._names: dict[str, _Name] = {}
        # PEXPIRETIME came with Redis 7.0.
        answer = self._redis.pipeline([command("PEXPIRETIME", _DATA)], 1)[0]
        self._expiry = _RELATIVE if isinstance(answer, RefusalError) else _ABSOLUTE
        self._queue: list[Buffer] = [_MULTI]
        self._count = 0
        self._begun = False

    def ask(self, keys: Sequence[str]) -> None:
        """Send the commands that watch entries and ask what they are."""
        self._names = {key: _name_of(key, self._expiry) for key in keys}
        names = self._names.values()
        headers = [name.header for name in names]
        parts = [opening(b"WATCH", more=2 * len(keys)), *headers, *(name.data for name in names)]
        parts += [opening(b"MGET", more=len(keys)), *headers]
        if self._eager:
            parts += [name.questions for name in names]
        self._redis.send([b"".join(parts)])

    def told(self) -> list[Look | None]:
        """Return what the entries are."""
        headers = self._headers()
        if self._eager:
            return self._entries(headers, self._redis.lines(3 * len(headers)))
        names = self._names.values()
        there = [name for name, header in zip(names, headers, strict=True) if header]
        if not there:
            return [None] * len(headers)
        self._redis.send([b"".join([name.questions for name in there])])
        found = iter(self._redis.lines(3 * len(there)))
        lines = [
            line
            for header in headers
            for line in ((next(found), next(found), next(found)) if header else _NONE)
        ]
        return self._entries(headers, lines)

    def look(self, keys: Sequence[str]) -> list[Look | None]:
        """Watch entries and return what each is now."""
        self.ask(keys)
        return self.told()

    def fetch(self, pieces: Sequence[Piece], buffer: memoryview) -> list[memoryview]:
        """Read pieces of values with as many commands in one go."""
        self._redis.send([b"".join(self._question(piece) for piece in pieces)])
        try:
            return self._redis.bulks_into([piece.length for piece in pieces], buffer)
        except OutOfStepError:
            self._reconnect()
            raise

    def _question(self, piece: Piece) -> bytes:
        name = self._name(piece.key).data
        if piece.whole:
            return _GET + name
        last = piece.offset + piece.length - 1
        return _GETRANGE + name + argument(b"%d" % piece.offset) + argument(b"%d" % last)

    def put(self, key: str, look: Look, framed: Iterable[memoryview]) -> None:
        """Queue the commands that store an entry; pieces of a value are sent at once."""
        name = self._name(key)
        expiry = _expiry(look.data_expires_ms)
        head = (_SET_UNTIL if expiry else _SET) + name.data
        pieces = iter(framed)
        first = next(pieces)
        if len(first) == framed_bytes(look.value_bytes):
            self._queue += [head, first]
        else:
            self._flush()
            try:
                self._redis.send([head, b"$%d\r\n" % look.value_bytes, value_of(first)])
                for piece in pieces:
                    self._redis.send([value_of(piece)])
                self._redis.send([b"\r\n"])
            except OutOfStepError:
                self._reconnect()  # half a command was sent
                raise
        until = _expiry(look.header_expires_ms)
        rest = (_SET_UNTIL if until else _SET) + name.header + argument(look.header) + until
        self._queue.append(expiry + rest)
        self._count += 2

    def commit(self) -> bool:
        """Run the transaction; the server refuses it whole when an entry was touched."""
        if not self._count:
            return True
        self._queue.append(_EXEC)
        self._flush()
        try:
            return self._outcome(self._count)
        finally:
            self._begin()

    def abandon(self) -> None:
        """Drop the transaction, if one has begun, and stop watching."""
        if self._begun:
            self._queue = [command("DISCARD")]
            self._flush()
            self._redis.answers(self._count + 2)
        self._begin()
        self._redis.ask("UNWATCH")

    def leave(self, remove: Sequence[str] = ()) -> bool:
        """Ask by an (else empty) transaction whether an entry was touched, and remove some."""
        doomed = [self._name(key) for key in remove]
        removal = [opening(b"UNLINK", more=2 * len(doomed))] if doomed else []
        for name in doomed:
            removal += [name.header, name.data]
        self._redis.send([_MULTI, *removal, _EXEC])
        return self._outcome(1 if doomed else 0)

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()

    def _name(self, key: str) -> _Name:
        return self._names.get(key) or _name_of(key, self._expiry)

    def _reconnect(self) -> None:
        self._redis.close()
        self._redis = self._connected()
        self._begin()

    def _connected(self) -> BulkConnection:
        """Open a connection whose reads leave the order of eviction as it is, where one can.

        Redis before 7.2 refuses, and counts what is copied as used.
        """
        redis = self._connect()
        try:
            redis.pipeline([command("CLIENT", "NO-TOUCH", "ON")], 1)
        except BaseException:
            redis.close()
            raise
        return redis

    def _begin(self) -> None:
        self._queue = [_MULTI]
        self._count = 0
        self._begun = False

    def _flush(self) -> None:
        self._redis.send(self._queue)
        self._queue = []
        self._begun = True

    def _outcome(self, commands: int) -> bool:
        """Read the answers to MULTI, some commands and EXEC; False when WATCH forbade it."""
        *queued, outcome = self._redis.lines(commands + 2)
        for line in (*queued, outcome):
            if line[:1] == b"-":
                raise self._redis.refused(RefusalError(line[1:].decode("utf-8", "replace")))
        if outcome == b"*-1":
            return False
        for line in self._redis.lines(commands) if commands else ():
            if line[:1] == b"-":
                raise self._redis.refused(RefusalError(line[1:].decode("utf-8", "replace")))
        return True

    def _headers(self) -> list[bytes | None]:
        """Read the answers to WATCH and MGET."""
        for answer in (answers := self._redis.answers(2)):
            if isinstance(answer, RefusalError):
                raise self._redis.refused(answer)
        return list(answers[1])

    def _entries(
        self, headers: Sequence[bytes | None], lines: Sequence[bytes]
    ) -> list[Look | None]:
        """Return what headers, lengths and expiries say; None without either half."""
        base_ms = 0 if self._expiry == _ABSOLUTE else self._now_ms()
        looks: list[Look | None] = []
        for index, header in enumerate(headers):
            length, *expiries = lines[3 * index : 3 * index + 3]
            if not header or b":-2" in expiries or length[:1] != b":":
                looks.append(None)  # a half is missing, or is no string
                continue
            size = int(length[1:])
            if expiries == _NEVER:
                looks.append(Look(size, header))
                continue
            data_ms, header_ms = (0 if at == b":-1" else base_ms + int(at[1:]) for at in expiries)
            looks.append(Look(size, header, data_ms, header_ms))
        return looks

    def _now_ms(self) -> int:
        seconds, micros = self._redis.ask("TIME")
        return int(seconds) * 1000 + int(micros) // 1000


def _expiry(at_ms: int) -> bytes:
    """Return the last two arguments of a SET that vanishes at a time; nothing for never."""
    return b"$4\r\nPXAT\r\n$%d\r\n%d\r\n" % (len(str(at_ms)), at_ms) if at_ms else b""
