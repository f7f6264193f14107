"""A real redis-server of one's own, on a free port, gone at the end."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

requires_redis = pytest.mark.skipif(
    shutil.which("redis-server") is None,
    reason="redis-server is not installed; `make test` installs it",
)
_START_LIMIT_S = 20.0


@dataclass(frozen=True)
class Server:
    port: int
    password: str | None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"


@contextmanager
def redis_server(
    folder: Path,
    password: str | None = None,
    *,
    tls: Path | None = None,
    more: Sequence[str] = (),
    program: str = "redis-server",
) -> Iterator[Server]:
    """Run a server for the block; it keeps nothing on disk.

    ``tls`` is a folder with cert.pem and key.pem; ``more`` are further lines of configuration.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    lines = [
        *([f"port {port}"] if tls is None else _tls_lines(port, tls)),
        "bind 127.0.0.1",
        'save ""',
        "appendonly no",
        f"dir {folder}",
        *([f"requirepass {password}"] if password else []),
        *more,
    ]
    config = folder / "redis.conf"
    config.write_text("\n".join(lines) + "\n")
    process = subprocess.Popen(
        [program, str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait(process, port)
        yield Server(port, password)
    finally:
        process.terminate()
        process.wait(timeout=10)


def _tls_lines(port: int, folder: Path) -> list[str]:
    return [
        "port 0",
        f"tls-port {port}",
        f"tls-cert-file {folder}/cert.pem",
        f"tls-key-file {folder}/key.pem",
        "tls-auth-clients no",
    ]


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + _START_LIMIT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except ConnectionRefusedError:
            time.sleep(0.01)
    raise AssertionError(f"the server did not start (exit {process.poll()})")
