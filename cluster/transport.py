"""Requests to an API server: signed in, with timeouts, back-off, and errors that name the deed."""

import gc
import json
import random
import threading
import time
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from cluster.errors import ClusterUnreachableError
from cluster.refusals import refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from urllib3 import BaseHTTPResponse

RETRIED = frozenset({429, 500, 502, 503, 504})
_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 5.0
_HURRIED_S = 3.0
_GLANCE_S = 0.1


@dataclass(frozen=True)
class Limits:
    """How patient requests are, in seconds.

    Attributes:
        connect_s: for a connection.
        read_s: for an answer, or for its next bytes.
        first_s: for all tries of requests before any was answered; a wrong address fails soon.
        retry_s: for all tries of one request from then on, so that a server may restart.
    """

    connect_s: float = 5.0
    read_s: float = 30.0
    first_s: float = 3.0
    retry_s: float = 30.0


PATIENT = Limits(first_s=60.0, retry_s=120.0)
"""For pods: the address is right there, and a result that is not delivered is lost."""


@dataclass(frozen=True)
class Deed:
    """What a request is about, for errors: ``list`` ``pods`` in a namespace, maybe of a name."""

    verb: str
    resource: str
    namespace: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class _Call:
    """One HTTP request; ``stream`` leaves the answer unread."""

    method: str
    path: str
    query: Mapping[str, str] | None = None
    body: Any = None
    content_type: str = ""
    stream: bool = False


class Transport:
    """The connections to one API server."""

    def __init__(self, configuration: Any, limits: Limits):
        from kubernetes.client.rest import RESTClientObject

        if not configuration.verify_ssl:
            _allow_unverified()
        self._configuration = configuration
        self._limits = limits
        self._pool = RESTClientObject(configuration).pool_manager
        self._answered = False
        self._hurry = threading.Event()

    @property
    def host(self) -> str:
        """Return the server's URL."""
        return str(self._configuration.host)

    def close(self) -> None:
        """Close all connections."""
        self._pool.clear()

    def heed(self, stop: threading.Event) -> None:
        """Try each request for a few seconds only from when ``stop`` is set: somebody waits."""
        self._hurry = stop

    def hurry(self) -> None:
        """Try each request for a few seconds only from here on."""
        self._hurry = threading.Event()
        self._hurry.set()

    def request(
        self,
        deed: Deed,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        """Return the JSON of an answer.

        A request is tried again after 429 and failures of the server, by its Retry-After or with
        growing delays; one that may already have been carried out only when it can be repeated,
        which holds for all but a POST.

        Raises:
            ClusterError: what the server refused, named by verb and resource.
        """
        with self._opened(deed, _Call(method, path, query, body, content_type)) as response:
            return _parsed(response.data)

    @contextmanager
    def stream(
        self, deed: Deed, path: str, query: Mapping[str, str]
    ) -> "Iterator[BaseHTTPResponse]":
        """Give an answer of unknown length for the block, unread."""
        with self._opened(deed, _Call("GET", path, query, stream=True)) as response:
            yield response

    @contextmanager
    def _opened(self, deed: Deed, call: "_Call") -> "Iterator[BaseHTTPResponse]":
        response = self._tried(deed, call)
        try:
            if response.status >= 400:
                raise refusal(deed, response.status, response.data, self.host)
            yield response
        finally:
            if call.stream:
                response.close()
            response.release_conn()

    def _tried(self, deed: Deed, call: "_Call") -> "BaseHTTPResponse":
        from urllib3.exceptions import (
            ConnectTimeoutError,
            HTTPError,
            MaxRetryError,
            NewConnectionError,
            SSLError,
        )

        began_s = time.monotonic()
        delay_s = _FIRST_DELAY_S
        while True:
            after_s = None
            try:
                response = self._once(call)
                self._answered = True
                repeatable = call.method != "POST" or response.status in (429, 503)
                if response.status not in RETRIED or not repeatable:
                    return response
                after_s = _retry_after(response)
                if self._gives_up(began_s, after_s or delay_s):
                    return response
                response.drain_conn()
            except (HTTPError, OSError) as error:
                cause = error.reason if isinstance(error, MaxRetryError) else error
                unsent = isinstance(cause, NewConnectionError | ConnectTimeoutError)
                if (
                    isinstance(cause, SSLError)
                    or not (unsent or call.method != "POST")
                    or self._gives_up(began_s, delay_s)
                ):
                    self._unreachable(deed, cause or error)
            # Clients that failed together do not come back together, nor sooner than asked.
            self._pause((after_s or delay_s) * random.uniform(1.0, 1.25))
            delay_s = min(delay_s * 2, _LONGEST_DELAY_S)

    def _once(self, call: "_Call") -> "BaseHTTPResponse":
        from urllib.parse import urlencode

        from urllib3 import Timeout

        headers = {"Accept": "application/json", **self._credentials()}
        if call.body is not None:
            headers["Content-Type"] = call.content_type
        response: BaseHTTPResponse = self._pool.request(
            call.method,
            self.host + call.path + (f"?{urlencode(call.query)}" if call.query else ""),
            body=None if call.body is None else json.dumps(call.body).encode(),
            headers=headers,
            timeout=Timeout(connect=self._limits.connect_s, read=self._limits.read_s),
            preload_content=not call.stream,
            retries=False,
        )
        return response

    def _credentials(self) -> dict[str, str]:
        """Return what signs a request; tokens that expire are fetched anew by the client."""
        return {
            auth["key"]: auth["value"]
            for auth in self._configuration.auth_settings().values()
            if auth["in"] == "header" and auth["value"]
        }

    def _gives_up(self, began_s: float, delay_s: float) -> bool:
        patience_s = self._limits.retry_s if self._answered else self._limits.first_s
        if self._hurry.is_set():
            patience_s = min(patience_s, _HURRIED_S)
        return time.monotonic() + delay_s > began_s + patience_s

    def _pause(self, seconds: float) -> None:
        """Wait, until somebody is in a hurry at most."""
        until_s, hurried = time.monotonic() + seconds, self._hurry.is_set()
        while (left_s := until_s - time.monotonic()) > 0 and self._hurry.is_set() == hurried:
            time.sleep(min(left_s, _GLANCE_S))

    def _unreachable(self, deed: Deed, error: BaseException) -> NoReturn:
        raise ClusterUnreachableError(
            "cluster.unreachable",
            f"cannot {deed.verb} {deed.resource}: no API server answers at {self.host}: "
            f"{_reason(error)}",
            hint="see whether `kubectl version` reaches it; choose another with --context",
            target=self.host,
        ) from error


def _parsed(text: bytes) -> dict[str, Any]:
    """Return the JSON of an answer.

    Cyclic garbage is not looked for meanwhile: JSON has none, and the search, begun time and again
    while a page of a long list grows, takes three times what the parsing does.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        answer: dict[str, Any] = json.loads(text)
        return answer
    finally:
        if enabled:
            gc.enable()


def _allow_unverified() -> None:
    """Say nothing of unverified certificates where the kubeconfig asks for that."""
    import urllib3

    urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)


def _reason(error: BaseException) -> str:
    """Return what went wrong on the wire, without the object addresses that urllib3 prints."""
    text = str(error)
    return text.rpartition(">: ")[2].rpartition("): ")[2] or type(error).__name__


def _retry_after(response: "BaseHTTPResponse") -> float | None:
    """Return the seconds that a server asks to wait, at most what we wait at all."""
    text = response.headers.get("Retry-After", "")
    return min(float(text), _LONGEST_DELAY_S) if text.isdigit() else None
