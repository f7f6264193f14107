"""Pools for the tests: what the real packages wrote, copied to where a test may change it."""

import json
import shutil
import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from kvpool.entry import Entry
from kvpool.pool import Depth, Pool

FIXTURES = Path(__file__).parent / "fixtures"
MANIFEST: dict[str, Any] = json.loads((FIXTURES / "manifest.json").read_text())
MODEL = MANIFEST["model"]


def entries(pool: Pool, depth: Depth = "headers", batch: int = 3) -> dict[str, Entry]:
    """Everything in a pool by its key, read in small batches."""
    found: dict[str, Entry] = {}
    for part in pool.scan(depth=depth, batch=batch):
        for entry in part:
            assert found.setdefault(entry.key, entry) is entry, f"{entry.key} was seen twice"
    return found


def copy(part: str, folder: Path) -> Path:
    """The files of a fixture in a folder of the test's own."""
    return shutil.copytree(FIXTURES / part, folder / part)


def load_redis(port: int, part: str = "lmcache-redis", database: int = 0) -> "redis.Redis":
    """Put a fixture into a server; return a client of it."""
    client = redis.Redis(port=port, db=database)
    for item in json.loads((FIXTURES / f"{part}.json").read_text()):
        client.set(item["key"], bytes.fromhex(item["value"]))
    return client


def keys(part: str) -> list[str]:
    """The keys that the real package wrote for a fixture."""
    return [item["key"] for item in MANIFEST["parts"][part]]


class _Replay(socketserver.BaseRequestHandler):
    """Answers as LMCache's server did when the fixture was made."""

    def handle(self) -> None:
        while request := self.request.recv(186, socket.MSG_WAITALL):
            answer = self.server.answers.get(_asked(request))  # type: ignore[attr-defined]
            if answer is None:
                return
            self.request.sendall(answer)


def _asked(request: bytes) -> tuple[int, bytes]:
    command, key = struct.unpack_from("=i", request)[0], request[36:].strip()
    return command, b"" if command == 5 else key


@contextmanager
def lm_server() -> Iterator[int]:
    """The port of a server that repeats the recorded answers of LMCache's."""
    recorded = json.loads((FIXTURES / "lmcache-lm.json").read_text())
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Replay) as server:
        server.daemon_threads = True
        server.answers = {  # type: ignore[attr-defined]
            _asked(bytes.fromhex(item["request"])): bytes.fromhex(item["answer"])
            for item in recorded
        }
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
