"""Diagnose again and again, through restarts and hangs of the driver."""

import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from diagnose.changes import Change, Ledger
from diagnose.errors import NoAcceleratorError, StoppedError
from diagnose.facts import Facts
from diagnose.findings import Report
from diagnose.run import Options, diagnose


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
    previous: dict[str, Facts] = {}
    before_s: float | None = None
    number = 0
    while not stop.is_set() and (count is None or number < count):
        number += 1
        started_s = time.monotonic()
        apart_s = None if before_s is None else started_s - before_s
        try:
            report = _once(options, environment, previous, apart_s, stop)
        except StoppedError:
            return
        changes = ledger.enter(report) if report else []
        yield Round(number, report, tuple(changes), time.monotonic() - started_s)
        if report is not None:
            previous = {**previous, **_read(report)}
            before_s = started_s
        if count is None or number < count:
            stop.wait(max(0.0, started_s + interval_s - time.monotonic()))


def _once(
    options: Options,
    environment: Mapping[str, str],
    previous: Mapping[str, Facts],
    interval_s: float | None,
    stop: threading.Event,
) -> Report | None:
    try:
        return diagnose(options, environment, previous=previous, interval_s=interval_s, stop=stop)
    except NoAcceleratorError:
        return None


def _read(report: Report) -> dict[str, Facts]:
    """Return the facts of the families that answered: counters of others are older."""
    return {
        name: facts
        for name, facts in report.facts.items()
        if isinstance(facts, Facts) and facts.answers
    }
