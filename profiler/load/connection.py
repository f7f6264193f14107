"""One keep-alive connection: it takes the time of each read and leaves the bytes for later."""

import asyncio
import socket
import time
from typing import Protocol, cast

from profiler.load.exchange import Exchange

LAST_CHUNK = b"\r\n0\r\n\r\n"
_SHORT_READ = len(LAST_CHUNK)


class Owner(Protocol):
    """What a connection tells; see ``profiler.load.pool``."""

    turn_began: float

    def turn_starts(self, now: float) -> None:
        """Note the first read since the event loop polled."""

    def answered(self, connection: "Connection") -> None:
        """Take note that an answer may be complete; called at most once per read."""

    def lost(self, connection: "Connection", reset: bool) -> None:
        """Take note that the connection is gone."""


class Connection(asyncio.Protocol):
    """A connection that carries one exchange at a time.

    Attributes:
        exchange: under way, or None.
        chunked: the answer is known to come in chunks.
        idle_since: when it was opened or last became free.
    """

    __slots__ = (
        "_fresh",
        "_owner",
        "_sock",
        "chunked",
        "exchange",
        "idle_since",
        "transport",
    )

    def __init__(self, owner: Owner, sock: socket.socket | None):
        self._owner = owner
        # Plain connections are written to directly: the loop's own writes wait for its next turn.
        self._sock = sock
        self._fresh = True
        self.chunked = False
        self.exchange: Exchange | None = None
        self.transport: asyncio.Transport | None = None
        self.idle_since = time.monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.Transport, transport)

    def send(self, exchange: Exchange) -> None:
        """Send a request; its time is taken just before the first byte leaves."""
        assert self.transport is not None
        self.exchange = exchange
        self._fresh = True
        wire, sent = exchange.wire, 0
        # A request that goes out a second time keeps its first time.
        now = time.monotonic()
        exchange.last_read_at = now
        if not exchange.resent:
            exchange.sent_at = now
        if self._sock is not None:
            try:
                sent = self._sock.send(wire)
            except BlockingIOError:
                sent = 0
            except OSError:
                # The loop will report the loss.
                return
        if sent < len(wire):
            self.transport.write(wire[sent:])

    def data_received(self, data: bytes) -> None:
        """Take the time of a read, then its bytes; tell the owner when the answer may be over."""
        now = time.monotonic()
        owner = self._owner
        if not owner.turn_began:
            owner.turn_starts(now)
        exchange = self.exchange
        if exchange is None:
            # Nobody asked: whatever it is, this connection can't be trusted any more.
            self.close()
            return
        if self._fresh:
            self._fresh = False
            self.chunked = b"ncoding: chunked" in data[: data.find(b"\r\n\r\n")]
        exchange.reads.append((now, data))
        exchange.raw_bytes += len(data)
        exchange.last_read_at = now
        # An SSE line is never "0", so a chunked stream holds these bytes at its end only. Without
        # chunks, or with an end that may be split over reads, the parser decides.
        if not self.chunked or data.endswith(LAST_CHUNK) or len(data) < _SHORT_READ:
            owner.answered(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner."""
        self._owner.lost(self, reset=exc is not None)

    def close(self) -> None:
        """Close at once; an answer under way is cut off."""
        if self.transport is not None:
            self.transport.abort()
