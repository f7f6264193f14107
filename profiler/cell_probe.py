"""The probes of one cell: run and journalled, or replayed from an earlier run's journal."""

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from accelerators.documents import timestamp
from accelerators.errors import ToolError
from profiler.journal import Journal
from profiler.probes import InterruptedProbeError, Prober
from profiler.targets import Target
from profiler.verdict import ProbeOutcome

Event = dict[str, Any]
Engine = tuple[str | None, str | None]
"""What served, and its version."""
CellKey = tuple[str, int, int]
"""Target, input and output bound."""


def by_cell(events: Sequence[Event]) -> dict[CellKey, list[Event]]:
    """Return the probes of each cell in order, up to the first that measured nothing.

    A probe that failed is run again on resume, and so is all that followed it.
    """
    cells: dict[CellKey, dict[int, Event]] = {}
    for event in events:
        if event["type"] == "probe":
            key = (event["target"], event["input_tokens"], event["output_tokens"])
            cells.setdefault(key, {})[event["index"]] = event
    return {key: _usable(probes) for key, probes in cells.items()}


def _usable(probes: dict[int, Event]) -> list[Event]:
    usable: list[Event] = []
    while (event := probes.get(len(usable))) and event["outcome"]["verdict"] != "error":
        usable.append(event)
    return usable


def probe_seed(seed: int, *what: str | int) -> int:
    """Return a seed for a probe, the same in every run of a configuration."""
    text = "/".join(map(str, (seed, *what)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


@dataclass
class CellProbe:
    """Probes one cell; a :data:`profiler.search.Probe`.

    Attributes:
        target, prober, bounds: what is probed: its input and output bound.
        seed: of the run.
        journal: gets every probe that is run.
        stop: ends the search by InterruptedProbeError.
        earlier: probes of the run that is resumed; used while the search asks for the same rates.
        on_outcome: told the rate and outcome of every probe.
        rates: asked so far.
        fresh: how many of them were run, not replayed.
        draw: which random arrivals a simulated cell is searched under.
        engines: what served so far; more than one where it was changed between two runs.
        ended: when the last probe ended, ISO 8601; None before.
        lost: why the engine was out of reach at the last probe; None when it wasn't.
    """

    target: Target
    prober: Prober
    bounds: tuple[int, int]
    seed: int
    journal: Journal
    stop: threading.Event
    earlier: list[Event]
    on_outcome: Callable[[float | None, ProbeOutcome], None]
    rates: list[float | None] = field(default_factory=list)
    fresh: int = 0
    draw: int = 0
    engines: set[Engine] = field(default_factory=set)
    ended: str | None = None
    lost: ToolError | None = None

    @property
    def count(self) -> int:
        """Probes so far."""
        return len(self.rates)

    def __call__(self, rate: float | None) -> ProbeOutcome:
        """Return the outcome of a probe at a rate."""
        if self.stop.is_set():
            raise InterruptedProbeError
        outcome = self._replayed(rate) or self._measured(rate)
        if rate in self.rates and outcome.verdict == "miss":
            self.draw += 1
        self.rates.append(rate)
        self.on_outcome(rate, outcome)
        return outcome

    def _replayed(self, rate: float | None) -> ProbeOutcome | None:
        if self.count >= len(self.earlier):
            return None
        event = self.earlier[self.count]
        if event["request_rate"] != rate:
            self.earlier = []
            return None
        self.engines.add((event["engine"], event["engine_version"]))
        self.ended = event["ended"]
        return ProbeOutcome.from_json(event["outcome"])

    def _next_seed(self, rate: float | None) -> int:
        """Return the seed of the next probe.

        Every probe of an engine has prompts of its own. Simulated cells of all targets see the
        same arrivals, scaled, at each rate (common random numbers: answers stay monotone, and
        GPU types compare fairly). A rate is certified under the next arrivals; where these miss,
        the search goes on under them.
        """
        if self.target.kind == "sim":
            return probe_seed(self.seed, self.draw + (rate in self.rates))
        return probe_seed(self.seed, self.target.name, *self.bounds, self.count)

    def _measured(self, rate: float | None) -> ProbeOutcome:
        seed = self._next_seed(rate)
        found = self.prober.probe(*self.bounds, rate, seed)
        self.lost = found.lost
        if found.engine:
            self.engines.add((found.engine, found.engine_version))
        self.ended = timestamp()
        self.journal.append(
            {
                "type": "probe",
                "target": self.target.name,
                "input_tokens": self.bounds[0],
                "output_tokens": self.bounds[1],
                "index": self.count,
                "request_rate": rate,
                "seed": seed,
                "engine": found.engine,
                "engine_version": found.engine_version,
                "outcome": found.outcome.to_json(),
                "summary": found.summary,
                "ended": self.ended,
            }
        )
        self.fresh += 1
        # What the journal gives back on resume is rounded; the search sees the same at once.
        return ProbeOutcome.from_json(found.outcome.to_json())
