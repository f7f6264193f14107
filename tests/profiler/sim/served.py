"""A simulated engine served in a thread, for tests that speak HTTP to one."""

import http.client
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from accelerators.names import resolve
from profiler.sim.replica import make_replica
from profiler.sim.server import Served, ServerConfig, serve

MODEL = "llama-2-7b"
REPLICA = make_replica(resolve("a10"), MODEL)


class Server:
    """A server in a thread, and plain requests to it."""

    def __init__(self, **options):
        self.stop = threading.Event()
        self.served: Served | None = None
        self._ready = threading.Event()
        self.url = ""
        self._config = ServerConfig(**{"replica": REPLICA, "model": MODEL, "speed": 100} | options)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(20)

    def _run(self) -> None:
        self.served = serve(self._config, self.stop, self._note)

    def _note(self, url: str) -> None:
        self.url = url
        self._ready.set()

    def close(self) -> Served:
        self.stop.set()
        self._thread.join(20)
        assert self.served is not None
        return self.served

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        assert parts.hostname and parts.port
        return parts.hostname, parts.port

    def ask(self, method: str, path: str, body=None, headers=None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(*self.address, timeout=20)
        try:
            payload = body if isinstance(body, bytes | None) else json.dumps(body)
            connection.request(method, path, payload, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def metric(self, name: str) -> float:
        status, text = self.ask("GET", "/metrics")
        assert status == 200
        found = re.search(
            rf"^{re.escape(name)}(?:[{{,].*)?\}}? (\S+)$", text.decode(), re.MULTILINE
        )
        assert found, f"no {name}"
        return float(found[1])

    def wait_for(self, name: str, value: float) -> None:
        deadline = time.monotonic() + 20
        while self.metric(name) != value:
            assert time.monotonic() < deadline, f"{name} never came to {value}"


@contextmanager
def running(**options) -> Iterator[Server]:
    server = Server(**options)
    try:
        yield server
    finally:
        server.close()


def body(**more) -> dict:
    return {"model": MODEL, "prompt": "one two three", "ignore_eos": True, "max_tokens": 9} | more
