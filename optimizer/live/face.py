"""AIBrix's optimizer to those who ask over HTTP: the same paths, answers and numbers.

    GET    /metrics/{namespace}/{deployment}   what a PodAutoscaler reads
    PUT    /scale/{namespace}/{deployment}     {"replicas": n}: report n until -1 lifts it
    GET    /update_profile/{model}             read the profiles again
    POST   /monitor/{namespace}/{deployment}   plan for it
    DELETE /monitor/{namespace}/{deployment}   plan for it no longer

and of our own /metrics for Prometheus, /healthz and /readyz.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from accelerators.errors import ToolError
from optimizer.errors import OptimizerError
from optimizer.live import exposition
from optimizer.live.service import NO_OVERRIDE, ModelLoop

_LARGEST_BODY = 64 << 10
_MOST = 10**9


class Refused(Exception):  # noqa: N818 - an answer, not a fault of the server
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


Answer = tuple[int, str, str]  # status, content type, body


class Face:
    """Answers requests from the loops' standing; knows nothing of sockets."""

    def __init__(self, loops: Sequence[ModelLoop], *, changed: Callable[[], None]):
        """Take one loop per model; ``changed`` is called when something was set."""
        self.loops = {loop.model: loop for loop in loops}
        self.changed = changed
        self.beat_s = time.monotonic()

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        """Return the answer to one request."""
        parts = [unquote(part) for part in urlsplit(path).path.split("/")[1:]]
        try:
            return self._route(method, parts, body)
        except Refused as error:
            return _json(error.status, {"error": str(error)})

    def _route(self, method: str, parts: list[str], body: bytes) -> Answer:
        match parts:
            case ["metrics"]:
                _only(method, "GET")
                text = exposition.own_metrics(list(self.loops.values()), time.time())
                return 200, exposition.CONTENT_TYPE, text
            case ["metrics", namespace, name]:
                _only(method, "GET")
                return self._metric(f"{namespace}/{name}")
            case ["scale", namespace, name]:
                _only(method, "PUT")
                return self._scale(f"{namespace}/{name}", body)
            case ["update_profile", *model] if model:
                _only(method, "GET")
                return self._update("/".join(model))
            case ["monitor", namespace, name]:
                _only(method, "POST", "DELETE")
                return self._monitor(f"{namespace}/{name}", on=method == "POST")
            case ["healthz"]:
                _only(method, "GET")
                return self._health()
            case ["readyz"]:
                _only(method, "GET")
                return self._readiness()
            case _:
                raise Refused(404, "Not Found")

    def _find(self, key: str) -> ModelLoop:
        for loop in self.loops.values():
            if key in loop.standing.deployments:
                return loop
        known = sorted(k for loop in self.loops.values() for k in loop.standing.deployments)
        raise Refused(
            404, f"no profile of deployment {key}; known are {', '.join(known) or 'none'}"
        )

    def _metric(self, key: str) -> Answer:
        loop = self._find(key)
        try:
            value = loop.metric(key)
        except KeyError as error:
            raise Refused(404, f"deployment {key} is not monitored") from error
        if value is None:
            raise Refused(503, f"no plan of {loop.model} yet: {loop.standing.state.problem}")
        return 200, exposition.CONTENT_TYPE, exposition.deployment_replicas(loop.model, value)

    def _scale(self, key: str, body: bytes) -> Answer:
        loop, value = self._find(key), _replicas(body)
        try:
            loop.override(key, value)
        except KeyError as error:
            raise Refused(404, f"deployment {key} is not monitored") from error
        self.changed()
        return _json(200, {"message": f"Scaled to {value}"})

    def _update(self, model: str) -> Answer:
        loop = self.loops.get(model)
        if loop is None:
            raise Refused(404, f"{model} not monitored")
        try:
            loop.reload()
        except ToolError as error:
            message = f"failed to update workload profile of {model}: {error.message}"
            raise Refused(500, message) from error
        return _json(200, {"message": f"workload profile of {model} updated"})

    def _monitor(self, key: str, *, on: bool) -> Answer:
        changed = self._find(key).monitor(key, on=on)
        self.changed()
        if not on:
            return _json(200, {"message": "Deployment optimization stopped"})
        word = "started" if changed else "already started"
        return _json(200, {"message": f"Deployment optimization {word}"})

    def _health(self) -> Answer:
        longest = max((loop.settings.interval_s for loop in self.loops.values()), default=60.0)
        still_s = time.monotonic() - self.beat_s
        healthy = still_s < 3 * longest + 60
        body = {"status": "ok" if healthy else "stuck", "last_step_s": round(still_s, 3)}
        return _json(200 if healthy else 503, body)

    def _readiness(self) -> Answer:
        waiting = [m for m, loop in self.loops.items() if loop.standing.state.replicas is None]
        stale = {
            m: loop.standing.state.problem
            for m, loop in self.loops.items()
            if loop.standing.state.problem
        }
        status = "waiting" if waiting else "stale" if stale else "ok"
        body = {"status": status, "without_plan": waiting, "stale": stale}
        return _json(503 if waiting else 200, body)


def _only(method: str, *allowed: str) -> None:
    if method not in allowed:
        raise Refused(405, "Method Not Allowed")


def _json(status: int, body: dict[str, Any]) -> Answer:
    return status, "application/json", json.dumps(body, ensure_ascii=False) + "\n"


def _replicas(body: bytes) -> int:
    try:
        document = json.loads(body)
    except ValueError as error:
        raise Refused(400, f"the body is not JSON: {error}") from error
    value = document.get("replicas") if isinstance(document, dict) else None
    if isinstance(value, int) and not isinstance(value, bool) and NO_OVERRIDE <= value <= _MOST:
        return value
    raise Refused(400, 'expected {"replicas": n}, n a whole number from 0, or -1 to lift it')


def handler_of(face: Face) -> type[BaseHTTPRequestHandler]:
    """Return the class by which ``http.server`` has a face answer."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "aibrixctl"
        sys_version = ""
        timeout = 10

        def _answer(self) -> None:
            length = self.headers.get("Content-Length", "0")
            if not length.isdigit() or int(length) > _LARGEST_BODY:
                self.close_connection = True
                status, kind, text = _json(413, {"error": "the body is too large"})
            else:
                body = self.rfile.read(int(length))
                status, kind, text = face.answer(self.command, self.path, body)
            payload = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        do_GET = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing: a probe every second would drown what matters."""

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that go away in the middle."""


@contextmanager
def listening(face: Face, host: str, port: int) -> Iterator[str]:
    """Serve a face for the block; yields its base URL.

    Raises:
        OptimizerError: the address can't be listened on.
    """
    try:
        server = _Server((host, port), handler_of(face))
    except OSError as error:
        raise OptimizerError(
            "serve.listen",
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            hint="choose another --port, or 0 for a free one",
            target=f"{host}:{port}",
        ) from error
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
