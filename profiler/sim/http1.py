"""A small HTTP/1.1 server protocol: keep-alive, chunked bodies, one answer at a time.

Enough for an engine's API, and cheap: a streamed chunk is one write of bytes made before.
"""

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

_LONGEST_HEAD = 65_536
_LONGEST_BODY = 64 * 2**20
_MOST_UNREAD = 4 * 2**20
_REQUEST = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.([01])")
_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    411: "Length Required",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request; header names in lower case, the path without its query."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


def chunk(payload: bytes) -> bytes:
    """Return bytes framed as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


LAST_CHUNK = b"0\r\n\r\n"
Handler = Callable[[HttpRequest, "Connection"], None]


class Connection(asyncio.Protocol):
    """One client; ``handler`` is called with each request and answers through the connection.

    A handler that streams sets ``on_lost`` to learn that the client has gone.
    """

    def __init__(self, handler: Handler, connections: set["Connection"]):
        self._handler = handler
        self._connections = connections
        self._buffer = bytearray()
        self._request: tuple[str, str, dict[str, str]] | None = None
        self._busy = False
        self._advancing = False
        self._closing = False
        self._old = False
        self._transport: asyncio.Transport
        self.on_lost: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport of a new client."""
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_MOST_UNREAD)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the answer under way that its client has gone."""
        self._connections.discard(self)
        self._closing = True
        if self.on_lost is not None:
            self.on_lost()

    def pause_writing(self) -> None:
        """Give up on a client that has not read megabytes of its answer."""
        self._transport.abort()

    def resume_writing(self) -> None:
        """Nothing to do: see pause_writing."""

    def data_received(self, data: bytes) -> None:
        """Take bytes; requests behind the one in work wait in the buffer."""
        self._buffer += data
        if self._busy:
            if len(self._buffer) > _LONGEST_BODY:
                self._transport.abort()
            return
        self._advance()

    def _advance(self) -> None:
        self._advancing = True
        while not self._busy and not self._closing:
            if self._request is None and not self._read_head():
                break
            if not self._read_body():
                break
        self._advancing = False

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _LONGEST_HEAD:
                self.refuse(431, "the request head is longer than 64 KiB")
            return False
        head = bytes(self._buffer[:end])
        first, *lines = head.lstrip(b"\r\n").split(b"\r\n")
        match = _REQUEST.fullmatch(first)
        if match is None:
            self.refuse(400, "not an HTTP/1.1 request")
            return False
        headers = {}
        for line in lines:
            name, found, value = line.partition(b":")
            if not found:
                self.refuse(400, "a header line has no colon")
                return False
            headers[name.strip().lower().decode("latin-1")] = value.strip().decode("latin-1")
        self._old = match[3] == b"0"
        del self._buffer[: end + 4]
        target = match[2].decode("latin-1").partition("?")[0]
        self._request = (match[1].decode(), target, headers)
        if headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def _read_body(self) -> bool:
        assert self._request is not None
        headers = self._request[2]
        if "chunked" in headers.get("transfer-encoding", "").lower():
            body = self._read_chunked()
        else:
            length = headers.get("content-length", "0")
            if not length.isdigit() or int(length) > _LONGEST_BODY:
                self.refuse(413, f"Content-Length is {length!r}; at most {_LONGEST_BODY}")
                return False
            body = self._cut(int(length))
        if body is None:
            return False
        method, path, headers = self._request
        self._request = None
        self._busy = True
        self._closing = self._old or headers.get("connection", "").lower() == "close"
        self._handler(HttpRequest(method, path, headers, body), self)
        return True

    def _cut(self, length: int) -> bytes | None:
        if len(self._buffer) < length:
            return None
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        return body

    def _read_chunked(self) -> bytes | None:
        """Return a whole chunked body, or None while bytes of it are missing."""
        body, at = bytearray(), 0
        while True:
            end = self._buffer.find(b"\r\n", at)
            if end < 0 or len(self._buffer) > _LONGEST_BODY:
                break
            try:
                size = int(bytes(self._buffer[at:end]).partition(b";")[0], 16)
            except ValueError:
                self.refuse(400, "a chunk has no size")
                return None
            if size == 0:
                over = self._buffer.find(b"\r\n\r\n", end)
                if over < 0:
                    break
                del self._buffer[: over + 4]
                return bytes(body)
            at = end + 2 + size + 2
            if len(self._buffer) < at:
                break
            body += self._buffer[end + 2 : at - 2]
        if len(self._buffer) > _LONGEST_BODY:
            self.refuse(413, f"the body is longer than {_LONGEST_BODY} bytes")
        return None

    def respond(self, status: int, body: Any, content_type: str = "application/json") -> None:
        """Answer a request in one piece; a value that is not bytes becomes JSON."""
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._transport.write(self._head(status, content_type, len(payload)) + payload)
        self.end()

    def refuse(self, status: int, message: str) -> None:
        """Answer bytes that are no request, and close."""
        self._closing = True
        error = {"message": message, "type": "BadRequestError", "param": None, "code": status}
        self.respond(status, {"error": error})

    def _head(self, status: int, content_type: str, length: int | None) -> bytes:
        framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        closing = "Connection: close\r\n" if self._closing else ""
        return (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\nServer: aibrixctl-simulator\r\n"
            f"Content-Type: {content_type}\r\n{framing}\r\n{closing}\r\n"
        ).encode()

    def start_stream(self) -> bool:
        """Begin an event stream of chunks; False, with an error sent, where HTTP/1.0 has none."""
        if self._old:
            self.refuse(505, "a stream needs HTTP/1.1")
            return False
        self._transport.write(self._head(200, "text/event-stream; charset=utf-8", None))
        return True

    def write(self, framed: bytes) -> None:
        """Send bytes of a stream, framed by :func:`chunk`."""
        self._transport.write(framed)

    def end(self) -> None:
        """Finish the answer, then close or take the next request."""
        self.on_lost = None
        self._busy = False
        if self._closing:
            self._transport.close()
        elif self._buffer and not self._advancing:
            self._advance()

    def abort(self) -> None:
        """Cut the connection."""
        self._transport.abort()
