"""The parent's side of reading a driver: a child with a deadline, and what it got done.

A driver can hang in a call that no signal ends. So the child is killed and not waited for: one
that can't die stays behind, and the report says which device held it.
"""

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Literal

from accelerators import children
from diagnose.errors import StoppedError
from diagnose.facts import DeviceFacts, Facts, Failure
from diagnose.findings import Device

_Kind = Literal["gpu", "npu"]
_REAP_S = 0.2
"""How long a killed child may take to disappear before it is left to the kernel."""
_MOST_UNDEAD = 8
"""Children of one reader that are stuck in the kernel, from which on no more are started: whoever
watches a driver that hangs must not fill the process table."""
_START_S = 10.0
"""How long a child may take to come to its first call of the driver; on a machine short of memory
or CPU that is long, and no fault of the driver."""
_LOOK_S = 0.05
"""How often whoever waits for a child looks whether it is to stop."""
_NOTHING = "nothing yet"
_ALONE_AFTER = 0.5
"""Share of the timeout after which each device still missing gets a child of its own: one that
hangs under a lock of the library then no longer hides the others."""


@dataclass
class _Progress:
    """What the children have said so far."""

    kind: _Kind
    opened: Mapping[str, Any] | None = None
    count: int = 0
    refused: Failure | None = None
    calling: str = _NOTHING
    of_device: dict[int, str] = field(default_factory=dict)
    identity: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    read: dict[int, Mapping[str, Any]] = field(default_factory=dict)

    def missing(self) -> list[int]:
        return [index for index in range(self.count) if index not in self.read]

    @property
    def complete(self) -> bool:
        return self.refused is not None or (self.opened is not None and not self.missing())

    def hear(self, message: Mapping[str, Any]) -> None:
        index = message.get("index")
        if index is not None and "read" in message:
            self.read[index] = message["read"]
        elif index is not None:
            self.of_device[index] = message["calling"]
            self.identity[index] = message["identity"] or self.identity.get(index, {})
        elif "opened" in message and self.opened is None:
            self.opened, self.count = message["opened"], message["devices"]
        elif self.opened is not None:
            return  # of a second child, which opens the driver again
        elif "refused" in message:
            self.refused = Failure(**message["refused"])
        else:
            self.calling = message["calling"]


def read(
    family: str,
    module: str,
    kind: _Kind,
    environment: Mapping[str, str],
    timeout_s: float,
    stopped: Callable[[], bool] = lambda: False,
) -> Facts:
    """Return what the reader ``module`` gets out of its driver within ``timeout_s``.

    The time counts from the first call of the driver. Never raises for what a driver does: a
    refusal, a hang and the end of the child are facts.

    Raises:
        StoppedError: ``stopped`` says that nobody wants the answer; the children are ended.
    """
    if len(undead := _undead(module)) >= _MOST_UNDEAD:
        return Facts(family=family, hung_in=f"{len(undead)} earlier reads, which can't be ended")
    progress = _Progress(kind)
    with contextlib.ExitStack() as stack:
        pipes = {stack.enter_context(_child(module, environment))}
        if not _ready(pipes, time.monotonic() + _START_S, stopped):
            text = f"the process that reads the driver did not start within {_START_S:g} s"
            return Facts(family=family, error=Failure("not_started", text))
        started_s = time.monotonic()
        _listen(pipes, progress, started_s + timeout_s * _ALONE_AFTER, stopped)
        if not progress.complete and progress.opened is not None:
            for index in progress.missing():
                pipes.add(stack.enter_context(_child(module, environment, str(index))))
        _listen(pipes, progress, started_s + timeout_s, stopped)
        ended = not pipes
    return _facts(family, progress, ended=ended)


@contextlib.contextmanager
def _child(module: str, environment: Mapping[str, str], *words: str) -> Iterator[Connection]:
    process, pipe = children.start(module, *words, environment=environment)
    try:
        with pipe:
            yield pipe
    finally:
        process.kill()
        try:
            process.wait(_REAP_S)
        except subprocess.TimeoutExpired:
            _left.setdefault(module, []).append(process)


_left: dict[str, list[subprocess.Popen[bytes]]] = {}


def _undead(module: str) -> list[subprocess.Popen[bytes]]:
    """Return the children that were killed and are still there, stuck in the kernel."""
    _left[module] = [process for process in _left.get(module, []) if process.poll() is None]
    return _left[module]


def _ready(pipes: set[Connection], until_s: float, stopped: Callable[[], bool]) -> list[Connection]:
    """Return the pipes that have a message or have ended; none when the time is over."""
    while (left_s := until_s - time.monotonic()) > 0:
        if stopped():
            raise StoppedError("diagnose.stopped", "stopped before the driver was read")
        if ready := wait(list(pipes), min(left_s, _LOOK_S)):
            return [pipe for pipe in ready if isinstance(pipe, Connection)]
    return []


def _listen(
    pipes: set[Connection], progress: _Progress, until_s: float, stopped: Callable[[], bool]
) -> None:
    """Take messages until all is read, every child has ended, or the time is over."""
    while pipes and not progress.complete:
        ready = _ready(pipes, until_s, stopped)
        if not ready:
            return
        for pipe in ready:
            try:
                progress.hear(json.loads(pipe.recv_bytes()))
            except (EOFError, OSError):
                pipes.discard(pipe)


def _facts(family: str, progress: _Progress, *, ended: bool) -> Facts:
    if progress.refused is not None:
        return Facts(family=family, error=progress.refused)
    if progress.opened is None:
        if ended and progress.calling == _NOTHING:
            text = "the process that reads the driver ended before it asked anything"
            return Facts(family=family, error=Failure("not_started", text))
        if ended:
            text = f"the process that read the driver died in {progress.calling}"
            return Facts(family=family, error=Failure("error", text))
        return Facts(family=family, hung_in=progress.calling)
    devices = tuple(_device(index, progress, ended=ended) for index in range(progress.count))
    return Facts(
        progress.opened["values"],
        _failures(progress.opened["failures"]),
        family=family,
        devices=devices,
    )


def _device(index: int, progress: _Progress, *, ended: bool) -> DeviceFacts:
    found = progress.read.get(index)
    if found is None:
        call = progress.of_device.get(index, progress.calling)
        text = f"the process that read the device died in {call}"
        return DeviceFacts(
            device=_identified(progress.kind, index, progress.identity.get(index, {})),
            error=Failure("error", text) if ended else None,
            hung_in=None if ended else call,
        )
    return DeviceFacts(
        found["values"],
        _failures(found["failures"]),
        device=_identified(progress.kind, index, found["identity"]),
        error=Failure(**found["error"]) if found["error"] else None,
    )


def _identified(kind: _Kind, index: int, identity: Mapping[str, Any]) -> Device:
    """Return a device by what it said of itself; that may be another index than its place."""
    return Device(kind, **{"index": index, **identity})


def _failures(body: Mapping[str, Any]) -> dict[str, Failure]:
    return {name: Failure(**failure) for name, failure in body.items()}
