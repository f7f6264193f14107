"""LMCache's entries in Redis, moved with transactions.

Both halves of every entry of a batch are written by one ``MULTI``/``EXEC``, so there is no moment
at which only one is there; if this process dies, the server drops what it had queued. ``WATCH``
makes the server itself say whether anybody touched the entries since they were looked at.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, Final

from kvpool import lmcache
from kvpool.migrate.side import Look, Piece
from kvpool.migrate.wire import Buffer, BulkConnection, OutOfStepError, value_of
from kvpool.redis_wire import RefusalError, command

_DATA: Final = lmcache.DATA_SUFFIX.encode()
_HEADER: Final = lmcache.HEADER_SUFFIX.encode()
_GONE: Final = -2
_FOREVER: Final = -1
_MULTI: Final = command("MULTI")
_EXEC: Final = command("EXEC")


def halves(key: str) -> tuple[bytes, bytes]:
    """Return the Redis keys of an entry: its value's, and its header's, which makes it exist."""
    name = key.encode("utf-8", "surrogateescape")
    return name + _DATA, name + _HEADER


class RedisSide:
    """A session with a Redis server."""

    keeps_expiry = True

    def __init__(self, connect: Callable[[], BulkConnection]):
        self._connect = connect
        self._redis = connect()
        self._absolute: bool | None = None
        self._queue: list[Buffer] = [_MULTI]
        self._count = 0
        self._begun = False

    def look(self, keys: Sequence[str]) -> list[Look | None]:
        """Watch entries and return what each is now."""
        names = [halves(key) for key in keys]
        self._redis.ask("WATCH", *chain.from_iterable(names))
        if self._absolute is None:
            # PEXPIRETIME came with Redis 7.0.
            answer = self._redis.pipeline([command("PEXPIRETIME", names[0][0])], 1)[0]
            self._absolute = not isinstance(answer, RefusalError)
        if self._absolute:
            return self._look(names, "PEXPIRETIME", 0)
        return self._look(names, "PTTL", self._now_ms())

    def fetch(self, pieces: Sequence[Piece], buffer: memoryview) -> list[memoryview]:
        """Read pieces of values with as many commands in one go."""
        commands = []
        for piece in pieces:
            name = halves(piece.key)[0]
            last = piece.offset + piece.length - 1
            commands.append(
                command("GET", name)
                if piece.whole
                else command("GETRANGE", name, piece.offset, last)
            )
        self._redis.send([b"".join(commands)])
        try:
            return self._redis.bulks_into([piece.length for piece in pieces], buffer)
        except OutOfStepError:
            self._reconnect()
            raise

    def put(self, key: str, look: Look, framed: Iterable[memoryview]) -> None:
        """Queue the commands that store an entry; pieces of a value are sent at once."""
        data, header = halves(key)
        expiry = _expiry(look.data_expires_ms)
        head = b"*%d\r\n$3\r\nSET\r\n$%d\r\n%b\r\n" % (5 if expiry else 3, len(data), data)
        pieces = iter(framed)
        first = next(pieces)
        if len(value_of(first)) == look.value_bytes:
            self._queue += [head, first, expiry]
        else:
            self._flush()
            try:
                self._redis.send([head, b"$%d\r\n" % look.value_bytes, value_of(first)])
                for piece in pieces:
                    self._redis.send([value_of(piece)])
                self._redis.send([b"\r\n", expiry])
            except OutOfStepError:
                self._reconnect()  # half a command was sent
                raise
        until = (b"PXAT", look.header_expires_ms) if look.header_expires_ms else ()
        self._queue.append(command("SET", header, look.header, *until))
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
        doomed = [name for key in remove for name in reversed(halves(key))]
        commands = [_MULTI, *([command("UNLINK", *doomed)] if doomed else []), _EXEC]
        self._redis.send(commands)
        return self._outcome(len(commands) - 2)

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()

    def _reconnect(self) -> None:
        self._redis.close()
        self._redis = self._connect()
        self._begin()

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
        *queued, outcome = self._redis.answers(commands + 2)
        done = outcome if isinstance(outcome, list) else []
        for answer in (*queued, *done, outcome):
            if isinstance(answer, RefusalError):
                raise self._redis.refused(answer)
        return outcome is not None

    def _look(
        self, names: Sequence[tuple[bytes, bytes]], ask_expiry: str, base_ms: int
    ) -> list[Look | None]:
        commands = [
            question
            for data, header in names
            for question in (
                command("STRLEN", data),
                command("GETRANGE", header, 0, lmcache.MOST_HEADER_BYTES),
                command(ask_expiry, data),
                command(ask_expiry, header),
            )
        ]
        self._redis.send([b"".join(commands)])
        answers = self._redis.answers(len(commands))
        for answer in answers:
            if isinstance(answer, RefusalError) and answer.word != "WRONGTYPE":
                raise self._redis.refused(answer)
        return [_entry(answers[at : at + 4], base_ms) for at in range(0, len(answers), 4)]

    def _now_ms(self) -> int:
        seconds, micros = self._redis.ask("TIME")
        return int(seconds) * 1000 + int(micros) // 1000


def _entry(answers: list[Any], base_ms: int) -> Look | None:
    """Return what four answers say; None when a half is missing or no string."""
    length, header, data_ms, header_ms = answers
    if not isinstance(length, int) or not isinstance(header, bytes):
        return None
    if _GONE in (data_ms, header_ms):
        return None
    return Look(length, header, _absolute(data_ms, base_ms), _absolute(header_ms, base_ms))


def _absolute(answer_ms: int, base_ms: int) -> int:
    return 0 if answer_ms == _FOREVER else base_ms + answer_ms


def _expiry(at_ms: int) -> bytes:
    return b"$4\r\nPXAT\r\n$%d\r\n%d\r\n" % (len(str(at_ms)), at_ms) if at_ms else b""
