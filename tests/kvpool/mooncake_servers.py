"""Mooncake masters for the tests: a real one with clients, and one that replays its answers."""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from kvpool.mooncake_client import SYSTEM_PACKAGES

FIXTURE = Path(__file__).parent / "fixtures" / "mooncake.json"
SEGMENTS = ("127.0.0.1:17001", "127.0.0.1:17002")
_START_LIMIT_S = 30.0
_PROGRAM = Path(sys.executable).parent / "mooncake_master"
MASTER = str(_PROGRAM) if _PROGRAM.exists() else shutil.which("mooncake_master")


def _why_no_mooncake() -> str:
    if MASTER is None or find_spec("mooncake") is None:
        return "Mooncake is not installed; pip install 'aibrixctl[mooncake]'"
    tried = subprocess.run([MASTER, "--version"], check=False, capture_output=True, text=True)
    lacking = "error while loading shared libraries" in tried.stderr
    return f"{tried.stderr.strip()}; apt install {SYSTEM_PACKAGES}" if lacking else ""


WHY_NO_MOONCAKE = _why_no_mooncake()
requires_mooncake = pytest.mark.skipif(bool(WHY_NO_MOONCAKE), reason=WHY_NO_MOONCAKE)
_CLIENT = """
import json, signal, sys
from mooncake.store import MooncakeDistributedStore
name, size, master = sys.argv[1:]
store = MooncakeDistributedStore()
status = store.setup(name, "P2PHANDSHAKE", int(size), 16 << 20, "tcp", "", master)
print("ready" if status == 0 else status, flush=True)
signal.pause()
"""


@dataclass
class Master:
    """A master that runs.

    ``seen`` are the requests that a replaying one got, as (method, path); ``clients`` are those
    that lend memory to a real one, by segment.
    """

    port: int
    rpc: int = 0
    seen: list[tuple[str, str]] = field(default_factory=list)
    clients: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"mooncake://127.0.0.1:{self.port}" + (f"?rpc={self.rpc}" if self.rpc else "")

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return bytes(answer.read())

    def post(self, path: str, body: Any = None) -> bytes:
        data = b"" if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=data)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return bytes(answer.read())


def until(what: Callable[[], Any], limit_s: float = _START_LIMIT_S) -> Any:
    """Ask until there is an answer; nothing tells when a master has got so far."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if found := what():
                return found
        time.sleep(0.02)
    raise AssertionError(f"not within {limit_s} s")


@contextmanager
def mooncake(
    folder: Path,
    segments: tuple[str, ...] = SEGMENTS,
    *,
    lease: str = "1s",
    client_ttl_s: int = 10,
    size: int = 64 << 20,
) -> Iterator[Master]:
    """Run a real master, and a client that lends memory for each segment."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        master = Master(one.getsockname()[1], two.getsockname()[1])
    assert MASTER is not None
    words = [f"-metrics_port={master.port}", f"-rpc_port={master.rpc}", "-rpc_address=127.0.0.1"]
    words += ["-metrics_host=127.0.0.1", f"-default_kv_lease_ttl={lease}"]
    words += [f"-client_ttl={client_ttl_s}"]
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((folder / "mooncake.log").open("wb"))
        master.process = subprocess.Popen([MASTER, *words], stdout=log, stderr=log)
        children = [master.process]
        stack.callback(_end, children)
        until(lambda: b'"service_ready":true' in master.get("/health"))
        for name in segments:
            child = subprocess.Popen(
                [sys.executable, "-c", _CLIENT, name, str(size), f"127.0.0.1:{master.rpc}"],
                stdout=subprocess.PIPE,
                stderr=log,
            )
            children.append(child)
            master.clients[name] = child
            assert child.stdout is not None
            stack.callback(child.stdout.close)
            assert b"ready" in child.stdout.readline()
        yield master


def _end(children: "list[subprocess.Popen[bytes]]") -> None:
    for child in reversed(children):
        child.kill()
        child.wait(10)


def scenes() -> dict[str, Any]:
    """What a real master answered; see ``fixtures/make_mooncake.py``."""
    found: dict[str, Any] = json.loads(FIXTURE.read_text())
    return found


@contextmanager
def replay(
    scene: str,
    *,
    job: str | None = None,
    states: int | None = None,
    keys: tuple[str, ...] = (),
    forgets: bool = False,
    health: str | None = None,
    segments: Callable[[list[dict[str, Any]]], None] | None = None,
    objects: Callable[[dict[str, Any], list[dict[str, Any]]], None] | None = None,
) -> Iterator[Master]:
    """Serve the recorded answers of a scene.

    The drain goes on by one recorded state with every question about it; when it has got to the
    last, the pool is as it was then. ``job`` is its id, and ``health`` what the master says of
    itself, instead of what was recorded; ``segments`` changes those of the beginning, and
    ``objects`` what is told of keys then, given the segments. It gets no
    further than the first so many ``states``, and then ``forgets`` the job as one does that starts
    anew. ``keys`` are listed too, and not known otherwise.
    """
    recorded = scenes()[scene]
    recorded["states"] = recorded["states"][:states]
    if job is not None:
        recorded = json.loads(json.dumps(recorded).replace(recorded["job"], job))
    if health is not None:
        recorded["before"]["/health"] = health
    if segments is not None:
        detail = json.loads(recorded["before"]["/get_segments_detail"])
        segments(detail["segments"])
        recorded["before"]["/get_segments_detail"] = json.dumps(detail)
    if objects is not None:
        detail = json.loads(recorded["before"]["/get_segments_detail"])
        objects(recorded["before"]["keys"], detail["segments"])
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Replay)
    server.daemon_threads = True
    server.scene = _Scene(recorded, keys, forgets)  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Master(server.server_port, seen=server.scene.seen)  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Scene:
    """The recorded answers, and how far the drain has got in them."""

    def __init__(self, recorded: dict[str, Any], keys: tuple[str, ...], forgets: bool):
        self.recorded = recorded
        self.forgets = forgets
        self.keys = keys
        self.states = list(recorded["states"])
        self.started = self.canceled = False
        self.seen: list[tuple[str, str]] = []

    def answer(self, method: str, path: str) -> tuple[int, str]:
        self.seen.append((method, path))
        parts = urlsplit(path)
        job = parse_qs(parts.query).get("job_id", [""])[0]
        if parts.path.startswith("/api/v1/drain_jobs"):
            return self._drain(parts.path, job)
        now = self.recorded["before" if len(self.states) > 1 else "after"]
        if self.canceled:
            now = self.recorded["canceled"]["pool"]
        if parts.path == "/batch_query_keys":
            asked = [unquote(key) for key in parts.query.removeprefix("keys=").split(",")]
            found = {key: now["keys"].get(key, self.recorded["missing"]) for key in asked}
            return 200, json.dumps({"success": True, "data": found})
        if parts.path == "/get_all_keys":
            return 200, "".join(key + "\n" for key in (*now["keys"], *self.keys))
        return (200, now[parts.path]) if parts.path in now else (404, "")

    def _drain(self, path: str, job: str) -> tuple[int, str]:
        if path == "/api/v1/drain_jobs":
            busy = 409, self.recorded["busy"]
            answer = busy if self.started else (200, self.recorded["create"])
            self.started = True
            return answer
        if job != self.recorded["job"] or (self.forgets and len(self.states) == 1):
            return 404, self.recorded["unknown"]
        if path.endswith("cancel") and "moving" in self.recorded:
            return 409, self.recorded["moving"]
        if path.endswith("cancel"):
            self.canceled = True
            return 200, self.recorded["canceled"]["answer"]
        if self.canceled:
            return 200, self.recorded["canceled"]["state"]
        return 200, self.states.pop(0) if len(self.states) > 1 else self.states[0]


class _Replay(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._serve("POST")

    def _serve(self, method: str) -> None:
        status, text = self.server.scene.answer(method, self.path)  # type: ignore[attr-defined]
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass
