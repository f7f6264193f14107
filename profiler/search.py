"""Find the highest request rate that meets the SLO, in few probes.

The bracket grows geometrically from a guess until one rate passes and one does not, then is
halved in the logarithm of the rate until its sides lie within the tolerance. A rate counts as
passing when more probes of it passed than did not; the certified rate has passed with two seeds,
and the rate above it that caps it was probed twice as well. Where answers contradict each other
the lower rate is taken and a note says so.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from profiler.errors import ProfilerUsageError
from profiler.table import Status
from profiler.verdict import ProbeOutcome

Probe = Callable[[float | None], ProbeOutcome]
"""Runs load at a rate (requests/s), or one request at a time for None, each time freshly seeded."""

_COLD_STEP = 4.0
# At this share of the rate of one request after another, 97% of requests meet no other: a rate
# that has to be lower still is of no use to anyone.
_FLOOR_OF_SERIAL_RATE = 1 / 64


@dataclass(frozen=True)
class Guess:
    """Where to start: a rate (requests/s) and the factor by which it may well be wrong."""

    rate: float
    spread: float = 1.3


@dataclass(frozen=True)
class SearchResult:
    """The answer for one cell.

    Attributes:
        status: as in ``profiler.table.Cell``.
        max_request_rate: requests/s; 0 when infeasible, None when not measured.
        failing_request_rate: the lowest rate that missed the SLO above it; None without one.
        at: outcome at the certified rate; of one request at a time when infeasible; or None.
        limited_by: what was missed at the failing rate.
        probes: runs it took.
        notes: contradictions, doubts, and why nothing was measured.
    """

    status: Status
    max_request_rate: float | None
    failing_request_rate: float | None = None
    at: ProbeOutcome | None = None
    limited_by: str | None = None
    probes: int = 0
    notes: tuple[str, ...] = ()


class _StopSearchError(Exception):
    """The search can't go on; the message says why."""


def find_max_rate(
    probe: Probe,
    *,
    tolerance: float = 0.05,
    start: Guess | None = None,
    lowest: float = 1e-5,
    highest: float = 1e5,
    max_probes: int = 40,
    trust_misses: bool = False,
) -> SearchResult:
    """Return the highest rate that passes, to a relative tolerance.

    Args:
        probe: runs load and judges it.
        tolerance: stop when the passing and the failing rate differ by at most this share.
        start: a guess from neighbouring cells; without one the search starts from the rate of one
            request after another.
        lowest: requests/s; no lower rate is tried.
        highest: requests/s; no higher rate is tried.
        max_probes: runs after which the search stops with what it has.
        trust_misses: don't probe the failing side again; for engines that have no hiccups.

    Raises:
        ProfilerUsageError: the tolerance is outside 0.5% to 100%.
    """
    if not 0.005 <= tolerance <= 1:
        raise ProfilerUsageError(
            "search.tolerance",
            f"tolerance is {tolerance:g}; expected 0.005 to 1 (0.5% to 100%)",
            hint="5% is the default; halving it costs one more probe per cell",
        )
    search = _Search(probe, tolerance, lowest, highest, max_probes, trust_misses)
    try:
        guess = start or search.guess_from_serial_rate()
        return search.run(guess) if guess else search.infeasible()
    except _StopSearchError as stop:
        return search.stopped(str(stop))


@dataclass
class _Search:
    probe: Probe
    tolerance: float
    lowest: float
    highest: float
    max_probes: int
    trust_misses: bool
    seen: dict[float, list[ProbeOutcome]] = field(default_factory=dict)
    alone: list[ProbeOutcome] = field(default_factory=list)
    probes: int = 0
    floor: float | None = None

    def run(self, guess: Guess) -> SearchResult:
        """Bracket, halve, confirm."""
        rate: float | None = self.clamp(guess.rate)
        while rate is not None:
            self.observe(rate)
            low, high = self.bracket()
            if low is None and high is not None and self.is_hopeless(high):
                return self.infeasible()
            rate = self.next_rate(low, high, guess.spread)
        return self.result()

    def next_rate(self, low: float | None, high: float | None, spread: float) -> float | None:
        """Return the rate to probe next, or None when the answer stands."""
        if high is None:
            assert low is not None
            if low >= self.highest:
                return low if len(self.seen[low]) < 2 else None
            return self.clamp(low * self.step(spread))
        if low is None:
            return max(self.clamp(high / self.step(spread)), self.floor or self.lowest)
        if high / low > 1 + self.tolerance:
            middle = _tidy(math.sqrt(low * high))
            if low < middle < high:
                return middle
        return self.unconfirmed(low, high)

    def unconfirmed(self, low: float, high: float) -> float | None:
        """Return the side of the final bracket that needs another probe, if any."""
        if len(self.seen[low]) < 2:
            return low
        at_high = self.seen[high]
        if self.trust_misses and at_high[0].verdict == "miss":
            return None
        # A pass that did not repeat stays refused; a miss that did not repeat may be a fluke.
        fluke = at_high[0].verdict != "pass" and any(o.verdict == "pass" for o in at_high)
        return high if len(at_high) < (3 if fluke else 2) else None

    def step(self, spread: float) -> float:
        """Return the factor of the next outward move: it squares, up to the cold step."""
        exponent = min(2 ** (len(self.seen) - 1), 64)
        return float(min(spread**exponent, _COLD_STEP))

    def clamp(self, rate: float) -> float:
        return _tidy(min(max(rate, self.lowest), self.highest))

    def bracket(self) -> tuple[float | None, float | None]:
        """Return the highest accepted rate below every refused one, and the lowest refused."""
        refused = [rate for rate, outcomes in self.seen.items() if not _accepted(outcomes)]
        high = min(refused, default=None)
        accepted = [
            rate
            for rate, outcomes in self.seen.items()
            if _accepted(outcomes) and (high is None or rate < high)
        ]
        return max(accepted, default=None), high

    def is_hopeless(self, high: float) -> bool:
        """Return whether even the lowest rate worth trying was refused, by two probes.

        After two refused rates the engine is tried with one request at a time: what fails alone
        needs no slower search.
        """
        tried_enough = len(self.seen) >= 2 or high <= self.lowest
        if tried_enough and self.floor is None and self.guess_from_serial_rate() is None:
            return True
        return high <= (self.floor or 0.0) and len(self.seen[high]) >= 2

    def guess_from_serial_rate(self) -> Guess | None:
        """Return a guess from the latency of a lone request; None when that misses the SLO."""
        while not self.alone or (self.alone[-1].verdict != "pass" and len(self.alone) < 2):
            self.alone.append(self.ask(None))
        last = self.alone[-1]
        if last.verdict == "miss":
            return None
        if last.verdict == "client_limited":
            raise _StopSearchError(f"the client held back even a lone request: {last.reasons[0]}")
        e2e = last.latency.get("e2e")
        serial_rate = 1e3 / e2e.mean if e2e and e2e.mean > 0 else 1.0
        self.floor = self.clamp(serial_rate * _FLOOR_OF_SERIAL_RATE)
        return Guess(serial_rate, _COLD_STEP)

    def observe(self, rate: float) -> None:
        outcome = self.ask(rate)
        self.seen.setdefault(rate, []).append(outcome)

    def ask(self, rate: float | None) -> ProbeOutcome:
        """Run a probe, once more when it measured nothing."""
        for _ in range(2):
            if self.probes >= self.max_probes:
                raise _StopSearchError(f"stopped after {self.probes} probes")
            self.probes += 1
            outcome = self.probe(rate)
            if outcome.verdict != "error":
                return outcome
        at = "one request at a time" if rate is None else f"{rate:g} requests/s"
        raise _StopSearchError(f"at {at}: {'; '.join(outcome.reasons)}")

    def result(self, *notes: str) -> SearchResult:
        """Return the certified rate of the bracket as it stands."""
        low, high = self.bracket()
        assert low is not None
        passes = [outcome for outcome in self.seen[low] if outcome.verdict == "pass"]
        offered = sum(outcome.request_rate for outcome in passes) / len(passes)
        misses = [
            (rate, outcome)
            for rate, outcomes in sorted(self.seen.items())
            for outcome in outcomes
            if outcome.verdict == "miss" and not _accepted(outcomes) and rate > low
        ]
        failing = misses[0] if misses else None
        held_back = high is not None and all(o.verdict != "miss" for o in self.seen[high])
        extra = []
        if held_back and high is not None:
            reason = next(o for o in self.seen[high] if o.verdict == "client_limited").reasons[0]
            extra.append(f"lower bound: at {high:g} requests/s {reason}")
        if high is None:
            extra.append(f"no rate up to {low:g} requests/s missed the SLO")
        return SearchResult(
            status="client_limited" if held_back else "measured",
            max_request_rate=min(low, offered),
            failing_request_rate=failing and failing[0],
            at=passes[-1],
            limited_by=failing[1].reasons[0] if failing else None,
            probes=self.probes,
            notes=(*extra, *self.contradictions(), *notes),
        )

    def infeasible(self) -> SearchResult:
        """Return that no rate meets the SLO, with the latency of a lone request."""
        high = self.bracket()[1]
        lone = self.alone[-1]
        decisive, notes = lone, []
        if lone.verdict == "pass":
            assert high is not None
            decisive = self.seen[high][-1]
            notes = [f"met by lone requests, but missed at {high:g} requests/s"]
            if any(outcome.verdict != "miss" for outcome in self.seen[high]):
                return self.stopped("no probe of the lowest rate speaks for the engine")
        return SearchResult(
            status="infeasible",
            max_request_rate=0.0,
            failing_request_rate=high,
            at=lone,
            limited_by=decisive.reasons[0],
            probes=self.probes,
            notes=(*notes, *self.contradictions()),
        )

    def stopped(self, why: str) -> SearchResult:
        """Return what a search cut short is worth: a bracket, or nothing."""
        low, high = self.bracket()
        ran_out = self.probes >= self.max_probes
        if low is not None and high is not None and ran_out:
            return self.result(f"{why}: the limit lies between {low:g} and {high:g} requests/s")
        best = [] if low is None else [f"{low:g} requests/s passed before that"]
        notes = (why, *best, *self.contradictions())
        return SearchResult("not_measured", None, probes=self.probes, notes=notes)

    def contradictions(self) -> list[str]:
        """Return a note per rate that both passed and did not, and per pass above a miss."""
        notes = []
        for rate, outcomes in sorted(self.seen.items()):
            passed = sum(outcome.verdict == "pass" for outcome in outcomes)
            if 0 < passed < len(outcomes):
                notes.append(f"{rate:g} requests/s passed {passed} of {len(outcomes)} probes")
        high = self.bracket()[1]
        above = [rate for rate, o in self.seen.items() if high and rate > high and _accepted(o)]
        if above:
            notes.append(
                f"not monotone: {max(above):g} requests/s passed, {high:g} did not; the lower holds"
            )
        return notes


def _accepted(outcomes: list[ProbeOutcome]) -> bool:
    passed = sum(outcome.verdict == "pass" for outcome in outcomes)
    return passed > len(outcomes) - passed


def _tidy(rate: float) -> float:
    """Round to five significant digits, so that rates read well and repeat exactly."""
    return float(f"{rate:.5g}")
