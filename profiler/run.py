"""Profile targets: for every bucket the highest rate within the SLO, every probe journalled."""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from accelerators.documents import timestamp
from accelerators.errors import ToolError
from profiler import table as tables
from profiler.cell_probe import CellKey, CellProbe, Engine, Event, by_cell
from profiler.journal import Journal, digest
from profiler.neighbours import guess
from profiler.probes import InterruptedProbeError, Prober, prober_of
from profiler.run_config import ProfileConfig, check
from profiler.search import SearchResult, find_max_rate
from profiler.senders import Sender
from profiler.slo import Slo
from profiler.table import Cell, Provenance, ThroughputTable
from profiler.table_files import path_in
from profiler.targets import Target
from profiler.verdict import ProbeOutcome, needed_requests

# Below this no engine is probed: a window with the requests that a percentile needs would last
# for hours.
_LOWEST_RATE = {"http": 1e-3, "k8s": 1e-3, "sim": 1e-5}


@dataclass(frozen=True)
class Step:
    """What just happened, for a progress display.

    Attributes:
        target: its name.
        input_tokens, output_tokens: the bucket at work.
        done, total: buckets of all targets.
        rate: of the probe that ended (requests/s, None for one at a time), or None.
        outcome: of that probe; None when ``cell`` is decided.
        cell: the decided cell, or None.
    """

    target: str
    input_tokens: int
    output_tokens: int
    done: int
    total: int
    rate: float | None = None
    outcome: ProbeOutcome | None = None
    cell: Cell | None = None


@dataclass(frozen=True)
class ProfileRun:
    """What a profiling run left.

    Attributes:
        tables: one per target, in the order of the targets, with what was measured.
        paths: of their files.
        journal: path of the journal.
        interrupted: it was asked to stop.
        probes: probes run now; replayed: probes taken from the earlier part of a resumed run.
        lost: target name to the error that ended its measurement.
    """

    tables: tuple[ThroughputTable, ...]
    paths: tuple[Path, ...]
    journal: Path
    interrupted: bool
    probes: int
    replayed: int
    lost: dict[str, ToolError]

    @property
    def not_measured(self) -> int:
        """How many cells have no rate."""
        return sum(cell.status == "not_measured" for t in self.tables for cell in t.cells)


def run_profile(
    config: ProfileConfig,
    out: str | os.PathLike[str],
    *,
    resume: bool = False,
    stop: threading.Event | None = None,
    on_step: Callable[[Step], None] = lambda step: None,
    jobs: int = 1,
    senders: Mapping[str, Sender] | None = None,
) -> ProfileRun:
    """Measure every target and write ``out/NAME.table.json`` for each.

    Args:
        config: what to measure.
        out: folder of the journal and the tables; made where there is none.
        resume: continue the run whose journal is there.
        stop: when set, the run ends soon; cells without an answer are then ``not_measured``.
        on_step: told of every probe and cell, by one thread at a time.
        jobs: simulated targets at work at once, each in a process of its own. The tables are the
            same for any number. Engines are measured one after the other, alone.
        senders: by target, what sends loads to an engine that is not at a URL.

    Raises:
        ProfilerUsageError: the configuration is refused, or the journal is another run's.
        EngineUnreachableError: an engine can't be reached before anything of it was measured.
        ToolError: the disk is full, or a replica can't hold the model.
    """
    check(config)
    stop = stop or threading.Event()
    identity = config.identity(version("aibrixctl"))
    senders = senders or {}
    probers = {
        target.name: prober_of(target, config, stop, senders.get(target.name))
        for target in config.targets
    }
    with Journal(out, identity, resume=resume) as journal:
        for prober in probers.values() if not journal.records else ():
            prober.check()
        run = _Run(config, journal, stop, on_step, replay=by_cell(journal.records))

        def measure(target: Target, prober: Prober) -> ThroughputTable:
            table = run.table(target, prober, digest(identity))
            tables.save(table, path_in(out, target.name))
            return table

        made = _at_once(config, measure, stop, jobs)
        for target in config.targets:
            if target.name not in made:
                made[target.name] = measure(target, probers[target.name])
        result = ProfileRun(
            tables=tuple(made[target.name] for target in config.targets),
            paths=tuple(path_in(out, target.name) for target in config.targets),
            journal=journal.path,
            interrupted=stop.is_set(),
            probes=run.probes,
            replayed=run.replayed,
            lost=run.lost,
        )
        journal.append(
            {
                "type": "summary",
                "complete": not result.interrupted and result.not_measured == 0,
                "probes": result.probes,
                "replayed": result.replayed,
                "tables": [path.name for path in result.paths],
            }
        )
    return result


def _at_once(
    config: ProfileConfig,
    measure: Callable[[Target, Prober], ThroughputTable],
    stop: threading.Event,
    jobs: int,
) -> dict[str, ThroughputTable]:
    """Measure the simulated targets in processes; none where fewer than two could run at once."""
    simulated = [target for target in config.targets if target.kind == "sim"]
    if min(jobs, len(simulated)) < 2:
        return {}

    def measure_apart(target: Target) -> ThroughputTable:
        from profiler.sim_worker import SimulatedWorker

        with SimulatedWorker(target, config) as worker:
            return measure(target, worker)

    with ThreadPoolExecutor(jobs) as pool:
        measured = [pool.submit(measure_apart, target) for target in simulated]
        try:
            made = [future.result() for future in as_completed(measured)]
        except BaseException:
            stop.set()
            raise
    return {table.target: table for table in made}


@dataclass
class _Run:
    config: ProfileConfig
    journal: Journal
    stop: threading.Event
    on_step: Callable[[Step], None]
    replay: dict[CellKey, list[Event]]
    probes: int = 0
    replayed: int = 0
    done: int = 0
    lost: dict[str, ToolError] = field(default_factory=dict)
    engines: dict[str, set[Engine]] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def table(self, target: Target, prober: Prober, config_digest: str) -> ThroughputTable:
        """Measure one target."""
        cells: dict[tuple[int, int], Cell] = {}
        for bounds in self.config.cells:
            cells[bounds] = self.cell(target, prober, bounds, cells)
            with self.lock:
                self.done += 1
            self.step(target, bounds, cell=cells[bounds])
        engines = self.engines.get(target.name, set())
        engine = " and ".join(sorted({name for name, _ in engines if name})) or None
        engine_version = " and ".join(sorted({text for _, text in engines if text})) or None
        tool_version = version("aibrixctl")
        # An HTTP server may be our simulator as well, and then names itself so.
        simulated = target.kind == "sim" or "simulator" in (engine or "")
        return ThroughputTable(
            model=self.config.model,
            target=target.name,
            accelerator=target.accelerator.name if target.accelerator else None,
            gpus_per_replica=target.gpus,
            cost_usd_per_hour=target.cost_usd_per_hour,
            slos=self.config.slos,
            input_tokens=self.config.input_tokens,
            output_tokens=self.config.output_tokens,
            cells=tuple(cells.values()),
            provenance=Provenance(
                source="simulated" if simulated else "measured",
                engine=engine or ("simulator" if target.kind == "sim" else "unknown"),
                engine_version=tool_version if target.kind == "sim" else engine_version,
                where=target.where,
                tool_version=tool_version,
                seed=self.config.seed,
                created=self.ended.get(target.name) or timestamp(),
                tolerance=self.config.tolerance,
                config_digest=config_digest,
                via=target.via,
                notes=target.notes,
            ),
        )

    def cell(
        self,
        target: Target,
        prober: Prober,
        bounds: tuple[int, int],
        known: dict[tuple[int, int], Cell],
    ) -> Cell:
        """Search one cell; without an answer it says why in its notes."""
        if self.stop.is_set():
            return Cell(*bounds, notes=("interrupted before it was measured",))
        if target.name in self.lost:
            return Cell(*bounds, notes=(f"not tried: {self.lost[target.name].message}",))
        probe = CellProbe(
            target=target,
            prober=prober,
            bounds=bounds,
            seed=self.config.seed,
            journal=self.journal,
            stop=self.stop,
            earlier=self.replay.get((target.name, *bounds), []),
            on_outcome=lambda rate, found: self.step(target, bounds, rate=rate, outcome=found),
        )
        try:
            found = find_max_rate(
                probe,
                tolerance=self.config.tolerance,
                start=guess(self.config, bounds, known),
                lowest=_LOWEST_RATE[target.kind],
                max_probes=self.config.max_probes,
                trust_misses=target.kind == "sim",
            )
        except InterruptedProbeError as error:
            notes = ("interrupted in mid-search", *map(str, error.args))
            return Cell(*bounds, probes=probe.count, notes=notes)
        finally:
            with self.lock:
                self.probes += probe.fresh
                self.replayed += probe.count - probe.fresh
        self.engines.setdefault(target.name, set()).update(probe.engines)
        if probe.ended:
            self.ended[target.name] = max(probe.ended, self.ended.get(target.name, ""))
        if probe.lost is not None and found.status == "not_measured":
            self.lost[target.name] = probe.lost
        cell = _cell(bounds, found, self.config.slos)
        if probe.fresh:
            self.journal.append({"type": "cell", "target": target.name, **cell.to_json()})
        return cell

    def step(self, target: Target, bounds: tuple[int, int], **what: Any) -> None:
        total = len(self.config.targets) * len(self.config.cells)
        with self.lock:
            self.on_step(Step(target.name, *bounds, self.done, total, **what))


def _cell(bounds: tuple[int, int], found: SearchResult, slos: Sequence[Slo]) -> Cell:
    at, needed = found.at, needed_requests(slos)
    notes = found.notes
    if at is not None and found.max_request_rate and at.requests < needed:
        notes += (f"percentiles rest on {at.requests} requests; {needed} are needed",)
    return Cell(
        *bounds,
        status=found.status,
        max_request_rate=found.max_request_rate,
        failing_request_rate=found.failing_request_rate,
        latency=dict(at.latency) if at else {},
        output_tokens_per_s=at.output_tokens_per_s if at and found.max_request_rate else None,
        limited_by=found.limited_by,
        probes=found.probes,
        notes=notes,
    )
