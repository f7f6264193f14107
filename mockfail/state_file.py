"""The state file: what Python says of a mock, in the layout that ``native/state.h`` reads.

Overrides without a condition are folded into the readings here; what remains are rules, which the
library evaluates per call. The file is replaced whole, so no reader ever sees half of it.
"""

import os
import struct
import tempfile
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mockfail import properties
from mockfail.errors import MockError, MockUsageError
from mockfail.native import generate
from mockfail.properties import NOT_SUPPORTED, PROPERTIES, Property, Scope
from mockfail.state import Call, Event, Override, Process, State, Value, When

MAGIC = b"MKSTATE\n"
LAYOUT = 1
MAX_RULES = 1024  # of overrides with a condition, of calls, of events
_HEADER = struct.Struct("<8sIIQII QqqIII IIIIIIIIIII")
_CHECKED_FROM = 32  # the checksum covers what follows it
_CELL = struct.Struct("<qII")
_WHEN = struct.Struct("<qqqQII")
_RULE = struct.Struct("<qII")
_CALL = struct.Struct("<IIiiII")
_EVENT = struct.Struct("<QQII")
_LIST = struct.Struct("<IIII")
_PROCESS = struct.Struct("<IIQ")
_MODES = {"auto": 0, "overlay": 1, "standalone": 2}
_FOR_EVER = 2**63 - 1
_ALWAYS = 2**32 - 1
_NO_ERROR = -(2**31)
_PLACES: dict[Scope, dict[str, tuple[int, Property]]] = {
    scope: {entry.name: (place, entry) for place, entry in enumerate(entries)}
    for scope, entries in PROPERTIES.items()
}


@dataclass(frozen=True)
class Summary:
    """What the head of a state file says.

    Attributes:
        generation: a number that differs from every other writing's.
        started_s: CLOCK_BOOTTIME from which its conditions count.
        expires_s: CLOCK_BOOTTIME; None is never.
        gpus: simulated GPUs.
        npus: simulated NPUs.
    """

    generation: int
    started_s: float
    expires_s: float | None
    gpus: int
    npus: int


def write(state: State, path: Path) -> None:
    """Write a mock's state, so that programs under it see all of it or all of what was before.

    Raises:
        MockUsageError: a reading, a device or a condition that there can't be.
        MockError: the file can't be written.
    """
    data = encode(state)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".state-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        message = f"the state of the mock can't be written: {error.strerror}"
        raise MockError("mock.state", message, target=str(path)) from error


def read(path: Path) -> Summary:
    """Read and check the head of a state file.

    Raises:
        MockError: there is none, it is damaged, or another version wrote it.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        message = f"the state of the mock can't be read: {error.strerror}"
        raise MockError("mock.state", message, target=str(path)) from error
    if len(data) < _HEADER.size or data[:8] != MAGIC:
        raise MockError("mock.state", "this is no state file of a mock", target=str(path))
    magic, layout, size, total, digest, checksum, generation, *rest = _HEADER.unpack_from(data)
    if (magic, layout, size, digest) != (MAGIC, LAYOUT, _HEADER.size, properties.digest()):
        raise MockError(
            "mock.state",
            "the state of the mock was written by another version",
            hint="stop the mock with the version that started it",
            target=str(path),
        )
    if len(data) != total or zlib.crc32(data[_CHECKED_FROM:]) != checksum:
        raise MockError("mock.state", "the state of the mock is damaged", target=str(path))
    started_ns, expires_ns, _, gpus, npus = rest[:5]
    expires_s = None if expires_ns == _FOR_EVER else expires_ns / 1e9
    return Summary(generation, started_ns / 1e9, expires_s, gpus, npus)


def encode(state: State) -> bytes:
    """Return the file of a state.

    Raises:
        MockUsageError: a reading, a device or a condition that there can't be.
    """
    return _Encoder(state).encode()


class _Encoder:
    def __init__(self, state: State):
        self.state = state
        self.texts = bytearray(b"\0")
        self.places: dict[str, int] = {"": 0}
        node = state.node
        self.gpu_slots = _slots("gpu", len(node.gpus), _named_gpus(state), properties.MAX_GPUS)
        self.npu_slots = _slots("npu", len(node.npus), _named_npus(state), properties.MAX_NPUS)
        named = [o.link for o in state.overrides if o.link is not None]
        links = max((len(gpu.links) for gpu in node.gpus), default=0)
        self.link_slots = _slots("link", links, named, properties.MAX_LINKS)
        self.gpu_cells = len(PROPERTIES["gpu"]) + self.link_slots * len(PROPERTIES["link"])
        self.values: list[int] = []
        self.is_set: list[int] = []
        self.first_rule: list[int] = []
        self.rules: list[tuple[int, Override, int]] = []  # cell, override, its value

    def encode(self) -> bytes:
        self.fill()
        for override in self.state.overrides:
            self.override(override)
        if len(self.rules) > MAX_RULES:
            raise _too_many("overrides with a condition", len(self.rules))
        rules = self.chain_rules()  # before the cells, which name the first of each chain
        processes, gpu_lists = self.process_lists()
        codes, npu_lists = self.code_lists()
        calls = self.call_faults()
        events = self.event_faults()
        cells = b"".join(
            map(_CELL.pack, self.values, self.first_rule, self.is_set),
        )
        real = self.text(self.state.real_library or "")
        body = b"".join((cells, rules, calls, events, gpu_lists, npu_lists))
        body += b"".join(_PROCESS.pack(p.pid, int(p.graphics), p.used_bytes) for p in processes)
        body += struct.pack(f"<{len(codes)}I", *codes) + bytes(self.texts)
        counts = (
            self.gpu_slots, self.npu_slots, self.link_slots, len(self.rules),
            len(self.state.calls), len(self.state.events), len(processes), len(codes),
            len(self.texts), real, 0,
        )  # fmt: skip
        return self.with_header(body, counts)

    def with_header(self, body: bytes, counts: Sequence[int]) -> bytes:
        state = self.state
        if state.started_s < 0:
            raise _wrong(f"a mock that started at {state.started_s} s of CLOCK_BOOTTIME")
        expires = state.expires_s
        head = [
            time.time_ns(),
            _ns(state.started_s),
            _FOR_EVER if expires is None else _ns(expires),
            _MODES[state.mode],
            len(state.node.gpus),
            len(state.node.npus),
            *counts,
        ]
        fixed = (MAGIC, LAYOUT, _HEADER.size, _HEADER.size + len(body), properties.digest())
        checksum = zlib.crc32(_HEADER.pack(*fixed, 0, *head)[_CHECKED_FROM:] + body)
        return _HEADER.pack(*fixed, checksum, *head) + body

    # readings ---------------------------------------------------------------------------------

    def fill(self) -> None:
        node = self.state.node
        self.add("node", node.values)
        for index in range(self.gpu_slots):
            gpu = node.gpus[index] if index < len(node.gpus) else None
            self.add("gpu", gpu.values if gpu else {})
            for link in range(self.link_slots):
                there = gpu is not None and link < len(gpu.links)
                self.add("link", gpu.links[link] if gpu is not None and there else {})
        for index in range(self.npu_slots):
            self.add("npu", node.npus[index] if index < len(node.npus) else {})
        self.is_set = [0] * len(self.values)
        self.first_rule = [0] * len(self.values)

    def add(self, scope: Scope, values: Mapping[str, Value]) -> None:
        for entry in PROPERTIES[scope]:
            if entry.name in values:
                self.values.append(self.number(entry, values[entry.name]))
            else:
                self.values.append(0 if entry.type == "str" else NOT_SUPPORTED)

    def number(self, entry: Property, value: Value) -> int:
        if entry.type == "str" and isinstance(value, str):
            return self.text(value)
        boolean = isinstance(value, bool) or value == NOT_SUPPORTED
        number = isinstance(value, int) and not isinstance(value, bool)
        if not (boolean if entry.type == "bool" else number and entry.type == "int"):
            raise _wrong(f"{entry.name} is {value!r}, and takes {_KINDS[entry.type]}")
        if not -(2**63) <= int(value) < 2**63:
            raise _wrong(f"{entry.name} is {value!r}, which is no 64-bit number")
        return int(value)

    def text(self, text: str) -> int:
        """Return the place of a text, which is stored once."""
        if text not in self.places:
            data = text.encode()
            if b"\0" in data:
                raise _wrong(f"the text {text!r} has a NUL in it")
            self.places[text] = len(self.texts)
            self.texts += data + b"\0"
        return self.places[text]

    def cell(self, override: Override) -> int:
        place = _PLACES[override.scope][override.name][0]
        if override.scope == "node":
            return place
        gpus = len(PROPERTIES["node"])
        if override.scope == "npu":
            npus = gpus + self.gpu_slots * self.gpu_cells
            return npus + override.index * len(PROPERTIES["npu"]) + place
        gpu = gpus + override.index * self.gpu_cells
        if override.scope == "gpu":
            return gpu + place
        link = override.link or 0
        return gpu + len(PROPERTIES["gpu"]) + link * len(PROPERTIES["link"]) + place

    def override(self, override: Override) -> None:
        known = _PLACES[override.scope].get(override.name)
        if known is None:
            raise _wrong(f"a {override.scope} has no reading {override.name}")
        if (override.link is None) != (override.scope != "link"):
            raise _wrong(f"{override.name} of a {override.scope} with link {override.link}")
        entry = known[1]
        limit = properties.STRING_BYTES
        if isinstance(override.value, str) and len(override.value.encode()) >= limit:
            raise _wrong(f"{override.name} has {limit} bytes or more: {override.value!r}")
        cell, value = self.cell(override), self.number(entry, override.value)
        if override.when == When():  # whatever was said before never shows again
            self.values[cell], self.is_set[cell] = value, 1
            self.rules = [rule for rule in self.rules if rule[0] != cell]
            return
        if entry.type != "int" and override.when.ramp_s > 0:
            raise _wrong(f"{override.name} is no number, and can't move over {override.when}")
        self.rules.append((cell, override, value))

    def chain_rules(self) -> bytes:
        """Pack the rules; each names the next of its cell, and the cell names the first."""
        following = [0] * len(self.rules)
        for index in reversed(range(len(self.rules))):
            cell = self.rules[index][0]
            following[index] = self.first_rule[cell]
            self.first_rule[cell] = index + 1
        return b"".join(
            _when(override.when) + _RULE.pack(value, following[index], 0)
            for index, (_, override, value) in enumerate(self.rules)
        )

    # lists, calls, events -----------------------------------------------------------------------

    def process_lists(self) -> tuple[list[Process], bytes]:
        node, own = self.state.node, self.state.processes
        every: list[Process] = []
        lists = b""
        for index in range(self.gpu_slots):
            base = node.gpus[index].processes if index < len(node.gpus) else ()
            listed = own.get(index, base)
            if len(listed) > properties.MAX_PROCESSES:
                raise _too_many(f"processes of GPU {index}", len(listed), properties.MAX_PROCESSES)
            lists += _LIST.pack(len(every), len(listed), int(index in own), 0)
            every += listed
        return every, lists

    def code_lists(self) -> tuple[list[int], bytes]:
        every: list[int] = []
        lists = b""
        for index in range(self.npu_slots):
            listed = self.state.codes.get(index, ())
            if len(listed) > properties.MAX_CODES:
                raise _too_many(f"codes of NPU {index}", len(listed), properties.MAX_CODES)
            lists += _LIST.pack(len(every), len(listed), int(index in self.state.codes), 0)
            every += listed
        return every, lists

    def call_faults(self) -> bytes:
        if len(self.state.calls) > MAX_RULES:
            raise _too_many("failing calls", len(self.state.calls))
        return b"".join(map(self.call_fault, self.state.calls))

    def call_fault(self, call: Call) -> bytes:
        if call.function not in _functions():
            raise _wrong(f"NVML and DCMI have no function {call.function}")
        error = _NO_ERROR if call.error is None else call.error
        gpu = -1 if call.gpu is None else call.gpu
        key = self.key(call, call.when)
        packed = _CALL.pack(self.text(call.function), key, gpu, error, call.hang_ms, 0)
        return _when(call.when) + packed

    def event_faults(self) -> bytes:
        if len(self.state.events) > MAX_RULES:
            raise _too_many("events", len(self.state.events))
        seen: dict[Event, int] = {}
        packed = b""
        for event in self.state.events:
            seen[event] = seen.get(event, 0) + 1
            key = self.key((event, seen[event]), event.when)
            packed += _when(event.when) + _EVENT.pack(event.type, event.data, event.gpu, key)
        return packed

    def key(self, what: object, when: When) -> int:
        """Return a number that stays the same as long as this fault, begun when it was, does."""
        begun_ms = round((self.state.started_s + when.start_s) * 1000)
        return zlib.crc32(f"{what!r} {begun_ms}".encode()) or 1


@cache
def _functions() -> frozenset[str]:
    return frozenset([*generate.symbols("nvml"), *generate.symbols("dcmi")])


_KINDS = {"int": "an integer", "bool": "true or false", "str": "a text"}


def _wrong(message: str) -> MockUsageError:
    return MockUsageError("mock.state", message)


def _too_many(what: str, count: int, most: int = MAX_RULES) -> MockUsageError:
    return _wrong(f"{count} {what}; a mock holds {most}")


def _slots(what: str, simulated: int, named: Iterable[int], most: int) -> int:
    """Return how many devices the file has room for: simulated ones and those of faults."""
    named = list(named)
    if min(named, default=0) < 0:
        raise _wrong(f"{what} {min(named)}; they count from 0")
    needed = max(simulated, max(named, default=-1) + 1)
    if needed > most:
        raise _wrong(f"{what} {needed - 1}; a mock has {what}s 0 to {most - 1}")
    return needed


def _named_gpus(state: State) -> list[int]:
    overrides = [o.index for o in state.overrides if o.scope in ("gpu", "link")]
    return [*overrides, *state.processes, *(event.gpu for event in state.events)]


def _named_npus(state: State) -> list[int]:
    return [*(o.index for o in state.overrides if o.scope == "npu"), *state.codes]


def _ns(seconds: float) -> int:
    return min(round(seconds * 1e9), _FOR_EVER)


def _when(when: When) -> bytes:
    sane = when.start_s >= 0 and (when.for_s is None or when.for_s >= 0) and when.ramp_s >= 0
    if not sane or not 0 <= when.probability <= 1 or not 0 <= when.after_calls < 2**64:
        raise _wrong(f"{when} is no condition: times and numbers are not negative")
    end = _FOR_EVER if when.for_s is None else _ns(when.start_s + when.for_s)
    chance = _ALWAYS if when.probability >= 1 else int(when.probability * (_ALWAYS - 1))
    return _WHEN.pack(_ns(when.start_s), end, _ns(when.ramp_s), when.after_calls, chance, 0)
