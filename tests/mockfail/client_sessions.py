"""How a client runs under a mock: anew for each state, or all the while, seeing them change."""

import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from fcntl import ioctl
from pathlib import Path
from xml.etree import ElementTree

from mockfail.state import Override, State
from tests.mockfail.client_outputs import Readings, blocks, metrics, squeezed
from tests.mockfail.obtain import debian_clients, debian_libraries, python_clients
from tests.mockfail.programs import MockFolder

Said = subprocess.CompletedProcess[str]
_LIMIT_S = 30


class Session(ABC):
    """A client under one mock."""

    def __init__(self, mock: MockFolder):
        self.mock = mock

    @abstractmethod
    def show(self, state: State) -> Readings:
        """Return what the client says once it sees the state."""

    def close(self) -> None:  # noqa: B027 - most have ended by themselves
        """End what still runs."""


class OneShot(Session):
    """A client that reads, prints and ends: it runs anew for each state."""

    def __init__(
        self,
        mock: MockFolder,
        commands: Sequence[Sequence[str | Path]],
        parse: Callable[[str], Readings],
        *,
        stdin: str = "",
        **variables: str,
    ):
        super().__init__(mock)
        self.commands, self.parse, self.stdin = commands, parse, stdin
        self.environment = mock.environment(**variables)

    def show(self, state: State) -> Readings:
        self.mock.write(state)
        readings: Readings = {}
        for command in self.commands:
            said = self._run(command)
            with suppress(ValueError, ElementTree.ParseError):  # a message in its place
                readings |= self.parse(said.stdout)
            if said.returncode != 0 or said.stderr.strip():
                words = said.stderr + (said.stdout if said.returncode != 0 else "")
                readings["exit"] = f"{said.returncode} {squeezed(words)}".strip()
        return readings

    def _run(self, command: Sequence[str | Path]) -> Said:
        return subprocess.run(
            [str(word) for word in command],
            env=self.environment, input=self.stdin, capture_output=True, encoding="utf-8",
            errors="replace",
            timeout=_LIMIT_S, check=False,
        )  # fmt: skip


class Live(Session):
    """A client that keeps running and shows each state as it finds it.

    It has shown a state when the draw of GPU 0, written thrice with another figure, has thrice
    come to be seen: a whole round of reading lies between the first two, and what it read there
    has been drawn before the third.
    """

    drawn_w = 70

    @abstractmethod
    def start(self) -> None:
        """Start the program."""

    @abstractmethod
    def read(self) -> Readings | None:
        """Return what it says now; None when it has ended."""

    @abstractmethod
    def draw_of(self, readings: Readings) -> int | None:
        """Return the draw of GPU 0 in watts among the readings."""

    running = False
    state: State | None = None

    def show(self, state: State) -> Readings:
        if self.state is None or not self.running or _needs_restart(self.state, state):
            self._restart(state)
        self.state = state
        for _ in range(3):
            self._write(state)
            readings = self._wait()
            if not self.running:
                break
        return readings

    def _restart(self, state: State) -> None:
        """Start healthy, so that the fault comes while it runs, unless it is one of the start."""
        self.close()
        healthy = replace(state, overrides=(), calls=(), events=(), processes={}, codes={})
        at_start = _needs_restart(healthy, state)
        self._write(state if at_start else healthy)
        self.start()
        self.running = True
        if not at_start:
            self._wait()

    def _write(self, state: State) -> None:
        self.drawn_w = 71 + (self.drawn_w - 70) % 25
        marker = Override("gpu", "power_mw", self.drawn_w * 1000, 0)
        self.mock.write(replace(state, overrides=(*state.overrides, marker)))

    def _wait(self) -> Readings:
        deadline = time.monotonic() + _LIMIT_S
        readings: Readings | None = {}
        while time.monotonic() < deadline:
            readings = self.read()
            if readings is None:
                self.running = False
                return {"exit": self.last_words()}
            if self.draw_of(readings) == self.drawn_w:
                return {place: text for place, text in readings.items() if not _is_draw(place)}
        raise TimeoutError(f"{type(self).__name__} never showed a draw of {self.drawn_w} W")

    def last_words(self) -> str:
        """Return what an ended program said."""
        return ""


def _is_draw(place: str) -> bool:
    return place.startswith("GPU 0") and "power" in place


def _needs_restart(before: State, after: State) -> bool:
    """Tell whether a program that counts GPUs once would have to be started again."""

    def counted(state: State) -> tuple[object, ...]:
        hidden = [o for o in state.overrides if o.scope == "node" or o.name == "hidden"]
        calls = [c for c in state.calls if c.gpu is None]
        return (state.node, hidden, calls)

    return counted(before) != counted(after)


class Exporter(Live):
    """nvitop-exporter: its metrics, scraped."""

    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        program = python_clients() / "nvitop-exporter"
        words = ["--bind-address", "127.0.0.1", "--port", str(self.port), "--interval", "0.25"]
        self.process = subprocess.Popen(
            [program, *words],
            env=self.mock.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def read(self) -> Readings | None:
        assert self.process
        time.sleep(0.02)  # between two scrapes
        if self.process.poll() is not None:
            return None
        try:
            address = f"http://127.0.0.1:{self.port}/metrics"
            with urllib.request.urlopen(address, timeout=5) as answer:
                return metrics(answer.read().decode())
        except OSError:
            return {}

    def draw_of(self, readings: Readings) -> int | None:
        draw = readings.get("GPU 0 gpu_power_usage_W", "NaN")
        return None if draw == "NaN" else int(float(draw))

    def last_words(self) -> str:
        assert self.process and self.process.stdout
        return squeezed(self.process.stdout.read().decode())

    def close(self) -> None:
        if self.process and self.process.stdout:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            self.process = None


class Nvtop(Live):
    """nvtop: its screen, on a terminal of our own."""

    child: int | None = None

    def start(self) -> None:
        import pyte

        self.screen = pyte.Screen(80, 60)
        self.stream = pyte.ByteStream(self.screen)
        program = str(debian_clients() / "usr/bin/nvtop")
        environment = self.mock.environment(
            LD_LIBRARY_PATH=debian_libraries(), TERM="xterm", HOME=str(self.mock.folder)
        )
        self.child, self.terminal = pty.fork()
        if self.child == 0:
            try:
                size = struct.pack("HHHH", self.screen.lines, self.screen.columns, 0, 0)
                ioctl(0, termios.TIOCSWINSZ, size)
                os.execve(program, [program, "-C", "-p", "-d", "1"], environment)
            finally:
                os._exit(127)

    def read(self) -> Readings | None:
        if select.select([self.terminal], [], [], 0.2)[0]:
            try:
                output = os.read(self.terminal, 1 << 16)
            except OSError:
                return None
            self.stream.feed(output)
        text = "\n".join(self.screen.display)
        text = re.sub(r"(\d)fC", "\\1°C", text)  # the degree sign of a terminal's second alphabet
        return blocks(text, r" Device (\d+) ", 3)

    def draw_of(self, readings: Readings) -> int | None:
        found = re.search(r"POW (\d+)", readings.get("GPU 0", ""))
        return int(found[1]) if found else None

    def show(self, state: State) -> Readings:
        readings = super().show(state)
        return {
            place: re.sub(r"POW \d+", "POW …", text) if place == "GPU 0" else text
            for place, text in readings.items()
            if place != "around" or "exit" in readings
        }

    def last_words(self) -> str:
        return squeezed(" ".join(self.screen.display))

    def close(self) -> None:
        if self.child:
            os.kill(self.child, signal.SIGKILL)
            os.waitpid(self.child, 0)
            os.close(self.terminal)
            self.child = None
