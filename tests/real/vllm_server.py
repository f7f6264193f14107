"""A real vLLM of one's own: a tiny model on a free port, gone at the end."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .environments import vllm_command, why_not

MODEL = "tiny-llama"
LONGEST = 2048
_START_LIMIT_S = 400.0
_STOP_LIMIT_S = 60.0
_OPTIONS = (
    *("--served-model-name", MODEL, "--host", "127.0.0.1", "--enforce-eager"),
    *("--max-model-len", str(LONGEST), "--max-num-seqs", "64"),
)
# Of the CPU build; one with a GPU does not read the first.
_SETTINGS = {
    "VLLM_CPU_KVCACHE_SPACE": "2",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}


def command() -> str | None:
    """Return the path of the vllm command to test with; None without one."""
    return vllm_command() or None


_SKIP = pytest.mark.skipif(command() is None, reason=why_not("real-vllm"))
requires_vllm = [pytest.mark.real, _SKIP]


@dataclass(frozen=True)
class Vllm:
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            headers = {} if body is None else {"Content-Type": "application/json"}
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def events(self, path: str, body: Any) -> list[Any]:
        """Return the events of a stream, parsed; it must end with [DONE]."""
        status, raw = self.ask("POST", path, body | {"model": MODEL, "stream": True})
        assert status == 200, raw
        *lines, last = [line for line in raw.decode().split("\n\n") if line]
        assert last == "data: [DONE]"
        return [json.loads(line.removeprefix("data: ")) for line in lines]

    def metrics(self) -> dict[str, float]:
        """Return every sample of /metrics, those of one name summed over their labels."""
        status, text = self.ask("GET", "/metrics")
        assert status == 200
        sums: dict[str, float] = {}
        for name, value in re.findall(r"^([\w:]+)(?:\{.*\})? (\S+)$", text.decode(), re.MULTILINE):
            sums[name] = sums.get(name, 0.0) + float(value)
        return sums


@contextmanager
def vllm_server(vllm: str, folder: Path, *options: str) -> Iterator[Vllm]:
    """Make a model, serve it for the block, and stop the server; its log stays in the folder."""
    script = Path(__file__).with_name("tiny_llama.py")
    # The interpreter of the environment that the command is installed in.
    python = Path(vllm).resolve().with_name("python")
    subprocess.run([python, script, folder / "model"], check=True, env={**os.environ, **_SETTINGS})
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = folder / "vllm.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [vllm, "serve", folder / "model", "--port", str(port), *_OPTIONS, *options],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_SETTINGS},
            start_new_session=True,
        )
    _leave_a_core(process.pid)
    server = Vllm(port)
    try:
        _wait(process, server, log)
        yield server
    finally:
        _stop(process)


def _leave_a_core(pid: int) -> None:
    """Keep the server off one core: its processes spin, and would starve the client of all."""
    *cores, _ = sorted(os.sched_getaffinity(0))
    if cores:
        os.sched_setaffinity(pid, cores)


def _wait(process: "subprocess.Popen[bytes]", server: Vllm, log: Path) -> None:
    deadline = time.monotonic() + _START_LIMIT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if server.ask("GET", "/health")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)
    tail = log.read_text(errors="replace")[-3000:]
    raise AssertionError(f"vLLM did not start (exit {process.poll()}):\n{tail}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End the server as an operator does; its workers are in its session."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(_STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
