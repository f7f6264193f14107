"""A Redis connection for scans: thousands of small commands in flight, answers as plain values.

The official client packs and parses each command through several objects, which at 500,000
commands is most of the time. This one sends a batch as one buffer and reads the answers in order.
It speaks RESP2, which every Redis and Valkey does. Source: https://redis.io/docs/latest/develop/
reference/protocol-spec/
"""

import socket
import ssl
from collections.abc import Iterable
from typing import Any

from kvpool.errors import KvPoolError, KvPoolUsageError, PoolUnreachableError
from kvpool.url import PoolUrl

_READ_BYTES = 1 << 18
_ACCESS = ("NOAUTH", "WRONGPASS", "NOPERM", "DENIED")
_OF_ONE_KEY = (b"-WRONGTYPE", b"-ERR An LFU maxmemory policy is selected")
"""Errors that speak of the key alone: it holds no string; its idle time is not tracked."""


class RefusalError(Exception):
    """An error answer to one command, such as ``NOPERM``; the connection goes on."""

    @property
    def word(self) -> str:
        """Return its first word, by which Redis tells errors apart."""
        return str(self).partition(" ")[0]


def argument(word: bytes) -> bytes:
    """Return one word of a command as it goes over the wire."""
    return b"$%d\r\n%b\r\n" % (len(word), word)


def opening(*words: bytes, more: int) -> bytes:
    """Return the start of a command, to which ``more`` arguments must be joined."""
    return b"*%d\r\n%b" % (len(words) + more, b"".join(map(argument, words)))


def command(*words: bytes | str | int) -> bytes:
    """Return a command as it goes over the wire."""
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return opening(*parts, more=0)


class Connection:
    """One connection to a server, logged in, with its database selected."""

    def __init__(
        self,
        url: PoolUrl,
        *,
        password: str | None = None,
        ca_file: str | None = None,
        insecure: bool = False,
        timeout_s: float = 10.0,
    ):
        """Connect.

        Raises:
            PoolUnreachableError: nothing answers, or access is refused; says when TLS is the
                likely reason.
            KvPoolUsageError: the file of certificates can't be used.
        """
        self.place = url.place
        self._url = url
        self._buffer = b""
        self._at = 0
        self._is_open = False
        self._socket = self._connect(ca_file, insecure, timeout_s)
        try:
            self._log_in(password)
            self._is_open = True
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def call(self, *words: bytes | str | int) -> Any:
        """Return the answer to one command: bytes, int, str, list or None.

        Raises:
            PoolUnreachableError: the server is gone, or refuses access.
            KvPoolError: it answers with another error.
        """
        answer = self.pipeline([command(*words)], 1)[0]
        if isinstance(answer, RefusalError):
            raise self.refused(answer)
        return answer

    def pipeline(self, commands: Iterable[bytes], count: int) -> list[Any]:
        """Send commands at once and return their answers in order; errors as ``RefusalError``.

        The server keeps the answers in its memory until they are read, so a batch should be some
        thousands of small ones.

        Raises:
            PoolUnreachableError: the server is gone.
        """
        try:
            self._socket.sendall(b"".join(commands))
            return [self._answer() for _ in range(count)]
        except (OSError, EOFError) as error:
            raise self._gone(error) from error

    def numbers(self, commands: Iterable[bytes], count: int) -> list[int | None]:
        """Send commands that answer with a number; None for nil, and for a key of another kind.

        Raises:
            PoolUnreachableError: the server is gone, or refuses access.
            KvPoolError: it can't answer such commands.
        """
        try:
            self._socket.sendall(b"".join(commands))
            lines = self._lines(count)
        except (OSError, EOFError) as error:
            raise self._gone(error) from error
        found = [int(line[1:]) if line[:1] == b":" else None for line in lines]
        if None in found:
            for line in lines:
                if line[:1] == b"-" and not line.startswith(_OF_ONE_KEY):
                    raise self.refused(RefusalError(line[1:].decode("utf-8", "replace")))
        return found

    def refused(self, refusal: RefusalError) -> KvPoolError:
        """Return the error for an answer that a command can't do without."""
        if refusal.word in _ACCESS:
            return PoolUnreachableError(
                "kv.redis.refused",
                f"Redis at {self.place} refuses access: {refusal}",
                hint="give the password with --password-file or AIBRIXCTL_REDIS_PASSWORD, the "
                "user in the URL",
                target=str(self._url),
            )
        return KvPoolError(
            f"kv.redis.{refusal.word.lower()}",
            f"Redis at {self.place} answers: {refusal}",
            hint=_HINTS.get(refusal.word, ""),
            target=str(self._url),
        )

    def _connect(self, ca_file: str | None, insecure: bool, timeout_s: float) -> socket.socket:
        context = _tls_context(ca_file, insecure) if self._url.tls else None
        try:
            plain = socket.create_connection((self._url.host, self._url.port), timeout_s)
        except OSError as error:
            raise self._gone(error) from error
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is None:
            return plain
        try:
            return context.wrap_socket(plain, server_hostname=self._url.host)
        except (OSError, EOFError) as error:
            plain.close()
            raise PoolUnreachableError(
                "kv.redis.tls",
                f"no TLS with {self.place}: {_reason(error)}",
                hint="--ca-file names certificates to trust, --insecure trusts any; where the "
                "server has no TLS, write redis in place of rediss",
                target=str(self._url),
            ) from error

    def _log_in(self, password: str | None) -> None:
        if password is not None:
            user = [self._url.username] if self._url.username else []
            answer = self.pipeline([command("AUTH", *user, password)], 1)[0]
            # A server that has no password says so, and lets everyone in.
            if isinstance(answer, RefusalError) and "password configured" not in str(answer):
                raise self.refused(answer)
        self.call("PING")
        if self._url.database:
            self.call("SELECT", self._url.database)

    def _gone(self, error: Exception) -> PoolUnreachableError:
        hint = "in a cluster: kubectl port-forward svc/NAME 6379"
        if self._is_open:
            hint = "it answered before: see whether the server still runs"
        elif isinstance(error, EOFError | ConnectionResetError) and not self._url.tls:
            hint = "where the server expects TLS, write rediss in place of redis"
        return PoolUnreachableError(
            "kv.redis.unreachable",
            f"no Redis answers at {self.place}: {_reason(error)}",
            hint=hint,
            target=str(self._url),
        )

    def _answer(self) -> Any:
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self._exactly(int(rest))
        if kind == b"*":
            return None if rest == b"-1" else [self._answer() for _ in range(int(rest))]
        if kind == b"+":
            return rest.decode("utf-8", "replace")
        if kind == b"-":
            return RefusalError(rest.decode("utf-8", "replace"))
        raise EOFError(f"what answers is no Redis: it sent {line[:40]!r}")

    def _line(self) -> bytes:
        end = self._buffer.find(b"\r\n", self._at)
        while end < 0:
            self._more()
            end = self._buffer.find(b"\r\n", self._at)
        line = self._buffer[self._at : end]
        self._at = end + 2
        return line

    def _lines(self, count: int) -> list[bytes]:
        """Return the next answers, each of them one line, and the last that were sent for."""
        while self._buffer.count(b"\r\n", self._at) < count:
            self._more()
        lines = self._buffer[self._at :].split(b"\r\n", count)
        self._buffer, self._at = lines.pop(), 0
        return lines

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) - self._at < size + 2:
            if size > _READ_BYTES:
                return self._large(size)
            self._more()
        data = self._buffer[self._at : self._at + size]
        self._at += size + 2
        return data

    def _large(self, size: int) -> bytes:
        """Read a long string straight into its place."""
        data = bytearray(size + 2)
        start = len(self._buffer) - self._at
        data[:start] = self._buffer[self._at :]
        self._buffer, self._at = b"", 0
        view = memoryview(data)[start:]
        while view:
            count = self._socket.recv_into(view)
            if not count:
                raise EOFError("the server closed the connection")
            view = view[count:]
        return bytes(memoryview(data)[:size])

    def _more(self) -> None:
        data = self._socket.recv(_READ_BYTES)
        if not data:
            raise EOFError("the server closed the connection")
        self._buffer = self._buffer[self._at :] + data
        self._at = 0


_HINTS = {
    "READONLY": "this is a replica; name the primary",
    "OOM": "the server is at its maxmemory",
    "LOADING": "the server is still loading its data; try again",
    "MOVED": "this is a node of a Redis Cluster, which LMCache's redis:// does not use",
}


def _tls_context(ca_file: str | None, insecure: bool) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise KvPoolUsageError(
            "kv.ca_file",
            f"{ca_file} holds no certificates that can be used: {_reason(error)}",
            target=ca_file,
        ) from error
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
