"""Which events of a completions stream carry tokens, and when they arrived.

An event is dispatched at its blank line; its time is that of the read that brought this line.
An event carries a token when its text is not empty. A chat stream's first event has a role and
no text: no token. An event with empty text between others stands for a token whose text the
server holds back (part of a character, a special token): it counts as an arrival, but can't be
the first token, since some servers open their stream with an empty event.
"""

import re
from array import array
from typing import Any

import orjson

from profiler.load.http1 import BadStreamError

_TEXT_KEYS = ("text", "content", "reasoning_content", "reasoning", "tool_calls")
_TEXT = re.compile(rb'"(?:text|content)": ?"((?:[^"\\]|\\.)*)"')
_LONGEST_EVENT = 16 * 2**20


class TokenStream:
    """Arrivals of tokens in one stream of server-sent events.

    Attributes:
        at: [a] seconds when a read brought tokens; count: [a] events with tokens in it.
        visible: index of the first arrival with visible text; None before it.
        prompt_tokens, completion_tokens: from the server's ``usage``; None without.
        finish_reason: of the answer; done: ``[DONE]`` was seen.
        error: message of an error event; None without.
    """

    __slots__ = (
        "_joint",
        "_prefix",
        "_rest",
        "_suffix",
        "at",
        "completion_tokens",
        "count",
        "done",
        "error",
        "finish_reason",
        "prompt_tokens",
        "visible",
    )

    def __init__(self) -> None:
        self.at = array("d")
        self.count = array("q")
        self.visible: int | None = None
        self.prompt_tokens: int | None = None
        self.completion_tokens: int | None = None
        self.finish_reason: str | None = None
        self.done = False
        self.error: str | None = None
        self._rest = b""
        # Events of a stream differ in their text alone: what precedes it, and what follows
        # it up to the blank line. Empty until an event has shown them.
        self._prefix = b""
        self._suffix = b""
        self._joint = b""

    def feed(self, at: float, payload: bytes) -> None:
        """Take the next bytes of the body, which arrived at ``at``.

        Raises:
            BadStreamError: an event is not what the protocol allows.
        """
        block = self._rest + payload if self._rest else payload
        if b"\r" in block:
            block = self._plain_lines(block)
        end = block.rfind(b"\n\n") + 2
        if end == 1:
            self._keep(block)
            return
        self._keep(block[end:])
        tokens, position = 0, 0
        while position < end and not self.done:
            if self._prefix and block.startswith(self._prefix, position):
                skimmed, position = self._skim(block, position)
                if skimmed:
                    tokens += skimmed
                    continue
            stop = block.find(b"\n\n", position)
            if stop < 0:
                # A blank line too many.
                break
            tokens += self._event(block[position:stop])
            position = stop + 2
        if tokens:
            self.at.append(at)
            self.count.append(tokens)

    def finish(self, at: float) -> None:
        """Take an event that the body's end left without a blank line."""
        if self._rest.strip():
            self.feed(at, b"\n\n")

    def _keep(self, rest: bytes) -> None:
        if len(rest) > _LONGEST_EVENT:
            raise BadStreamError(f"an event is longer than {_LONGEST_EVENT} bytes")
        self._rest = rest

    @staticmethod
    def _plain_lines(block: bytes) -> bytes:
        """Turn CRLF and CR into LF; a final CR waits, its LF may still come."""
        held = block.endswith(b"\r")
        block = block[:-1] if held else block
        block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return block + b"\r" if held else block

    def _skim(self, block: bytes, position: int) -> tuple[int, int]:
        """Count events that differ from the known form in their text alone.

        JSON text holds no raw line end, so a blank line ends an event, and where the known
        suffix meets the known prefix one plain event ends and another begins.
        """
        last = block.rfind(self._joint, position)
        if last >= 0:
            stop = last + len(self._suffix)
            events = block.count(self._joint, position)
            # Two line ends each and none else: every event up to there ends in a joint.
            if block.count(b"\n", position, stop) == 2 * events:
                return events, stop
        stop = block.index(b"\n\n", position) + 2
        return (1, stop) if block.endswith(self._suffix, position, stop) else (0, position)

    def _event(self, raw: bytes) -> int:
        """Read one event in full; return 1 when it carries a token."""
        data = b"\n".join(
            line[5:].removeprefix(b" ") for line in raw.split(b"\n") if line.startswith(b"data:")
        )
        if not data:
            return 0
        if data == b"[DONE]":
            self.done = True
            return 0
        try:
            event = orjson.loads(data)
        except ValueError as error:
            raise BadStreamError(f"an event is not JSON: {data[:60]!r}") from error
        if not isinstance(event, dict):
            raise BadStreamError(f"an event is not an object: {data[:60]!r}")
        if event.get("error"):
            self.error = self.error or error_message(event)
            return 0
        self._read_usage(event.get("usage"))
        choices = event.get("choices")
        if not choices:
            return 0
        return self._choice(choices[0], raw, plain=not event.get("usage"))

    def _read_usage(self, usage: Any) -> None:
        if not isinstance(usage, dict):
            return
        prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if isinstance(prompt, int) and prompt >= 0:
            self.prompt_tokens = prompt
        if isinstance(completion, int) and completion >= 0:
            self.completion_tokens = completion

    def _choice(self, choice: Any, raw: bytes, *, plain: bool) -> int:
        if not isinstance(choice, dict):
            raise BadStreamError("a choice is not an object")
        finish = choice.get("finish_reason")
        if isinstance(finish, str) and finish:
            self.finish_reason = finish
        delta = choice.get("delta", choice)
        if not isinstance(delta, dict):
            raise BadStreamError("a delta is not an object")
        has_text = any(delta.get(key) for key in _TEXT_KEYS)
        if not has_text:
            held = any(isinstance(delta.get(key), str) for key in _TEXT_KEYS)
            return 1 if held and not finish and not delta.get("role") else 0
        if self.visible is None:
            self.visible = len(self.at)
        if plain and not finish and not delta.get("role"):
            self._learn(raw)
        return 1

    def _learn(self, raw: bytes) -> None:
        """Take the form of a plain event, so that the ones like it need no parsing."""
        match = _TEXT.search(raw)
        if match is None or not raw.startswith(b"data:") or b"\n" in raw:
            return
        self._prefix = raw[: match.start(1)]
        self._suffix = raw[match.end(1) :] + b"\n\n"
        self._joint = self._suffix + self._prefix


def error_message(body: Any) -> str:
    """Return the message of an OpenAI-style error body, at most 300 characters."""
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or error
    return str(error)[:300]
