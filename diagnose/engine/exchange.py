"""One HTTP exchange with a deadline over all of it.

A socket's own timeout begins anew with every byte, so a server that trickles could hold a client
for ever, and a resolver has no timeout at all. So each exchange runs in a thread, and whoever
waits for it cuts the connection when its time is over.
"""

import contextlib
import http.client
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from socket import SHUT_RDWR, socket
from typing import Literal
from urllib.parse import urlsplit

from diagnose.errors import DiagnoseUsageError, StoppedError

_MOST_BYTES = 32 * 2**20
_PIECE = 65536
_STOP_S = 1.0
"""What an exchange may still take once nobody wants to wait any more."""
_LOOK_S = 0.05
_CLOSE_S = 0.2
"""How long a connection that was cut may take to be closed, before its thread is left alone."""

Trouble = Literal["unreachable", "timeout", "broken"]


@dataclass(frozen=True)
class Address:
    """A server, the path below which its API stands, and how its certificate is verified."""

    scheme: str
    host: str
    port: int
    path: str
    tls: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        """The URL without a final slash."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


@dataclass(frozen=True)
class Answer:
    """What came of an exchange.

    Attributes:
        status: None when there was no status line in time.
        body: what came of it in time.
        elapsed_s: to the end of the body, or to giving up.
        first_s: to the first bytes of the body.
        trouble: ``unreachable`` before a connection stood, ``timeout`` once the time was over,
            ``broken`` when the server cut it or spoke no HTTP; None when all of it came.
        text: the trouble in words.
    """

    status: int | None = None
    body: bytes = b""
    elapsed_s: float = 0.0
    first_s: float | None = None
    trouble: Trouble | None = None
    text: str = ""

    @property
    def ok(self) -> bool:
        """Whether the whole of a 200 came."""
        return self.status == 200 and self.trouble is None

    @property
    def refused(self) -> bool:
        """Whether the server asks for other credentials."""
        return self.status in (401, 403)

    @property
    def summary(self) -> str:
        """What came, in a few words."""
        if self.trouble is not None:
            return self.text
        return f"status {self.status}"


def parse_address(url: str, *, ca_file: str | None = None, insecure: bool = False) -> Address:
    """Return the address that a base URL names; a final ``/v1`` is dropped.

    Raises:
        DiagnoseUsageError: not an http or https URL, or a file of certificates that can't be used.
    """
    hint = "write e.g. http://127.0.0.1:8000"
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise DiagnoseUsageError(
            "engine.url", f"{url!r} is not a URL: {error}", hint=hint
        ) from error
    if parts.username is not None or parts.password is not None:
        raise DiagnoseUsageError(
            "engine.url", "the URL holds a user name; give the API key in a file", hint=hint
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise DiagnoseUsageError(
            "engine.url", f"{url!r} is not the http or https URL of a server", hint=hint, target=url
        )
    tls = _tls(ca_file, insecure=insecure) if parts.scheme == "https" else None
    path = parts.path.rstrip("/").removesuffix("/v1")
    default = 443 if parts.scheme == "https" else 80
    return Address(parts.scheme, parts.hostname, default if port is None else port, path, tls)


def _tls(ca_file: str | None, *, insecure: bool) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise DiagnoseUsageError(
            "engine.ca_file", f"cannot use {ca_file}: {error}", target=ca_file
        ) from error
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def exchange(
    address: Address,
    method: str,
    path: str,
    timeout_s: float,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    stop: threading.Event | None = None,
) -> Answer:
    """Return what came of one request within ``timeout_s``; never raises for what a server does.

    Raises:
        StoppedError: ``stop`` was set, and the answer did not come soon after.
    """
    attempt = _Attempt(address, method, path, timeout_s, body, dict(headers or {}))
    thread = threading.Thread(target=attempt.run, daemon=True)
    thread.start()
    waited = _join(thread, timeout_s, stop or threading.Event())
    answer = attempt.answer()
    thread.join(_CLOSE_S)
    if not waited:
        raise StoppedError("engine.stopped", "stopped before the engine answered")
    return answer


def _join(thread: threading.Thread, timeout_s: float, stop: threading.Event) -> bool:
    """Wait for a thread; False when that was cut short by ``stop``."""
    until_s = time.monotonic() + timeout_s
    while thread.is_alive() and not stop.is_set():
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            return True
        thread.join(min(left_s, _LOOK_S))
    left_s = until_s - time.monotonic()
    thread.join(max(0.0, min(left_s, _STOP_S)))
    return not thread.is_alive() or left_s <= _STOP_S


@dataclass
class _Attempt:
    """An exchange under way, shared by the thread that makes it and the one that waits."""

    address: Address
    method: str
    path: str
    timeout_s: float
    body: bytes | None
    headers: dict[str, str]
    started_s: float = field(default_factory=time.monotonic)
    connected: bool = False
    status: int | None = None
    pieces: list[bytes] = field(default_factory=list)
    first_s: float | None = None
    elapsed_s: float | None = None
    trouble: Trouble | None = None
    text: str = ""  # of the trouble
    connection: http.client.HTTPConnection | None = None
    wire: socket | None = None  # the connection forgets it before the body is read
    response: http.client.HTTPResponse | None = None

    def run(self) -> None:
        """Make the exchange; whatever goes wrong is noted."""
        try:
            self._exchange()
        except TimeoutError:
            self.trouble, self.text = self._late()
        except Exception as error:  # from the resolver to the parser of chunks
            self.trouble = "broken" if self.connected else "unreachable"
            reason = getattr(error, "strerror", None) or str(error)
            self.text = reason or type(error).__name__
        finally:
            self.elapsed_s = time.monotonic() - self.started_s
            self._close()

    def _exchange(self) -> None:
        self.connection = self._connection()
        self.connection.connect()
        self.wire = self.connection.sock
        self.connected = True
        self.connection.request(
            self.method, f"{self.address.path}{self.path}", self.body, self.headers
        )
        self.response = self.connection.getresponse()
        self.status = self.response.status
        size = 0
        while piece := self.response.read1(_PIECE):
            if self.first_s is None:
                self.first_s = time.monotonic() - self.started_s
            self.pieces.append(piece)
            size += len(piece)
            if size > _MOST_BYTES:
                raise http.client.HTTPException(f"the answer is longer than {_MOST_BYTES} bytes")
        if self.response.length:
            raise http.client.HTTPException(f"cut {self.response.length} bytes short")

    def _close(self) -> None:
        for open_one in (self.response, self.connection):
            if open_one is not None:
                with contextlib.suppress(OSError):
                    open_one.close()

    def _connection(self) -> http.client.HTTPConnection:
        at = self.address
        if at.tls is not None:
            return http.client.HTTPSConnection(
                at.host, at.port, timeout=self.timeout_s, context=at.tls
            )
        return http.client.HTTPConnection(at.host, at.port, timeout=self.timeout_s)

    def answer(self) -> Answer:
        """Return what there is by now, and cut what is still under way."""
        body = b"".join(self.pieces)
        if self.elapsed_s is None:
            self._cut()
            seconds = time.monotonic() - self.started_s
            return Answer(self.status, body, seconds, self.first_s, *self._late())
        return Answer(self.status, body, self.elapsed_s, self.first_s, self.trouble, self.text)

    def _late(self) -> tuple[Trouble, str]:
        """Return what it is, and how it reads, that the time was over."""
        if not self.connected:
            return "unreachable", f"no connection within {self.timeout_s:g} s"
        what = "no whole answer" if self.status else "no answer"
        return "timeout", f"{what} within {self.timeout_s:g} s"

    def _cut(self) -> None:
        if self.wire is not None:
            with contextlib.suppress(OSError):
                self.wire.shutdown(SHUT_RDWR)
