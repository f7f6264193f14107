"""Keep-alive connections, opened before they are needed."""

import asyncio
import contextlib
import errno
import re
import socket
import ssl
import time
from array import array
from collections import deque
from typing import Protocol

from profiler.load.address import Address
from profiler.load.connection import LAST_CHUNK, Connection
from profiler.load.exchange import Exchange

# Servers close idle connections, uvicorn after 5 s: ours are replaced before.
_OLDEST_IDLE_S = 4.0
# A connection that had idled this long and closes before any answer was closed by the server's
# timer, not by the engine: its request may go out again, once.
_STALE_IDLE_S = 1.0
_AT_ONCE = 32
_RETRY_SPARES_S = 1.0
# The client's machine, not the server, has no more files or ports.
_OUR_LIMITS = (errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS)
CLIENT_SOCKETS = "client_sockets"
_CLOSES = re.compile(rb"\r\nconnection:[^\r\n]*close", re.IGNORECASE)


class User(Protocol):
    """Whom the pool serves."""

    def over(self, exchange: Exchange) -> None:
        """Take note that an exchange is over, well or not."""


class Pool:
    """Connections to one server.

    Attributes:
        turn_began: time of the first read since the event loop last polled; 0 before one.
        turns: began and ended, in pairs, of every turn of the loop that had reads.
        waiting: exchanges that are due and have no connection yet.
        under_way: connections with an exchange.
        resent: requests sent again because their connection had been closed while it idled.
    """

    def __init__(
        self,
        user: User,
        address: Address,
        where: list[tuple[int, str]],
        tls: ssl.SSLContext | None,
        connect_timeout_s: float,
    ):
        self.turn_began = 0.0
        self.turns = array("d")
        self.waiting: deque[Exchange] = deque()
        self.under_way: set[Connection] = set()
        self.resent = 0
        self._user = user
        self._address = address
        self._where = where
        self._tls = tls
        self._timeout_s = connect_timeout_s
        self._loop = asyncio.get_running_loop()
        self._idle: list[Connection] = []
        self._answered: list[Connection] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._no_spares_before = 0.0
        self._closed = False

    # What connections tell.

    def turn_starts(self, now: float) -> None:
        """Note when the loop had polled: all reads of its turn were ready by then."""
        self.turn_began = now
        self._loop.call_soon(self._turn_over)

    def answered(self, connection: Connection) -> None:
        """Put off what is not urgent until the reads of this turn have their times."""
        self._answered.append(connection)

    def lost(self, connection: Connection, reset: bool) -> None:
        """Take a closed connection out; its exchange is over or goes out again."""
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
        self.under_way.discard(connection)
        exchange, connection.exchange = connection.exchange, None
        if exchange is None or self._closed:
            return
        stale = exchange.sent_at - connection.idle_since > _STALE_IDLE_S
        if stale and not exchange.resent and exchange.unanswered:
            exchange.resent = True
            self.resent += 1
            self.waiting.appendleft(exchange)
            self._open_one()
            return
        exchange.connection_ended(time.monotonic(), "reset" if reset else "eof")
        self._user.over(exchange)

    def _turn_over(self) -> None:
        self.turns.append(self.turn_began)
        self.turn_began = 0.0
        answered, self._answered = self._answered, []
        for connection in answered:
            if connection.exchange is not None:
                self._close_exchange(connection, connection.exchange)
        self.turns.append(time.monotonic())

    def _close_exchange(self, connection: Connection, exchange: Exchange) -> None:
        """Free the connection if the answer is complete."""
        if connection.chunked and exchange.reads and exchange.reads[-1][1].endswith(LAST_CHUNK):
            first = exchange.reads[0][1]
            reusable = _CLOSES.search(first, 0, 2048) is None
        else:
            exchange.parse()
            connection.chunked = exchange.chunked
            if not exchange.complete and exchange.cause is None:
                return
            reusable = exchange.complete
        head = exchange.head
        self.release(connection, reusable=reusable and (head is None or head.keeps_alive))
        self._user.over(exchange)

    # What the run asks for.

    def serve(self, user: User) -> None:
        """Tell another user from now on; nothing may be under way."""
        self._user = user

    def send(self, exchange: Exchange) -> None:
        """Send a request now, or as soon as there is a connection."""
        while self._idle:
            connection = self._idle.pop()
            if connection.transport is not None and not connection.transport.is_closing():
                self._send_on(connection, exchange)
                return
        self.waiting.append(exchange)
        if len(self._opening) < min(len(self.waiting), _AT_ONCE):
            self._open_one()

    def _send_on(self, connection: Connection, exchange: Exchange) -> None:
        self.under_way.add(connection)
        connection.send(exchange)

    def release(self, connection: Connection, *, reusable: bool) -> None:
        """Take a connection back; a broken one is closed and forgotten."""
        connection.exchange = None
        self.under_way.discard(connection)
        if not reusable:
            connection.close()
        elif self.waiting:
            self._send_on(connection, self.waiting.popleft())
        else:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)

    def cut(self, exchange: Exchange) -> None:
        """Close the connection of an exchange that takes too long."""
        with contextlib.suppress(ValueError):
            self.waiting.remove(exchange)
        for connection in list(self.under_way):
            if connection.exchange is exchange:
                self.release(connection, reusable=False)

    async def open(self, count: int) -> OSError | None:
        """Open connections ahead of the load; return why none could be opened, or None."""
        failure: OSError | None = None
        for start in range(0, count, _AT_ONCE):
            opens = (self._connect() for _ in range(min(_AT_ONCE, count - start)))
            for result in await asyncio.gather(*opens, return_exceptions=True):
                if isinstance(result, Connection):
                    self._idle.append(result)
                elif isinstance(result, OSError):
                    failure = result
                elif isinstance(result, BaseException):
                    raise result
            if failure is not None:
                break
        return None if self._idle else failure

    def keep_spares(self, spares: int) -> None:
        """Replace idle connections before the server closes them, and keep some free."""
        now = time.monotonic()
        for connection in list(self._idle):
            if now - connection.idle_since > _OLDEST_IDLE_S:
                self._idle.remove(connection)
                connection.close()
        if now < self._no_spares_before:
            return
        missing = spares - len(self._idle) - len(self._opening)
        for _ in range(min(missing, _AT_ONCE - len(self._opening))):
            self._open_one()

    def _open_one(self) -> None:
        task = self._loop.create_task(self._open_for_waiting())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open_for_waiting(self) -> None:
        try:
            connection = await self._connect()
        except OSError as error:
            self._no_spares_before = time.monotonic() + _RETRY_SPARES_S
            if self.waiting:
                exchange = self.waiting.popleft()
                ours = error.errno in _OUR_LIMITS
                cause = CLIENT_SOCKETS if ours else "connect"
                exchange.fail(cause, f"no connection: {error.strerror or error}")
                self._user.over(exchange)
        else:
            self.release(connection, reusable=not self._closed)
        if self.waiting and not self._closed:
            self._open_one()

    async def _connect(self) -> Connection:
        """Return an open connection to the first address that accepts one.

        Raises:
            OSError: none did; TimeoutError and TLS errors are OSErrors too.
        """
        failure: OSError = OSError("no address")
        for family, ip in self._where:
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await self._connect_to(family, ip)
            except TimeoutError:
                failure = TimeoutError(f"no connection within {self._timeout_s:g} s")
            except OSError as error:
                failure = error
        raise failure

    async def _connect_to(self, family: int, ip: str) -> Connection:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.sock_connect(sock, (ip, self._address.port))
            plain = sock if self._tls is None else None
            _, connection = await self._loop.create_connection(
                lambda: Connection(self, plain),
                sock=sock,
                ssl=self._tls,
                server_hostname=self._address.host if self._tls else None,
            )
        except BaseException:
            sock.close()
            raise
        return connection

    async def close(self) -> None:
        """Close every connection; exchanges under way are cut off without a word."""
        self._closed = True
        for task in list(self._opening):
            task.cancel()
        for connection in [*self._idle, *self.under_way]:
            connection.close()
        await asyncio.gather(*self._opening, return_exceptions=True)
        # One turn of the loop lets the transports report that they are gone.
        await asyncio.sleep(0)
