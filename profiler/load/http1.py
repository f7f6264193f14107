"""HTTP/1.1 responses from raw bytes, however these were split."""

import re
from dataclasses import dataclass


class BadStreamError(Exception):
    """The bytes are not what HTTP, SSE or the completions protocol allow."""


@dataclass(frozen=True, slots=True)
class Head:
    """Status line and headers; header names in lower case."""

    status: int
    headers: dict[str, str]

    @property
    def keeps_alive(self) -> bool:
        """True when the connection may carry another request."""
        return "close" not in self.headers.get("connection", "").lower()


_STATUS = re.compile(r"HTTP/1\.[01] (\d{3})(?: |$)")
_CHUNK_SIZE = re.compile(rb"\s*([0-9a-fA-F]{1,15})\s*(?:;.*)?$", re.DOTALL)
_LONGEST_HEAD = 65_536
_LONGEST_LINE = 8_192
_BULK = 1_024


def parse_head(data: bytes) -> tuple[Head, int] | None:
    """Return the final head in the data and where its body starts; None while it is incomplete.

    Interim heads (1xx) are passed over.

    Raises:
        BadStreamError: not an HTTP/1 response.
    """
    start = 0
    while True:
        end = data.find(b"\r\n\r\n", start)
        if end < 0:
            if len(data) > _LONGEST_HEAD or not b"HTTP/1."[: len(data) - start].startswith(
                data[start : start + 7]
            ):
                raise BadStreamError("the answer is not HTTP/1.1")
            return None
        first, *lines = data[start:end].decode("latin-1").split("\r\n")
        match = _STATUS.match(first)
        if match is None:
            raise BadStreamError(f"the answer starts with {first[:40]!r}; expected HTTP/1.1")
        start = end + 4
        status = int(match[1])
        if status >= 200:
            pairs = (line.partition(":") for line in lines)
            return Head(status, {name.strip().lower(): v.strip() for name, _, v in pairs}), start


class Body:
    """A body as its framing delimits it: chunked, by length, or up to the connection's end.

    Attributes:
        chunked: it comes in chunks.
        ended: True once it is complete.
    """

    __slots__ = ("_left", "_pending", "_skip", "_trailer", "chunked", "ended")

    def __init__(self, head: Head):
        self.chunked = "chunked" in head.headers.get("transfer-encoding", "").lower()
        length = head.headers.get("content-length")
        if length is not None and not length.isdigit():
            raise BadStreamError(f"Content-Length is {length[:40]!r}")
        # Payload bytes still due, of the body or of the open chunk; -1 = until the end.
        self._left = 0 if self.chunked else int(length) if length is not None else -1
        self._pending = b""
        self._skip = 0
        self._trailer = False
        self.ended = head.status in (204, 304) or (not self.chunked and self._left == 0)

    @property
    def ends_with_connection(self) -> bool:
        """True when only the end of the connection ends the body."""
        return not self.chunked and self._left < 0

    def feed(self, data: bytes) -> bytes:
        """Return the payload within the next bytes.

        Raises:
            BadStreamError: the framing is broken, or bytes follow the end.
        """
        if self.ended:
            raise BadStreamError("bytes follow the end of the body")
        if self.chunked:
            return self._feed_chunked(data)
        if self._left < 0:
            return data
        if len(data) > self._left:
            raise BadStreamError("the body is longer than its Content-Length")
        self._left -= len(data)
        self.ended = self._left == 0
        return data

    def _feed_chunked(self, data: bytes) -> bytes:
        parts: list[bytes] = []
        position = self._resume(data, parts)
        data, position = (self._pending + data, 0) if self._pending else (data, position)
        self._pending = b""
        if len(data) - position >= _BULK:
            position = self._take_many(data, position, parts)
        find, size = data.find, len(data)
        while position < size:
            end = find(b"\r\n", position)
            if end < 0:
                self._hold(data[position:])
                break
            if self._trailer:
                self._end_trailer(end == position, size - end - 2)
                position = end + 2
                continue
            length = _chunk_size(data[position:end])
            position = end + 2
            if length == 0:
                self._trailer = True
                continue
            self._left = length
            position += self._resume(data[position:], parts)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _take_many(self, data: bytes, position: int, parts: list[bytes]) -> int:
        """Take the whole chunks at the head of the data in one go, if no payload holds a CR.

        Between the CRs stand a size, a payload, a size and so on, each but the first with the LF
        of its line end before it, and every length must agree. Most of a run's parsing is this.
        """
        if self._left or self._skip or self._trailer:
            return position
        pieces = (data[position:] if position else data).split(b"\r")
        whole = (len(pieces) - 1) // 2 * 2
        if whole and not pieces[whole]:
            # The LF after the last payload is still to come.
            whole -= 2
        sizes, payloads = pieces[0:whole:2], pieces[1:whole:2]
        known = {size: _plain_size(size) for size in set(sizes)}
        lengths = [known[size] for size in sizes]
        if 0 in lengths:
            end = lengths.index(0)
            sizes, payloads, lengths = sizes[:end], payloads[:end], lengths[:end]
        if not lengths or lengths != [len(payload) - 1 for payload in payloads]:
            return position
        parts += [payload[1:] for payload in payloads]
        # Each pair has two CRs; its two LFs are in the pieces, but for the first and the last.
        return position + sum(map(len, sizes)) + sum(lengths) + 3 * len(lengths) + 1

    def _resume(self, data: bytes, parts: list[bytes]) -> int:
        """Take what belongs to the open chunk and to the line end after it; return its length."""
        taken = 0
        if self._left:
            part = data[: self._left]
            parts.append(part)
            taken = len(part)
            self._left -= taken
            self._skip = 0 if self._left else 2
        if self._skip:
            step = min(self._skip, len(data) - taken)
            self._skip -= step
            taken += step
        return taken

    def _hold(self, data: bytes) -> None:
        if len(data) > _LONGEST_LINE:
            raise BadStreamError("a chunk size has no line end")
        self._pending = data

    def _end_trailer(self, blank: bool, after: int) -> None:
        if blank:
            self.ended = True
            if after:
                raise BadStreamError("bytes follow the last chunk")


def _plain_size(line: bytes) -> int:
    """Return a chunk size, or -1 for what is none."""
    try:
        return int(line, 16)
    except ValueError:
        return -1


def _chunk_size(line: bytes) -> int:
    match = _CHUNK_SIZE.match(line)
    if match is None:
        raise BadStreamError(f"a chunk size reads {line[:40]!r}")
    return int(match[1], 16)
