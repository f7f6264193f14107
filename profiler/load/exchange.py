"""One request and its answer: raw reads first, what they mean later."""

from array import array
from collections import deque
from typing import Literal

from profiler.load.http1 import BadStreamError, Body, Head, parse_head
from profiler.load.tokens import TokenStream, error_message

NAN = float("nan")
_MOST_ERROR_BODY = 65_536
Read = tuple[float, bytes]


class Exchange:
    """A request that is due, under way or over.

    Reads are appended as they come, ``(at, data)``, and parsed by :meth:`parse` when there
    is time for it. Times are seconds of ``time.monotonic``.

    Attributes:
        index: place in the schedule; due_at, sent_at: see ``profiler.samples``; NaN if not sent.
        reads: raw reads not yet parsed; raw_bytes: their size.
        last_read_at: for the stall timeout.
        cause: of its failure; None while under way or when it succeeded. message: in words.
        held_back: the cap on requests in flight, not the client's speed, made it late.
        resent: a connection that had idled too long was found closed, and it went out again.
        head, tokens: what was parsed so far.
    """

    __slots__ = (
        "_body",
        "_head_bytes",
        "_text",
        "cause",
        "complete",
        "due_at",
        "head",
        "held_back",
        "index",
        "last_read_at",
        "message",
        "over",
        "raw_bytes",
        "reads",
        "resent",
        "sent_at",
        "tokens",
        "wire",
    )

    def __init__(self, index: int, wire: bytes, due_at: float = NAN):
        self.index = index
        self.wire = wire
        self.due_at = due_at
        self.sent_at = NAN
        self.last_read_at = NAN
        self.reads: deque[Read] = deque()
        self.raw_bytes = 0
        self.cause: str | None = None
        self.message = ""
        self.held_back = False
        self.resent = False
        self.over = False
        self.complete = False
        self.head: Head | None = None
        self.tokens = TokenStream()
        self._head_bytes = b""
        self._body: Body | None = None
        self._text = bytearray()

    def fail(self, cause: str, message: str) -> None:
        """Record the first failure; later ones follow from it."""
        if self.cause is None:
            self.cause, self.message = cause, message

    def parse(self, most: int | None = None) -> bool:
        """Parse up to ``most`` waiting reads; return True when none is left.

        What can't be read becomes the failure ``bad_stream``.
        """
        reads = self.reads
        for _ in range(len(reads) if most is None else min(most, len(reads))):
            at, data = reads.popleft()
            self.raw_bytes -= len(data)
            if self.cause != "bad_stream":
                try:
                    self._take(at, data)
                except BadStreamError as error:
                    self.fail("bad_stream", str(error))
        return not self.reads

    def _take(self, at: float, data: bytes) -> None:
        if self._body is None:
            self._head_bytes += data
            parsed = parse_head(self._head_bytes)
            if parsed is None:
                return
            self.head, start = parsed
            self._body = Body(self.head)
            data = self._head_bytes[start:]
            self._head_bytes = b""
        assert self.head is not None
        payload = self._body.feed(data) if data else b""
        if self.streams:
            if payload:
                self.tokens.feed(at, payload)
            if self._body.ended:
                self.tokens.finish(at)
        elif len(self._text) < _MOST_ERROR_BODY:
            self._text += payload
        self.complete = self._body.ended

    @property
    def streams(self) -> bool:
        """True when the answer is a stream of events."""
        head = self.head
        return (
            head is not None
            and head.status == 200
            and "json" not in head.headers.get("content-type", "")
        )

    @property
    def refused(self) -> bool:
        """True when the answer is known not to be a stream of tokens."""
        if self.cause is not None or self.head is not None:
            return self.cause is not None or not self.streams
        return bool(self.reads) and self.reads[0][1][9:12] != b"200"

    @property
    def unanswered(self) -> bool:
        """True while no byte of an answer came."""
        return not self.reads and self.head is None and not self._head_bytes

    @property
    def chunked(self) -> bool:
        """True when the answer is known to come in chunks."""
        return self._body is not None and self._body.chunked

    def connection_ended(self, at: float, how: Literal["eof", "reset"]) -> None:
        """Take the end of the connection: the body's end, or a failure."""
        self.parse()
        if self._body is not None and self._body.ends_with_connection and how == "eof":
            self.complete = True
            try:
                self.tokens.finish(at)
            except BadStreamError as error:
                self.fail("bad_stream", str(error))
        elif not self.complete:
            self.fail("reset", "the server closed the connection before the answer was complete")

    def judge(self, asked: int, *, exact: bool) -> None:
        """Decide, once everything is parsed, whether the request succeeded.

        Args:
            asked: output tokens asked for.
            exact: whether fewer than that is a failure.
        """
        if self.head is not None and self.head.status != 200:
            # The status says more than whatever happened to the body.
            self.cause = None
            self.fail(f"http_{self.head.status}", self._error_text())
        elif self.head is not None and not self.streams:
            self.fail("bad_stream", f"the answer is not a stream: {self._error_text()}")
        tokens = self.tokens
        if tokens.error is not None:
            self.cause = None
            self.fail("stream_error", tokens.error)
        if self.cause is not None:
            return
        if not (tokens.done or tokens.finish_reason or tokens.completion_tokens):
            self.fail("bad_stream", "the stream ended without a finish_reason, usage or [DONE]")
        elif not tokens.at or self.output_tokens == 0:
            self.fail("no_output", "the answer holds no token")
        elif exact and self.output_tokens < 0.95 * asked and tokens.completion_tokens is not None:
            self.fail(
                "short_output",
                f"{self.output_tokens} of {asked} tokens were generated; "
                "the server does not honour ignore_eos",
            )

    def _error_text(self) -> str:
        import orjson

        try:
            return error_message(orjson.loads(bytes(self._text)))
        except ValueError:
            return bytes(self._text[:300]).decode("utf-8", "replace")

    @property
    def output_tokens(self) -> int:
        """Tokens generated: from ``usage``, or events with tokens where the server gave none."""
        known = self.tokens.completion_tokens
        return known if known is not None else sum(self.tokens.count)

    def arrivals(self) -> tuple["array[float]", "array[int]"]:
        """Return times and numbers of token events, from the first visible token on."""
        tokens, first = self.tokens, self.tokens.visible or 0
        return (tokens.at[first:], tokens.count[first:]) if first else (tokens.at, tokens.count)
