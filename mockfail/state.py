"""What a mock says of the machine, and the file in which the native library reads it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mockfail.properties import Scope

Mode = Literal["auto", "overlay", "standalone"]
Value = int | bool | str


@dataclass(frozen=True)
class When:
    """Under what condition something holds; by default always.

    Attributes:
        start_s: from then on, counted from the state's ``started_s``.
        for_s: how long; None is for ever.
        ramp_s: over that time a number moves from its former value to the new one.
        after_calls: only after so many calls in the same process: of a :class:`Call` those that
            it is about, of anything else all calls since the process first saw a state that counts.
        probability: of each call; faults of equal probability and start strike together.
    """

    start_s: float = 0.0
    for_s: float | None = None
    ramp_s: float = 0.0
    after_calls: int = 0
    probability: float = 1.0


@dataclass(frozen=True)
class Override:
    """A reading that a fault sets; of several that hold, the last wins."""

    scope: Scope
    name: str
    value: Value
    index: int = 0
    link: int | None = None
    when: When = When()


@dataclass(frozen=True)
class Call:
    """A call that fails or hangs: ``nvmlDevice…`` on one GPU, or any function on all (None)."""

    function: str
    gpu: int | None = None
    error: int | None = None
    hang_ms: int = 0
    when: When = When()


@dataclass(frozen=True)
class Event:
    """An event for whoever registered for it; each process gets it once.

    It stays the same event, however the state around it is rewritten, as long as it begins at the
    same moment (``started_s + start_s``); begun again, it is delivered again.
    ``type`` is NVML's event bit (8 for an XID) with the XID in ``data``.
    """

    gpu: int
    type: int
    data: int
    when: When = When()


@dataclass(frozen=True)
class Process:
    """A process on a GPU, as the driver lists it."""

    pid: int
    used_bytes: int
    graphics: bool = False


@dataclass(frozen=True)
class Gpu:
    """A simulated GPU: a value for every property of scope ``gpu``, and its links."""

    values: Mapping[str, Value]
    links: tuple[Mapping[str, Value], ...] = ()
    processes: tuple[Process, ...] = ()


@dataclass(frozen=True)
class Node:
    """The simulated node of standalone mode; ``mockfail.nodes`` makes healthy ones."""

    values: Mapping[str, Value]
    gpus: tuple[Gpu, ...] = ()
    npus: tuple[Mapping[str, Value], ...] = ()


@dataclass(frozen=True)
class State:
    """All of a mock.

    Attributes:
        node: what standalone mode answers from; an overlay doesn't read it.
        mode: ``auto`` is an overlay where a real library can be opened, else standalone.
        processes: GPU to the process list that replaces its own.
        codes: NPU to its active Ascend fault codes.
        started_s: CLOCK_BOOTTIME from which every ``When`` counts; a state of before the last
            reboot begins in the future, and passes everything through.
        expires_s: CLOCK_BOOTTIME after which everything passes through; None is never.
        real_library: absolute path of the real NVML; None lets the library look for it.
    """

    node: Node
    mode: Mode = "auto"
    overrides: tuple[Override, ...] = ()
    calls: tuple[Call, ...] = ()
    events: tuple[Event, ...] = ()
    processes: Mapping[int, tuple[Process, ...]] = field(default_factory=dict)
    codes: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    started_s: float = 0.0
    expires_s: float | None = None
    real_library: str | None = None
