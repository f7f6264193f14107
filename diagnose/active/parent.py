"""The parent's side of the active tests: a child per device, and what its silence means.

A test can hang in the driver, or take the process down with it. So each device is tested in a
process of its own, which is killed after too long a silence and not waited for.
"""

import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from accelerators import children
from diagnose.active import judge
from diagnose.active.judge import Trial
from diagnose.checks import Outcome
from diagnose.explain import Overrides
from diagnose.findings import Device, Finding, Unchecked

Level = Literal["quick", "full"]
Kind = Literal["auto", "cuda", "npu", "cpu"]

_CHILD = "diagnose.active.child"
_START_S = 120.0
"""For importing torch, from a cold disk too."""
_SILENCE_S = {"quick": 60.0, "full": 180.0}
"""A test that says nothing for so long hangs; the longest takes a fourth of that."""
_REAP_S = 0.2
_POLL_S = 0.2
_NO_TORCH = "; the active tests need torch: pip install 'aibrixctl[torch]'"
_NODE = Device("node")


@dataclass(frozen=True)
class Active:
    """The outcome of the active tests.

    Attributes:
        findings, unchecked, passed: as in a report.
        facts: what was measured, and the fraction of the accelerator's figure that was reached.
    """

    findings: tuple[Finding, ...] = ()
    unchecked: tuple[Unchecked, ...] = ()
    passed: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)


def run(
    level: Level = "quick",
    device: Kind = "auto",
    *,
    environment: Mapping[str, str] = os.environ,
    overrides: Overrides | None = None,
    beside_others: bool = False,
    stop: threading.Event | None = None,
) -> Active:
    """Test every accelerator that torch sees, one after the other, then the ways between them.

    Takes about 10 s a device at level ``quick`` and 2 minutes at ``full``. Never raises for what
    torch, a driver or a device does: that is a finding, or a test that could not be run.

    Args:
        level: how long, and how much of the memory.
        device: ``auto`` is every accelerator; ``cpu`` tries results, not speeds, on the CPU.
        environment: of the children; ``CUDA_VISIBLE_DEVICES`` there says which devices.
        overrides: a user's own severities and actions, by code.
        beside_others: test devices that other processes use too.
        stop: set by whoever wants the tests to end; what was measured is judged.
    """
    stop = stop or threading.Event()
    listed = _follow(("list", device), environment, _START_S, stop)
    if stop.is_set():
        return Active()
    found = listed.last("devices")
    if not found:
        why = listed.last("no_torch") or f"torch can't list its devices: {listed.end}"
        hint = _NO_TORCH if "import" in why else ""
        return Active(unchecked=(Unchecked("active", _NODE, f"{why}{hint}", skipped=False),))
    tested = [_test(about, level, environment, beside_others, stop) for about in found]
    peers = _test_peers(tested, level, environment, stop)
    outcome, facts = judge.judge(tested, peers, overrides or {})
    if stop.is_set():
        reason = "stopped before every test was run"
        outcome.unchecked.append(Unchecked("active", _NODE, reason, skipped=False))
    return _active(outcome, {"level": level, **facts})


def _active(outcome: Outcome, facts: Mapping[str, Any]) -> Active:
    return Active(tuple(outcome.findings), tuple(outcome.unchecked), outcome.passed, facts)


def _test(
    about: Mapping[str, Any],
    level: Level,
    environment: Mapping[str, str],
    beside_others: bool,
    stop: threading.Event,
) -> Trial:
    words = ("test", about["kind"], str(about["index"] or 0), level, str(int(beside_others)))
    talk = _follow(words, environment, _SILENCE_S[level], stop)
    return Trial(about, talk.messages, talk.end)


def _test_peers(
    tested: list[Trial], level: Level, environment: Mapping[str, str], stop: threading.Event
) -> Trial | None:
    """Test the ways between the devices that are well and ours alone; None with fewer than two."""
    able = [one for one in tested if one.about["index"] is not None and one.usable]
    if len(able) < 2:
        return None
    kind = able[0].about["kind"]
    indices = ",".join(str(one.about["index"]) for one in able)
    talk = _follow(("peers", kind, indices, level), environment, _SILENCE_S[level], stop)
    return Trial({"kind": kind, "index": None, "name": None}, talk.messages, talk.end)


@dataclass
class _Talk:
    """What a child said, and how it ended: ``done``, ``hung``, ``stopped`` or how it died."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    end: str = "done"

    def last(self, key: str) -> Any:
        return next((said[key] for said in reversed(self.messages) if key in said), None)


def _follow(
    words: tuple[str, ...], environment: Mapping[str, str], silence_s: float, stop: threading.Event
) -> _Talk:
    """Run a child to its end, or until it has been silent for too long."""
    talk = _Talk()
    with _child(words, environment) as (process, pipe):
        heard_s = time.monotonic()
        # Importing torch takes its time, whatever the level.
        allowed_s = max(silence_s, _START_S)
        while True:
            if stop.is_set():
                talk.end = "stopped"
                return talk
            try:
                if pipe.poll(_POLL_S):
                    talk.messages.append(json.loads(pipe.recv_bytes()))
                    heard_s, allowed_s = time.monotonic(), silence_s
                elif time.monotonic() - heard_s > allowed_s:
                    talk.end = "hung"
                    return talk
            except (EOFError, OSError):
                break
        if not (talk.messages and talk.messages[-1].keys() & {"done", "no_torch", "busy"}):
            talk.end = _death(process)
    return talk


def _death(process: "subprocess.Popen[bytes]") -> str:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_REAP_S)
    code = process.returncode
    if code is None:
        return "its process closed the pipe"
    return f"its process died of signal {-code}" if code < 0 else f"its process exited with {code}"


@contextlib.contextmanager
def _child(
    words: tuple[str, ...], environment: Mapping[str, str]
) -> Iterator[tuple["subprocess.Popen[bytes]", Any]]:
    process, pipe = children.start(_CHILD, *words, environment=environment)
    try:
        with pipe:
            yield process, pipe
    finally:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_REAP_S)
