"""The child's side of reading a driver: every device in its own thread, what is read streamed.

A family's reader module ends in ``child.serve(open_driver)``. Before each call it tells the parent
what it is about to ask, so that of a driver that hangs the parent knows where. Nothing here has a
deadline: the parent ends the process.

Messages are JSON objects: ``{"calling": …}``, ``{"opened": readings, "devices": n}``,
``{"refused": failure}``, and of a device ``{"index": i}`` with ``calling`` and ``identity``, or
with ``read`` (readings, identity and error).
"""

import json
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Protocol

from diagnose.facts import Failure

Tell = Callable[[str], None]
"""Say which call comes next."""


class Refused(Exception):  # noqa: N818 - not an error of ours: what the driver answered
    """The driver, or one of its devices as a whole, can't be read."""

    def __init__(self, failure: Failure):
        super().__init__(failure.text)
        self.failure = failure


@dataclass
class Reader:
    """Collects readings; each call either yields a value or a named failure.

    Attributes:
        tell: announces a call.
        failure_of: what a driver's exception means; None for one that is no driver's.
        identity: fields of :class:`diagnose.findings.Device`.
    """

    tell: Tell
    failure_of: Callable[[Exception], Failure | None]
    values: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    identity: dict[str, Any] = field(default_factory=dict)

    def take(self, name: str, call: str, ask: Callable[[], Any]) -> Any:
        """Read one thing under a name and return it; None when the driver refused.

        Raises:
            Refused: the device as a whole is gone, so that asking further is in vain.
        """
        return self.take_all((name,), call, lambda: (ask(),))[0]

    def take_all(
        self, names: Sequence[str], call: str, ask: Callable[[], Sequence[Any]]
    ) -> Sequence[Any]:
        """Read several things that one call gives, in the order of their names."""
        self.tell(call)
        try:
            values = ask()
        except Exception as error:
            failure = self.failure_of(error)
            if failure is None:
                raise
            if failure.kind in ("lost", "reset_required"):
                raise Refused(failure) from error
            self.failures.update(dict.fromkeys(names, failure))
            return [None] * len(names)
        self.values.update(zip(names, values, strict=True))
        return values


class Driver(Protocol):
    """What a family's reader module provides."""

    def open(self, reader: Reader) -> int:
        """Start the driver's library, read what it says of itself, return the device count."""

    def read(self, index: int, reader: Reader) -> None:
        """Read one device; identity first."""

    def failure_of(self, error: Exception) -> Failure | None:
        """Return what an exception of the driver's library means."""


def serve(driver: Driver) -> None:
    """Read everything, or the devices that the command line names, and end."""
    pipe = Connection(int(sys.argv[1]))
    lock = threading.Lock()

    def send(message: dict[str, Any]) -> None:
        with lock:
            pipe.send_bytes(json.dumps(message).encode())

    opening = Reader(lambda call: send({"calling": call}), driver.failure_of)
    try:
        count = driver.open(opening)
    except Refused as refused:
        send({"refused": asdict(refused.failure)})
        return
    except Exception as unexpected:
        send({"refused": asdict(_unexpected(unexpected))})
        return
    wanted = [int(word) for word in sys.argv[2:]] or list(range(count))
    send({"opened": _readings(opening), "devices": count})
    threads = [threading.Thread(target=_read, args=(driver, i, send)) for i in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _read(driver: Driver, index: int, send: Callable[[dict[str, Any]], None]) -> None:
    reader = Reader(
        lambda call: send({"index": index, "calling": call, "identity": reader.identity}),
        driver.failure_of,
    )
    error: Failure | None = None
    try:
        driver.read(index, reader)
    except Refused as refused:
        error = refused.failure
    except Exception as unexpected:
        error = driver.failure_of(unexpected) or _unexpected(unexpected)
    whole = _readings(reader) | {"identity": reader.identity, "error": error and asdict(error)}
    send({"index": index, "read": whole})


def _unexpected(error: Exception) -> Failure:
    return Failure("error", f"{type(error).__name__}: {error}")


def _readings(reader: Reader) -> dict[str, Any]:
    failures = {name: asdict(failure) for name, failure in reader.failures.items()}
    return {"values": reader.values, "failures": failures}
