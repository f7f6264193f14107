"""A Redis connection through which values pass in bulk, without becoming Python objects.

A client library makes an object of every value: one copy into it, one out of it, and the
interpreter's lock held throughout. Here values stay in a buffer of the caller as they came off
the wire, and leave from there: ``$LENGTH CRLF value CRLF`` is both how a server answers GET and
how SET wants it.
"""

import socket
import ssl
import struct
from collections.abc import Iterable, Sequence
from typing import Any, Final

from kvpool.redis_wire import Connection, RefusalError, command
from kvpool.url import PoolUrl

Buffer = bytes | memoryview
_BUFFERS_PER_CALL: Final = 512  # the kernel takes 1,024 (IOV_MAX)
_ANSWER_BYTES: Final = 16384
_HEAD_BYTES: Final = 24  # "$", 20 digits at most, CRLF


class OutOfStepError(Exception):
    """A value is not as long as was announced, or gone."""


class BulkConnection(Connection):
    """A logged-in connection; after ``OutOfStepError`` it must be closed."""

    def __init__(self, url: PoolUrl, *, timeout_s: float = 10.0, **options: Any):
        """Connect; see ``kvpool.redis_wire.Connection``."""
        super().__init__(url, timeout_s=timeout_s, **options)
        if not url.tls:
            self._let_kernel_time_out(timeout_s)

    def fileno(self) -> int:
        """Return the descriptor of the socket."""
        return self._socket.fileno()

    def send(self, parts: Iterable[Buffer]) -> None:
        """Send buffers one after the other, without joining them.

        Raises:
            PoolUnreachableError: the server is gone, or takes nothing for too long.
        """
        try:
            if isinstance(self._socket, ssl.SSLSocket):
                for part in parts:
                    self._socket.sendall(part)
            else:
                self._send_vectors(list(parts))
        except OSError as error:
            raise self._gone(_timeout(error)) from error

    def answers(self, count: int) -> list[Any]:
        """Return the next answers; errors as ``RefusalError``.

        Raises:
            PoolUnreachableError: the server is gone.
        """
        try:
            return [self._answer() for _ in range(count)]
        except (OSError, EOFError) as error:
            raise self._gone(_timeout(error)) from error

    def lines(self, count: int) -> list[bytes]:
        """Return the next answers where each is known to be one line, such as a number.

        Raises:
            PoolUnreachableError: the server is gone.
        """
        try:
            return self._lines(count)
        except (OSError, EOFError) as error:
            raise self._gone(_timeout(error)) from error

    def ask(self, *words: bytes | str | int) -> Any:
        """Send one command and return its answer; an error is raised as ``call`` raises it."""
        self.send([command(*words)])
        answer = self.answers(1)[0]
        if isinstance(answer, RefusalError):
            raise self.refused(answer)
        return answer

    def bulks_into(self, lengths: Sequence[int], buffer: memoryview) -> list[memoryview]:
        """Read strings of known lengths into a buffer, and return each with its framing.

        Args:
            lengths: of the values, in the order of their commands.
            buffer: as long as their ``framed_bytes`` together.

        Raises:
            OutOfStepError: a value has another length, or is gone.
            PoolUnreachableError: the server is gone.
        """
        heads = [b"$%d\r\n" % length for length in lengths]
        ends: list[int] = []
        for head, length in zip(heads, lengths, strict=True):
            ends.append((ends[-1] if ends else 0) + len(head) + length + 2)
        starts = [0, *ends[:-1]]
        total = ends[-1]
        have = self._take(buffer[:total])
        checked = 0
        while True:
            while checked < len(heads) and starts[checked] < have:
                start, head = starts[checked], heads[checked]
                if buffer[start : min(have, start + len(head))] != head[: have - start]:
                    raise OutOfStepError
                if have < start + len(head):
                    break
                checked += 1
            if have == total:
                return [buffer[a:b] for a, b in zip(starts, ends, strict=True)]
            have += self._receive(buffer[have:total])

    def _more(self) -> None:
        # Answers other than values are short; room for more would be mapped and unmapped each time.
        data = self._socket.recv(_ANSWER_BYTES)
        if not data:
            raise EOFError("the server closed the connection")
        self._buffer = self._buffer[self._at :] + data
        self._at = 0

    def _send_vectors(self, rest: list[Buffer]) -> None:
        for first in range(0, len(rest), _BUFFERS_PER_CALL):
            group = rest[first : first + _BUFFERS_PER_CALL]
            left = sum(map(len, group)) - self._socket.sendmsg(group)
            if left:
                # A time-out or a signal cut the call short, which is rare.
                for part in _tail(group, left):
                    self._socket.sendall(part)

    def _take(self, view: memoryview) -> int:
        """Move what was received with earlier answers into a buffer; return how much."""
        count = min(len(self._buffer) - self._at, len(view))
        view[:count] = self._buffer[self._at : self._at + count]
        self._at += count
        return count

    def _receive(self, view: memoryview) -> int:
        try:
            count = self._socket.recv_into(view)
        except OSError as error:
            raise self._gone(_timeout(error)) from error
        if not count:
            raise self._gone(EOFError("the server closed the connection"))
        return count

    def _let_kernel_time_out(self, timeout_s: float) -> None:
        """Wait in the kernel: Python's own time-outs cost a poll() before every call."""
        self._socket.settimeout(None)
        seconds, fraction = divmod(timeout_s, 1)
        limit = struct.pack("ll", int(seconds), int(fraction * 1e6))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


def value_of(framed: memoryview) -> memoryview:
    """Return the value inside ``$LENGTH CRLF value CRLF``."""
    return framed[bytes(framed[:_HEAD_BYTES]).index(b"\n") + 1 : -2]


def _tail(parts: Sequence[Buffer], left: int) -> list[memoryview]:
    """Return the last ``left`` bytes of some buffers."""
    tail: list[memoryview] = []
    for part in reversed(parts):
        if not left:
            break
        count = min(left, len(part))
        tail.insert(0, memoryview(part)[len(part) - count :])
        left -= count
    return tail


def framed_bytes(length: int) -> int:
    """Return how long ``$LENGTH CRLF value CRLF`` is."""
    return length + len(str(length)) + 5


def _timeout(error: Exception) -> Exception:
    return TimeoutError("it took too long") if isinstance(error, BlockingIOError) else error
