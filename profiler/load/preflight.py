"""Before any load: is the server up, does it let us in, does it have the model, what is it?"""

import http.client
import json
import ssl
import threading
import time
from dataclasses import dataclass
from typing import Any

from profiler.errors import EngineUnreachableError, ProfilerUsageError
from profiler.load.address import Address, headers
from profiler.load.config import LoadConfig
from profiler.load.tokens import error_message

_MOST_BODY = 4 * 2**20
_POLL_S = 0.5
_MOST_NAMED = 8


@dataclass(frozen=True)
class Engine:
    """What serves, as far as it says so; longest: tokens of prompt and answer together."""

    name: str
    version: str | None
    longest: int | None = None


@dataclass(frozen=True)
class _Answer:
    status: int
    server: str
    body: Any


def inspect(
    config: LoadConfig,
    address: Address,
    tls: ssl.SSLContext | None,
    stop: threading.Event | None = None,
) -> Engine:
    """Return what serves at the address, once it answers and has the model.

    Raises:
        EngineUnreachableError: no answer within ``ready_timeout_s``, or access refused.
        ProfilerUsageError: the server does not have the model; names those that it has.
    """
    answer = _wait_until_ready(config, address, tls, stop)
    refuse_access(answer.status, address, error_message(answer.body), bool(config.token))
    if 300 <= answer.status < 400:
        raise ProfilerUsageError(
            "load.redirect",
            f"{address.url} redirects (HTTP {answer.status})",
            hint="give the URL that it redirects to",
            target=address.url,
        )
    models = _models(answer)
    names = [str(model.get("id")) for model in models]
    if names and config.model not in names:
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        raise ProfilerUsageError(
            "load.model",
            f"{address.url} does not serve {config.model!r}; "
            f"it serves {', '.join(sorted(names)[:_MOST_NAMED])}{more}",
            hint="give one of these as the model",
            target=config.model,
        )
    ours: dict[str, Any] = next((m for m in models if m.get("id") == config.model), {})
    name = str(ours.get("owned_by") or answer.server or "unknown")
    longest = ours.get("max_model_len")
    return Engine(
        name, _version(config, address, tls), longest if isinstance(longest, int) else None
    )


def refuse_length(config: LoadConfig, engine: Engine) -> None:
    """Raise ProfilerUsageError where prompt and answer are longer than the engine says it takes."""
    wanted = config.input_tokens + config.output_tokens
    if engine.longest is None or wanted <= engine.longest:
        return
    raise ProfilerUsageError(
        "load.context_length",
        f"{config.input_tokens} input and {config.output_tokens} output tokens are {wanted}; "
        f"{config.base_url} takes at most {engine.longest} for {config.model!r}",
        hint="ask for fewer, or serve the model with a longer context",
        target=config.model,
    )


def refuse_access(status: int, address: Address, message: str, has_token: bool) -> None:
    """Raise EngineUnreachableError for 401 and 403."""
    if status not in (401, 403):
        return
    raise EngineUnreachableError(
        "load.access",
        f"{address.url} refuses access: HTTP {status}, {message}",
        hint="the API key is wrong, or may not use this model"
        if has_token
        else "give an API key in a file (--token-file)",
        target=address.url,
    )


def _wait_until_ready(
    config: LoadConfig,
    address: Address,
    tls: ssl.SSLContext | None,
    stop: threading.Event | None,
) -> _Answer:
    """Ask for the models until the server answers other than with 5xx, or the time is over."""
    deadline = time.monotonic() + config.ready_timeout_s
    while True:
        try:
            answer = _get(config, address, tls, "/v1/models")
            trouble = f"HTTP {answer.status}, {error_message(answer.body)}"
            if answer.status < 500:
                return answer
        except (OSError, http.client.HTTPException) as error:
            trouble = _reason(error, config)
        stopped = stop is not None and stop.is_set()
        if stopped or time.monotonic() >= deadline:
            waited = f" after {config.ready_timeout_s:g} s" if config.ready_timeout_s else ""
            raise EngineUnreachableError(
                "load.unreachable",
                f"{address.url} is not ready{waited}: {trouble}",
                hint="start the server, check the URL, or wait for it with --ready-timeout",
                target=address.url,
            )
        (stop or threading.Event()).wait(_POLL_S)


def _reason(error: Exception, config: LoadConfig) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing came within {config.connect_timeout_s:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _get(config: LoadConfig, address: Address, tls: ssl.SSLContext | None, path: str) -> _Answer:
    """GET a path; the body is parsed JSON, or text where it is not JSON."""
    timeout = config.connect_timeout_s
    connection = (
        http.client.HTTPConnection(address.host, address.port, timeout=timeout)
        if tls is None
        else http.client.HTTPSConnection(address.host, address.port, timeout=timeout, context=tls)
    )
    try:
        connection.request(
            "GET", address.path + path, headers={**headers(address, config), "Connection": "close"}
        )
        response = connection.getresponse()
        text = response.read(_MOST_BODY)
        server = response.getheader("Server") or ""
    finally:
        connection.close()
    try:
        body = json.loads(text)
    except ValueError:
        body = text.decode("utf-8", "replace")
    return _Answer(response.status, server, body)


def _models(answer: _Answer) -> list[dict[str, Any]]:
    if answer.status != 200 or not isinstance(answer.body, dict):
        return []
    data = answer.body.get("data")
    return [m for m in data if isinstance(m, dict)] if isinstance(data, list) else []


def _version(config: LoadConfig, address: Address, tls: ssl.SSLContext | None) -> str | None:
    try:
        answer = _get(config, address, tls, "/version")
    except (OSError, http.client.HTTPException):
        return None
    version = answer.body.get("version") if isinstance(answer.body, dict) else None
    return str(version) if version is not None and answer.status == 200 else None
