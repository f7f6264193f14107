"""Faults that a served simulator can be told to have, so that what watches engines can be tried.

A fault is written ``NAME[=VALUE][@AFTER][:FOR]``: ``wedge@10s:5s`` begins ten seconds after the
start and lasts five. Each one acts in the simulator, so its signs are those of the real thing.
"""

import math
import random
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass

from accelerators.errors import UsageError
from accelerators.units import parse_duration, parse_fraction
from profiler.errors import ProfilerUsageError


@dataclass(frozen=True)
class Kind:
    """A fault that there is.

    Attributes:
        about: what it does.
        default: its value when none is given; None for one that takes none.
        share: whether the value is a share of one; otherwise it is a factor from 1.
    """

    about: str
    default: float | None = None
    share: bool = True


KINDS = {
    "wedge": Kind("the scheduler stops stepping, while /health still says 200"),
    "unhealthy": Kind("/health answers 503"),
    "errors": Kind("this share of requests fails with 500", 0.2),
    "slow": Kind("every step takes so many times as long", 3.0, share=False),
    "queue": Kind("one request runs at a time, and the others wait"),
    "preempt": Kind("after this share of steps the request admitted last loses its blocks", 0.2),
    "kv-full": Kind("this share of the KV cache is held by no request", 0.97),
    "cache-collapse": Kind("the prefix cache finds nothing"),
}
_FORM = re.compile(r"(?P<name>[a-z-]+)(=(?P<value>[^@:]+))?(@(?P<after>[^:]+))?(:(?P<lasts>.+))?")


@dataclass(frozen=True)
class Fault:
    """One fault with its value and its time, in seconds from the server's start."""

    name: str
    value: float
    after_s: float = 0.0
    for_s: float = math.inf

    def active(self, elapsed_s: float) -> bool:
        """Return whether it acts so long after the start."""
        return self.after_s <= elapsed_s < self.after_s + self.for_s


def parse_fault(text: str) -> Fault:
    """Return the fault that a text such as ``errors=20%@10s:5s`` names.

    Raises:
        ProfilerUsageError: no such fault, or a value or time that can't be read.
    """
    found = _FORM.fullmatch(text.strip())
    kind = KINDS.get(found["name"]) if found else None
    if found is None or kind is None:
        raise _refuse(text, f"expected NAME[=VALUE][@AFTER][:FOR], NAME one of {', '.join(KINDS)}")
    if found["value"] and kind.default is None:
        raise _refuse(text, f"{found['name']} takes no value")
    try:
        value = _value(kind, found["value"]) if found["value"] else kind.default or 1.0
        after_s = parse_duration(found["after"]) if found["after"] else 0.0
        for_s = parse_duration(found["lasts"]) if found["lasts"] else math.inf
    except UsageError as error:
        raise _refuse(text, error.message) from error
    return Fault(found["name"], value, after_s, for_s)


def _value(kind: Kind, text: str) -> float:
    if kind.share:
        return parse_fraction(text)
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 1 <= factor <= 1e6:
        raise UsageError("sim.fault", f"{text!r} is not a factor; expected a number from 1")
    return factor


def _refuse(text: str, problem: str) -> ProfilerUsageError:
    return ProfilerUsageError(
        "sim.fault",
        f"fault {text!r}: {problem}",
        hint="write e.g. wedge@10s, errors=20% or slow=3@10s:5s",
        target=text,
    )


class Faults:
    """The faults of one server, and which of them act now."""

    def __init__(self, faults: Iterable[Fault] = (), seed: int = 0):
        self._faults = tuple(faults)
        self._start_s = time.monotonic()
        self._chance = random.Random(seed)

    def value(self, name: str) -> float | None:
        """Return the value of a fault while it acts; the greatest where it is given twice."""
        if not self._faults:
            return None
        elapsed_s = time.monotonic() - self._start_s
        acting = [f.value for f in self._faults if f.name == name and f.active(elapsed_s)]
        return max(acting, default=None)

    def strikes(self, name: str) -> bool:
        """Draw whether a fault whose value is a chance hits this time."""
        chance = self.value(name)
        return chance is not None and self._chance.random() < chance

    def remaining_s(self, name: str) -> float:
        """Return how long from now on a fault still acts: 0 for one that does not, maybe inf."""
        elapsed_s = time.monotonic() - self._start_s
        ends = [f.after_s + f.for_s for f in self._faults if f.name == name and f.active(elapsed_s)]
        return max(ends, default=elapsed_s) - elapsed_s

    def states(self) -> dict[str, bool]:
        """Return each fault's name and whether it acts now."""
        return {fault.name: self.value(fault.name) is not None for fault in self._faults}
