"""The OpenAI completions protocol as vLLM speaks it: requests in, chunks and answers out."""

import json
import random
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from profiler.sim.http1 import LAST_CHUNK, Connection, chunk
from profiler.sim.text import WORDS, count_tokens, generated_text, prompt_tokens

# Without ignore_eos a text ends after any token with this chance, on average after 256 of them.
_END_CHANCE = 1 / 256
_DEFAULT_MAX_TOKENS = 16
# A chat template adds about this many tokens to each message.
_MESSAGE_TOKENS = 4
_FINGERPRINT = "aibrixctl-simulator"


class ApiError(Exception):
    """A request that is answered with an error.

    Attributes:
        status: HTTP status.
        kind: vLLM's name of the class of error.
        param: the field at fault; None when no single one is.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "BadRequestError",
        param: str | None = None,
    ):
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param

    def to_json(self) -> dict[str, Any]:
        """Return vLLM's error body."""
        error = {"message": str(self), "type": self.kind, "param": self.param, "code": self.status}
        return {"error": error}


@dataclass(frozen=True)
class Ask:
    """What a client asks for.

    Attributes:
        chat: of the chat endpoint.
        input_tokens: of the prompt.
        output_tokens: what the engine will generate.
        reason: ``length`` or ``stop``.
        stream, usage: whether to stream, and to end the stream with the usage.
    """

    chat: bool
    input_tokens: int
    output_tokens: int
    reason: str
    stream: bool
    usage: bool


def parse_ask(raw: bytes, *, chat: bool, model: str, longest: int, draw: random.Random) -> Ask:
    """Return what a request body asks for.

    Args:
        raw: the body.
        chat: of the chat endpoint.
        model: the name served.
        longest: tokens of the longest sequence served.
        draw: decides where a text ends by itself, when the request has no seed.

    Raises:
        ApiError: not JSON, another model, a field of the wrong kind, or too long.
    """
    body = _body(raw)
    check_model(body, model)
    for name in ("n", "best_of"):
        if body.get(name) not in (None, 1):
            raise ApiError(f"{name} is {body[name]!r}; the simulator gives one answer", param=name)
    inputs = _chat_tokens(body) if chat else _prompt_tokens(body)
    limit = _limit(body, chat=chat, inputs=inputs, longest=longest)
    outputs, at_least = limit, _integer(body, "min_tokens", 0, least=0)
    if at_least > limit:
        raise ApiError(
            f"min_tokens must be less than or equal to max_tokens={limit}, got {at_least}."
        )
    if not _flag(body, "ignore_eos"):
        seed = body.get("seed")
        chance = random.Random(seed) if isinstance(seed, int) else draw
        outputs = _ends_after(chance, at_least, limit)
    options = body.get("stream_options") or {}
    return Ask(
        chat,
        inputs,
        outputs,
        "length" if outputs == limit else "stop",
        _flag(body, "stream"),
        isinstance(options, dict) and _flag(options, "include_usage"),
    )


def parse_tokenize(raw: bytes, model: str) -> int:
    """Return how many tokens the prompt or the messages of a body are."""
    body = _body(raw)
    check_model(body, model)
    return _chat_tokens(body) if "messages" in body else _prompt_tokens(body)


def _body(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise ApiError(f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise ApiError("the body is not a JSON object")
    return body


def check_model(body: Mapping[str, Any], model: str) -> None:
    """Raise ApiError unless the body names the model served, or none."""
    if body.get("model") not in (None, model):
        raise ApiError(
            f"The model `{body['model']}` does not exist. Valid aliases: {model}.",
            status=404,
            kind="NotFoundError",
            param="model",
        )


def _prompt_tokens(body: Mapping[str, Any]) -> int:
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and not isinstance(prompt[0], int):
        prompt = prompt[0]
    if isinstance(prompt, str) and prompt:
        return prompt_tokens(prompt)
    if isinstance(prompt, list) and prompt and all(type(token) is int for token in prompt):
        return prompt_tokens(prompt)
    found = "is missing" if prompt is None else "is neither a text nor a list of token ids"
    raise ApiError(f"prompt {found}; the simulator takes one prompt", param="prompt")


def _chat_tokens(body: Mapping[str, Any]) -> int:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ApiError("messages must be a list of at least one message", param="messages")
    return sum(_MESSAGE_TOKENS + _message_tokens(message) for message in messages)


def _message_tokens(message: Any) -> int:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        return count_tokens(content)
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        return sum(count_tokens(str(part.get("text", ""))) for part in content)
    raise ApiError("a message needs a role and a text as its content", param="messages")


def _limit(body: Mapping[str, Any], *, chat: bool, inputs: int, longest: int) -> int:
    """Return how many tokens to generate: what is asked for, cut to what the prompt leaves."""
    name = "max_tokens"
    if chat and body.get("max_completion_tokens") is not None:
        name = "max_completion_tokens"
    asked = _integer(body, name, longest if chat else _DEFAULT_MAX_TOKENS, least=1)
    if asked > longest:
        raise ApiError(
            f"max_tokens={asked} cannot be greater than max_model_len={longest}. Please request "
            f"fewer output tokens. (parameter=max_tokens, value={asked})",
            param="max_tokens",
        )
    if inputs > longest:
        raise ApiError(
            f"This model's maximum context length is {longest} tokens. However, your prompt "
            f"contains at least {longest + 1} input tokens, which exceeds this limit even without "
            "any output tokens. Please reduce the length of the input prompt. "
            f"(parameter=input_tokens, value={longest + 1})",
            param="input_tokens",
        )
    if inputs == longest:
        raise ApiError(
            "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)",
            param="max_tokens",
        )
    return min(asked, longest - inputs)


def _integer(body: Mapping[str, Any], name: str, default: int, *, least: int) -> int:
    value = body.get(name)
    if value is None:
        return default
    if type(value) is not int or value < least:
        raise ApiError(f"{name} is {value!r}; expected a whole number from {least}", param=name)
    return value


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value not in (None, True, False):
        raise ApiError(f"{name} is {value!r}; expected true or false", param=name)
    return bool(value)


def _ends_after(chance: random.Random, at_least: int, limit: int) -> int:
    """Return the tokens of a text that may end by itself once it has ``at_least``."""
    tokens = max(1, at_least)
    while tokens < limit and chance.random() >= _END_CHANCE:
        tokens += 1
    return min(tokens, limit)


class Answer:
    """The answer to one request while its tokens come: a stream, or one body at the end."""

    def __init__(self, ask: Ask, model: str, connection: Connection):
        self._ask = ask
        self._connection = connection
        self._tokens = 0
        self._base = {
            "id": f"{'chatcmpl' if ask.chat else 'cmpl'}-{uuid.uuid4().hex[:16]}",
            "object": _object(ask),
            "created": int(time.time()),
            "model": model,
        }
        self._frames: list[bytes] = []
        if ask.stream:
            self._frames = [self._frame(word, None) for word in WORDS]

    def token(self, *, last: bool) -> None:
        """Take the next token, and send what is due."""
        index, self._tokens = self._tokens, self._tokens + 1
        if self._ask.stream:
            self._stream(index, last=last)
        elif last:
            self._connection.respond(200, self._whole())

    def _stream(self, index: int, *, last: bool) -> None:
        payload = b""
        if index == 0 and self._ask.chat:
            payload = self._event([self._role()], prompt_token_ids=None, prompt_text=None)
        if not last:
            frame = self._frames[index % len(self._frames)]
            self._connection.write(payload + frame if payload else frame)
            return
        payload += self._frame(WORDS[index % len(WORDS)], self._ask.reason)
        if self._ask.usage:
            payload += self._event([], usage=self._usage(), system_fingerprint=_FINGERPRINT)
        self._connection.write(payload + chunk(b"data: [DONE]\n\n") + LAST_CHUNK)
        self._connection.end()

    def _role(self) -> dict[str, Any]:
        delta = {"role": "assistant", "content": ""}
        return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}

    def _frame(self, text: str, reason: str | None) -> bytes:
        """Return the event of one token; a chat's last alone has a stop_reason, as in vLLM."""
        ends: dict[str, Any] = {"logprobs": None, "finish_reason": reason}
        if self._ask.chat:
            stop = {} if reason is None else {"stop_reason": None}
            choice = {"index": 0, "delta": {"content": text}, **ends, **stop}
        else:
            choice = {"index": 0, "text": text, **ends, "stop_reason": None}
            choice["prompt_token_ids"] = None
        return self._event([{**choice, "token_ids": None}])

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        body = {**self._base, "choices": choices, **more}
        return chunk(b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n")

    def _usage(self) -> dict[str, int]:
        inputs = self._ask.input_tokens
        return {
            "prompt_tokens": inputs,
            "total_tokens": inputs + self._tokens,
            "completion_tokens": self._tokens,
        }

    def _whole(self) -> dict[str, Any]:
        text = generated_text(self._tokens)
        said: dict[str, Any] = {"text": text}
        if self._ask.chat:
            said = {"message": {"role": "assistant", "content": text}}
        ends = {"logprobs": None, "finish_reason": self._ask.reason, "stop_reason": None}
        return {
            **self._base,
            "choices": [{"index": 0, **said, **ends, "token_ids": None}],
            "system_fingerprint": _FINGERPRINT,
            "usage": self._usage(),
        }


def _object(ask: Ask) -> str:
    if not ask.chat:
        return "text_completion"
    return "chat.completion.chunk" if ask.stream else "chat.completion"
