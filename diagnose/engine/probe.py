"""Ask an engine what it is: health, metrics at several times, and a canary request of our own.

The canary runs beside the scrapes, so that a diagnosis takes no longer than the longer of the two;
where it did not finish, one more scrape tells whether the engine gave any token meanwhile.
"""

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from diagnose.engine.exchange import Address, Answer, exchange
from diagnose.engine.metrics import Scrape, read_scrape, since_restart
from diagnose.errors import DiagnoseUsageError
from diagnose.explain import Overrides

CANARY_TOKENS = 4
_PROMPT = "Reply with the word ready."
_LEAST_S = 0.01


@dataclass(frozen=True)
class EngineConfig:
    """Which engine, and how to look at it.

    Attributes:
        address: of the server.
        model: name in the API; None takes the first one served.
        token: bearer token; None for none.
        interval_s: between two scrapes.
        samples: scrapes, at least two: rates need them.
        timeout_s: for every single answer, and for the canary.
        canary: whether to send a request of our own.
        overrides: a user's own severities and actions, by code.

    Raises:
        DiagnoseUsageError: fewer than two samples, no time, or a token no header can carry.
    """

    address: Address
    model: str | None = None
    token: str | None = None
    interval_s: float = 2.0
    samples: int = 3
    timeout_s: float = 10.0
    canary: bool = True
    overrides: Overrides = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise DiagnoseUsageError(
                "engine.samples", f"{self.samples} samples; rates need at least 2"
            )
        if self.interval_s < _LEAST_S or self.timeout_s < _LEAST_S:
            raise DiagnoseUsageError("engine.time", "interval and timeout must be 10 ms or more")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise DiagnoseUsageError(
                "engine.token", "the API key holds characters that a header can't carry"
            )


@dataclass(frozen=True)
class Canary:
    """What became of our own request.

    Attributes:
        answer: as it came.
        tokens: events of the stream that carried text or a choice.
        finished: whether the stream came to its end.
        error: what the server said went wrong; None when it said nothing of the kind.
    """

    answer: Answer
    tokens: int
    finished: bool
    error: str | None

    @property
    def overdue(self) -> bool:
        """Whether it was taken, and had not finished by the deadline."""
        return self.answer.trouble == "timeout"

    @property
    def failed(self) -> bool:
        """Whether the engine itself failed to answer it."""
        status = self.answer.status
        cut = self.answer.trouble == "broken" or (status == 200 and not self.finished)
        by_status = status is not None and status >= 500
        return not self.overdue and (cut or by_status or (status == 200 and bool(self.error)))


@dataclass(frozen=True)
class EngineFacts:
    """What was seen of an engine.

    Attributes:
        url: of the server.
        model: that the canary asked for.
        health: the last answer of ``/health``.
        scrapes: in order.
        unscraped: why metrics could not be read; None when every scrape succeeded.
        canary: None when it was not sent.
        no_canary: why it was not sent.
        refused: what asked for other credentials.
    """

    url: str
    health: Answer
    model: str | None = None
    scrapes: tuple[Scrape, ...] = ()
    unscraped: str | None = None
    canary: Canary | None = None
    no_canary: str | None = None
    refused: tuple[str, ...] = ()

    @property
    def comparable(self) -> tuple[Scrape, ...]:
        """The scrapes of one life of the engine."""
        return since_restart(self.scrapes)


def probe(config: EngineConfig, stop: threading.Event) -> EngineFacts:
    """Return what is seen of an engine; never raises for what it does.

    Raises:
        StoppedError: ``stop`` was set while an answer did not come.
    """
    return _Probe(config, stop).run()


class _Probe:
    """One look at one engine."""

    def __init__(self, config: EngineConfig, stop: threading.Event):
        self._config = config
        self._stop = stop
        self._url = config.address.url
        self._scrapes: list[Scrape] = []
        self._unscraped: str | None = None
        self._refused: list[str] = []

    def run(self) -> EngineFacts:
        health = self._ask("GET", "/health", stop=self._stop)
        if health.trouble == "unreachable":
            return EngineFacts(self._url, health)
        self._scrape()
        asleep = bool(self._scrapes) and self._scrapes[-1].asleep
        model, why_not = (None, None) if asleep else self._model()
        no_canary = self._reason_against(asleep=asleep, why_not=why_not)
        canary = self._beside(None if no_canary else model)
        if canary is not None and not canary.finished:
            self._scrape()
        if self._scrapes and len(since_restart(tuple(self._scrapes))) < 2:
            self._stop.wait(self._config.interval_s)
            self._scrape()
        return EngineFacts(
            self._url,
            self._ask("GET", "/health", stop=self._stop),
            model,
            tuple(self._scrapes),
            self._unscraped,
            canary,
            no_canary,
            tuple(dict.fromkeys(self._refused)),
        )

    def _reason_against(self, *, asleep: bool, why_not: str | None) -> str | None:
        if not self._config.canary:
            return "not asked for"
        return "the engine was put to sleep" if asleep else why_not

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        stop: threading.Event | None = None,
    ) -> Answer:
        headers = {"User-Agent": "aibrixctl", "Accept": "*/*"}
        if self._config.token:
            headers["Authorization"] = f"Bearer {self._config.token}"
        payload = None
        if body is not None:
            payload = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        config = self._config
        answer = exchange(
            config.address, method, path, config.timeout_s, body=payload, headers=headers, stop=stop
        )
        if answer.refused:
            self._refused.append(path)
        return answer

    def _scrape(self) -> None:
        at_s = time.monotonic()
        answer = self._ask("GET", "/metrics", stop=self._stop)
        if not answer.ok:
            self._unscraped = f"/metrics: {answer.summary}"
            return
        scrape = read_scrape(answer.body.decode("utf-8", "replace"), at_s)
        if scrape is None:
            self._unscraped = "/metrics holds no series of vLLM or SGLang"
        else:
            self._scrapes.append(scrape)

    def _model(self) -> tuple[str | None, str | None]:
        """Return the model to ask for, or why none is known."""
        if self._config.model is not None or not self._config.canary:
            return self._config.model, None
        answer = self._ask("GET", "/v1/models", stop=self._stop)
        if not answer.ok:
            return None, f"/v1/models: {answer.summary}"
        try:
            served = [str(entry["id"]) for entry in json.loads(answer.body)["data"]]
        except (ValueError, KeyError, TypeError):
            return None, "/v1/models gave no list of models"
        return (served[0], None) if served else (None, "/v1/models lists no model")

    def _beside(self, model: str | None) -> Canary | None:
        """Scrape at intervals while the canary for a model, if any, runs; return what it did."""
        done: list[Canary] = []
        thread = threading.Thread(target=lambda: done.append(self._send(model or "")), daemon=True)
        if model is not None:
            thread.start()
        for _ in range(self._config.samples - 1):
            if self._stop.wait(self._config.interval_s):
                break
            self._scrape()
        if model is None:
            return None
        while thread.is_alive() and not self._stop.is_set():
            thread.join(0.05)
        return done[0] if done else None

    def _send(self, model: str) -> Canary:
        """Send the canary, to the chat endpoint where there is no other."""
        common = {"model": model, "max_tokens": CANARY_TOKENS, "temperature": 0, "stream": True}
        answer = self._ask("POST", "/v1/completions", {**common, "prompt": _PROMPT})
        if answer.status in (404, 405):
            messages = [{"role": "user", "content": _PROMPT}]
            answer = self._ask("POST", "/v1/chat/completions", {**common, "messages": messages})
        return read_canary(answer)


def read_canary(answer: Answer) -> Canary:
    """Return what the events of a stream, or the error in its place, say."""
    tokens, finished, error = 0, False, None
    for line in answer.body.splitlines():
        if not line.startswith(b"data:"):
            continue
        event = line.removeprefix(b"data:").strip()
        if event == b"[DONE]":
            finished = answer.status == 200
            continue
        said = _object(event)
        if said.get("error"):
            error = str(said["error"])[:300]
        tokens += bool(said.get("choices"))
    if answer.status not in (None, 200):
        error = answer.body[:300].decode("utf-8", "replace") or answer.summary
    return Canary(answer, tokens, finished and tokens > 0 and error is None, error)


def _object(text: bytes) -> Mapping[str, Any]:
    try:
        body = json.loads(text)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
