"""What one scenario or setting does to one node: the parts that add up to a state.

Layers are kept apart, so that one can be cleared without the others. Process lists, Ascend codes
and kernel-log lines are not conditional in the native library's state: :func:`merge` takes those
that hold at a moment, and :func:`transitions` says when to merge again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from mockfail.state import (
    Call,
    Event,
    Mode,
    Node,
    Override,
    Process,
    State,
    When,
)

ALWAYS = When()


@dataclass(frozen=True)
class Processes:
    """A GPU's process list while it holds."""

    gpu: int
    processes: tuple[Process, ...]
    when: When = ALWAYS


@dataclass(frozen=True)
class Codes:
    """An NPU's active fault codes while they hold."""

    npu: int
    codes: tuple[int, ...]
    when: When = ALWAYS


@dataclass(frozen=True)
class LogLine:
    """A line of the kernel log, and when it is written."""

    text: str
    start_s: float = 0.0


@dataclass(frozen=True)
class Layer:
    """One named set of faults, its times counted from the start of the mock."""

    name: str
    overrides: tuple[Override, ...] = ()
    calls: tuple[Call, ...] = ()
    events: tuple[Event, ...] = ()
    processes: tuple[Processes, ...] = ()
    codes: tuple[Codes, ...] = ()
    log: tuple[LogLine, ...] = ()

    def later(self, seconds: float) -> "Layer":
        """Return the layer with every time moved, for one that joins a running mock."""

        def move(item: Any) -> Any:
            return replace(item, when=replace(item.when, start_s=item.when.start_s + seconds))

        return replace(
            self,
            overrides=tuple(map(move, self.overrides)),
            calls=tuple(map(move, self.calls)),
            events=tuple(map(move, self.events)),
            processes=tuple(map(move, self.processes)),
            codes=tuple(map(move, self.codes)),
            log=tuple(replace(line, start_s=line.start_s + seconds) for line in self.log),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "Layer":
        """Read the JSON form."""
        return cls(
            body["name"],
            overrides=tuple(Override(**_timed(item)) for item in body["overrides"]),
            calls=tuple(Call(**_timed(item)) for item in body["calls"]),
            events=tuple(Event(**_timed(item)) for item in body["events"]),
            processes=tuple(
                Processes(
                    item["gpu"],
                    tuple(Process(**process) for process in item["processes"]),
                    When(**item["when"]),
                )
                for item in body["processes"]
            ),
            codes=tuple(
                Codes(item["npu"], tuple(item["codes"]), When(**item["when"]))
                for item in body["codes"]
            ),
            log=tuple(LogLine(**line) for line in body["log"]),
        )


def _timed(item: Mapping[str, Any]) -> dict[str, Any]:
    return {**item, "when": When(**item["when"])}


def holds(when: When, moment_s: float) -> bool:
    """Tell whether something holds so long after the mock's start."""
    return when.start_s <= moment_s and (when.for_s is None or moment_s < when.start_s + when.for_s)


def merge(
    node: Node,
    layers: Sequence[Layer],
    moment_s: float,
    *,
    mode: Mode = "auto",
    started_s: float = 0.0,
    expires_s: float | None = None,
) -> State:
    """Return the state of a mock so long after its start; later layers win."""
    processes: dict[int, tuple[Process, ...]] = {}
    codes: dict[int, tuple[int, ...]] = {}
    for layer in layers:
        for listing in layer.processes:
            if holds(listing.when, moment_s):
                processes[listing.gpu] = processes.get(listing.gpu, ()) + listing.processes
        for fault in layer.codes:
            if holds(fault.when, moment_s):
                known = codes.get(fault.npu, ())
                codes[fault.npu] = known + tuple(c for c in fault.codes if c not in known)
    return State(
        node,
        mode,
        overrides=tuple(o for layer in layers for o in layer.overrides),
        calls=tuple(c for layer in layers for c in layer.calls),
        events=tuple(e for layer in layers for e in layer.events),
        processes=processes,
        codes=codes,
        started_s=started_s,
        expires_s=expires_s,
    )


def transitions(layers: Iterable[Layer]) -> list[float]:
    """Return the moments at which :func:`merge` or the kernel log changes, in order."""
    found = {line.start_s for layer in layers for line in layer.log}
    for layer in layers:
        timed: tuple[Processes | Codes, ...] = (*layer.processes, *layer.codes)
        for item in timed:
            found.add(item.when.start_s)
            if item.when.for_s is not None:
                found.add(item.when.start_s + item.when.for_s)
    return sorted(moment for moment in found if moment > 0)


def log_lines(layers: Iterable[Layer], moment_s: float) -> list[LogLine]:
    """Return the kernel-log lines that are due, in order, each text at one time only once."""
    due = [line for layer in layers for line in layer.log if line.start_s <= moment_s]
    return sorted(dict.fromkeys(due), key=lambda line: line.start_s)
