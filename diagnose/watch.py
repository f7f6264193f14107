"""Diagnose again and again, through restarts and hangs of the driver."""

import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from diagnose.changes import Change, Ledger
from diagnose.errors import NoAcceleratorError, StoppedError
from diagnose.facts import Earlier, Facts
from diagnose.findings import Report
from diagnose.run import Options, diagnose

RATES_S = 60.0
"""Over how long counters are watched, however short the interval: limits are per minute."""


@dataclass(frozen=True)
class Round:
    """One diagnosis of a watch.

    Attributes:
        number: from 1.
        report: None where there was no accelerator at all.
        changes: against the rounds before.
        took_s: wall time.
    """

    number: int
    report: Report | None
    changes: tuple[Change, ...]
    took_s: float


def rounds(
    options: Options,
    interval_s: float,
    stop: threading.Event,
    *,
    count: int | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Iterator[Round]:
    """Yield a round every ``interval_s``, from start to start, until ``stop`` or ``count``.

    A round that takes longer than the interval delays the next; one that ``stop`` ends is none. A
    machine whose accelerators have all gone goes on being watched; what was known of them stays
    known.

    Raises:
        DiagnoseUsageError, UsageError: as :func:`diagnose.run.diagnose`.
    """
    ledger = Ledger()
    history = _History()
    number = 0
    while not stop.is_set() and (count is None or number < count):
        number += 1
        started_s = time.monotonic()
        try:
            report = _once(options, environment, history.before(started_s), stop)
        except StoppedError:
            return
        changes = ledger.enter(report) if report else []
        yield Round(number, report, tuple(changes), time.monotonic() - started_s)
        if report is not None:
            history.enter(started_s, report)
        if count is None or number < count:
            stop.wait(max(0.0, started_s + interval_s - time.monotonic()))


def _once(
    options: Options,
    environment: Mapping[str, str],
    previous: Mapping[str, Earlier],
    stop: threading.Event,
) -> Report | None:
    try:
        return diagnose(options, environment, previous=previous, stop=stop)
    except NoAcceleratorError:
        return None


@dataclass
class _History:
    """The facts of rounds in which a family's driver answered, back to RATES_S ago."""

    rounds: dict[str, list[tuple[float, Facts]]] = field(default_factory=dict)

    def enter(self, at_s: float, report: Report) -> None:
        """Take what a round read."""
        for name, facts in report.facts.items():
            if isinstance(facts, Facts) and facts.answers:
                self.rounds.setdefault(name, []).append((at_s, facts))

    def before(self, now_s: float) -> dict[str, Earlier]:
        """Return what to hold a new round against: of RATES_S ago or before, else the oldest."""
        for known in self.rounds.values():
            while len(known) > 1 and known[1][0] <= now_s - RATES_S:
                known.pop(0)
        return {
            name: Earlier(known[0][1], now_s - known[0][0]) for name, known in self.rounds.items()
        }
