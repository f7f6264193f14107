"""The reader's parent, with children that answer, refuse, hang and crash."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from diagnose import reading
from diagnose.errors import StoppedError
from diagnose.facts import Facts

DRIVER = """
import ctypes, os, signal, threading, time
from diagnose import child
from diagnose.child import Refused
from diagnose.facts import Failure

LOCK = threading.Lock()

class Error(Exception):
    pass

class Driver:
    def open(self, reader):
        reader.tell("init")
{open}
        reader.take("driver_version", "version", lambda: "1.2")
        return 3

    def read(self, index, reader):
        reader.identity["name"] = f"card {{index}}"
        reader.take("first", "ask_first", lambda: index)
{read}

    def failure_of(self, error):
        if not isinstance(error, Error):
            return None
        kind, text = error.args
        return Failure(kind, text)

def fail(kind, text):
    raise Error(kind, text)

child.serve(Driver())
"""


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Facts]:
    def call(
        *,
        opening: str = "pass",
        reads: str = "pass",
        timeout_s: float = 20.0,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Facts:
        source = DRIVER.format(open=f"        {opening}", read=f"        {reads}")
        (tmp_path / "pretend_driver.py").write_text(source)
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        return reading.read("nvidia", "pretend_driver", "gpu", environment, timeout_s, stopped)

    return call


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def test_everything_is_read_in_the_order_of_the_devices(read: Callable[..., Facts]) -> None:
    facts = read()
    assert facts.values == {"driver_version": "1.2"}
    assert [(each.device.index, each.device.name) for each in facts.devices] == [
        (0, "card 0"), (1, "card 1"), (2, "card 2")
    ]  # fmt: skip
    assert [each.get("first") for each in facts.devices] == [0, 1, 2]
    assert all(each.answers for each in facts.devices)


def test_a_reading_that_is_refused_is_a_failure_with_its_kind(read: Callable[..., Facts]) -> None:
    facts = read(reads="reader.take('fan', 'ask', lambda: fail('not_supported', 'no fan'))")
    assert facts.devices[0].failures["fan"].kind == "not_supported"
    assert facts.devices[0].answers


def test_a_device_that_is_gone_ends_its_own_reading_only(read: Callable[..., Facts]) -> None:
    facts = read(reads="index == 1 and reader.take('power', 'ask', lambda: fail('lost', 'gone'))")
    assert [each.answers for each in facts.devices] == [True, False, True]
    gone = facts.devices[1]
    assert gone.error is not None and gone.error.kind == "lost"
    assert gone.device.name == "card 1"


def test_a_bug_in_a_reader_is_not_health(read: Callable[..., Facts]) -> None:
    facts = read(reads="index == 2 and 1 / 0")
    error = facts.devices[2].error
    assert error is not None and "ZeroDivisionError" in error.text


def test_a_driver_that_refuses(read: Callable[..., Facts]) -> None:
    facts = read(opening="raise Refused(Failure('not_loaded', 'no module', 9))")
    assert facts.error is not None and (facts.error.kind, facts.error.number) == ("not_loaded", 9)


def test_a_device_that_hangs_is_named_in_time_and_its_processes_are_gone(
    read: Callable[..., Facts],
) -> None:
    hang = "index == 1 and reader.take('power', 'ask_power', lambda: time.sleep(600))"
    before = {process.pid for process in children()}
    started_s = time.monotonic()
    facts = read(reads=hang, timeout_s=3)
    assert time.monotonic() - started_s < 4
    assert [each.hung_in for each in facts.devices] == [None, "ask_power", None]
    assert facts.devices[1].device.name == "card 1"
    assert [each.get("first") for each in facts.devices] == [0, None, 2]
    assert {process.pid for process in children()} <= before


def test_a_driver_that_hangs_at_the_start(read: Callable[..., Facts]) -> None:
    facts = read(opening="time.sleep(600)", timeout_s=2)
    assert (facts.hung_in, facts.devices) == ("init", ())


def test_a_child_that_can_not_be_asked_to_end_is_killed(read: Callable[..., Facts]) -> None:
    deaf = "[signal.signal(s, signal.SIG_IGN) for s in (2, 15)]; time.sleep(600)"
    assert read(opening=deaf, timeout_s=1).hung_in == "init"


def test_a_device_that_hangs_under_a_lock_does_not_hide_the_others(
    read: Callable[..., Facts],
) -> None:
    """Devices behind a lock of the library are read once more, each in a process of its own."""
    locked = "LOCK.acquire() and index == 0 and time.sleep(600); LOCK.release()"
    facts = read(reads=locked, timeout_s=4)
    assert [each.answers for each in facts.devices] == [False, True, True]


def test_a_crash_in_one_device_does_not_take_the_others_along(read: Callable[..., Facts]) -> None:
    crash = "index == 0 and reader.take('x', 'ask_x', lambda: ctypes.string_at(0))"
    facts = read(reads=crash)
    assert [each.answers for each in facts.devices] == [False, True, True]
    error = facts.devices[0].error
    assert error is not None and "ask_x" in error.text


def test_a_crash_at_the_start_is_an_error_with_its_place(read: Callable[..., Facts]) -> None:
    facts = read(opening="os.kill(os.getpid(), signal.SIGSEGV)")
    assert facts.error is not None and "init" in facts.error.text


def test_a_slow_start_of_the_reader_is_not_the_drivers(read: Callable[..., Facts]) -> None:
    """The time counts from the first call: it is shorter here than any interpreter's start."""
    assert read(timeout_s=0.02).hung_in in (None, "init", "version", "ask_first")


def test_a_reader_that_never_comes_to_ask_is_no_hang(
    read: Callable[..., Facts], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_START_S", 0.001)
    facts = read()
    assert facts.hung_in is None
    assert facts.error is not None and facts.error.kind == "not_started"


def test_a_reader_that_can_not_even_be_imported_says_nothing_of_the_driver(
    tmp_path: Path,
) -> None:
    (tmp_path / "broken_reader.py").write_text("import a_package_that_is_not_installed\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    facts = reading.read("nvidia", "broken_reader", "gpu", environment, 20.0)
    assert facts.error is not None and facts.error.kind == "not_started"


def test_whoever_asks_may_stop_while_a_driver_hangs(read: Callable[..., Facts]) -> None:
    before = {process.pid for process in children()}
    asked_s = time.monotonic() + 1.0
    with pytest.raises(StoppedError):
        read(opening="time.sleep(600)", timeout_s=60, stopped=lambda: time.monotonic() > asked_s)
    assert time.monotonic() - asked_s < 5
    assert {process.pid for process in children()} <= before
