"""A scenario: what breaks, on which devices and when, and what a diagnosis must say of it.

Scenarios are TOML. Every mistake in one is reported with its line and key before anything starts.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from accelerators.errors import UsageError
from accelerators.units import parse_duration, parse_fraction
from mockfail import values
from mockfail.layer import ALWAYS
from mockfail.native import generate
from mockfail.nvml_errors import ERRORS
from mockfail.properties import MAX_CODES, MAX_GPUS, MAX_LINKS, MAX_NPUS, MAX_PROCESSES, Scope
from mockfail.state import Process, Value, When
from mockfail.toml_reader import Document, Table, dotted

Kind = Literal["gpu", "npu"]
Targets = tuple[int, ...] | Literal["all"]
_LONGEST_HANG_MS = 1000 * 3_600_000
_LIMITS = {"gpu": MAX_GPUS, "npu": MAX_NPUS, "link": MAX_LINKS}


@dataclass(frozen=True)
class Relative:
    """A value that follows from a healthy reading of the same device: ``of * times + plus``."""

    of: str
    times: float = 1.0
    plus: int = 0


@dataclass(frozen=True)
class Fault:
    """One ``[[fault]]`` table, not yet bound to a node.

    Attributes:
        kind: ``gpu`` or ``npu``; None for the node.
        devices, links: which of them.
        values: property to what it becomes.
        functions, error, hang_ms: calls that fail with an NVML return code, or hang.
        xids: XIDs that are raised as events and written to the kernel log.
        detail: the end of the XIDs' line; None for the driver's usual words.
        pid, process: who is to blame in that line; None for nobody known.
        log: further kernel-log lines; ``{pci}``, ``{pci_short}`` and ``{uuid}`` name the device.
        processes: the device's process list; None leaves it.
        codes: active Ascend fault codes.
        forced: readings that the card lacks are set all the same, and devices that the node lacks
            are left out.
        place: file, line and key, for errors that show up on a certain node only.
    """

    kind: Kind | None = None
    devices: Targets = ()
    links: Targets = ()
    values: Mapping[str, Value | Relative] | None = None
    functions: tuple[str, ...] = ()
    error: int | None = None
    hang_ms: int = 0
    xids: tuple[int, ...] = ()
    detail: str | None = None
    pid: int | None = None
    process: str | None = None
    log: tuple[str, ...] = ()
    processes: tuple[Process, ...] | None = None
    codes: tuple[int, ...] = ()
    when: When = ALWAYS
    forced: bool = False
    place: str = ""


@dataclass(frozen=True, order=True)
class Expected:
    """A finding that a diagnosis must give: its code and device; a node's finding has none."""

    code: str
    kind: str = "node"
    index: int | None = None


@dataclass(frozen=True)
class Scenario:
    """A scenario as its file says it, with the faults of those that it combines.

    Attributes:
        name: of a built-in one; of a file, its stem.
        source: the file.
        signature: what the same fault looks like on a real machine.
        reference: where that is documented.
        node: the simulated node it is written for.
        expected: the findings, when ``expected_at_s`` have passed; None when nothing is said.
    """

    name: str
    source: str
    title: str = ""
    simulates: str = ""
    signature: str = ""
    reference: str = ""
    accelerator: Literal["nvidia", "ascend", "any"] = "any"
    action: str = ""
    node: str | None = None
    combines: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    expected: tuple[Expected, ...] | None = None
    expected_at_s: float = 0.0

    def moved_to(self, gpu: int) -> "Scenario":
        """Return the scenario with its faults on another device.

        Raises:
            UsageError: it has faults on several devices, or on none.
        """
        targets = {(f.kind, f.devices) for f in self.faults if f.kind}
        if len(targets) != 1 or next(iter(targets))[1] == "all" or len(next(iter(targets))[1]) > 1:
            what = "several devices" if targets else "no device"
            raise UsageError(
                "scenario.device", f"{self.name} is about {what}; it can't be moved to {gpu}"
            )
        faults = tuple(replace(f, devices=(gpu,)) if f.kind else f for f in self.faults)
        expected = self.expected and tuple(
            replace(e, index=gpu) if e.index is not None else e for e in self.expected
        )
        return replace(self, faults=faults, expected=expected)


Load = Callable[[str, str], Scenario]
"""Find a scenario that another one combines: its name, and the file that asks."""


def parse(text: str, source: str, name: str, load: Load) -> Scenario:
    """Read a scenario.

    Args:
        text: TOML.
        source: the file's name, for errors.
        name: of the scenario.
        load: finds the scenarios that it combines.

    Raises:
        ScenarioError: names every mistake.
    """
    document = Document(text, source)
    root = document.root()
    accelerator = root.take("accelerator", str)
    if accelerator not in (None, "nvidia", "ascend"):
        root.note("accelerator", f"is {accelerator!r}; expected nvidia or ascend")
    parts = []
    for path, part in root.every("combine", str):
        parts.append(root.parsed(path, lambda other: load(other, source), part))
    combined = [part for part in parts if part is not None]
    faults = [_Reader(table).fault() for table in root.tables("fault")]
    expected, at_s = _expect(root.table("expect"))
    for key in ("title", "simulates", "signature", "source", "action", "node"):
        root.take(key, str)
    if not faults and not parts and not document.mistakes:
        document.note((), "holds no [[fault]] and combines nothing")
    root.end()
    document.finish()
    given = {
        key: root.values[key]
        for key in ("title", "simulates", "signature", "action", "node")
        if key in root.values
    }
    if combined and "node" not in given and combined[0].node:
        given["node"] = combined[0].node
    return Scenario(
        name,
        source,
        **given,
        reference=root.values.get("source", ""),
        accelerator=accelerator or (combined[0].accelerator if combined else "any"),
        combines=tuple(part.name for part in combined),
        faults=(*(f for part in combined for f in part.faults), *faults),
        expected=_united(combined) if expected is None else expected,
        expected_at_s=at_s,
    )


def _united(parts: list[Scenario]) -> tuple[Expected, ...] | None:
    known = [part.expected for part in parts if part.expected is not None]
    return tuple(sorted({e for expected in known for e in expected})) if known else None


def _expect(table: Table | None) -> tuple[tuple[Expected, ...] | None, float]:
    if table is None:
        return None, 0.0
    found: set[Expected] = set()
    for path, item in table.every("findings", str, dict):
        if isinstance(item, str):
            found.add(Expected(item))
            continue
        entry = Table(table.document, path, item)
        code = entry.take("code", str)
        if code is None and "code" not in entry:
            table.document.note(path, "lacks code")
        kind, devices = _Reader(entry).target()
        if devices == "all":
            entry.note(kind or "gpu", "a finding is about numbered devices; list them")
        elif code:
            found |= {Expected(code, kind or "node", index) for index in devices or (None,)}
        entry.end()
    at_s = table.read("at", _duration, str)
    table.end()
    return tuple(sorted(found, key=repr)), at_s or 0.0


def _duration(text: str) -> float:
    return parse_duration(text)


def _error(value: str | int) -> int:
    if isinstance(value, int):
        if not 0 <= value <= 2**31 - 1:
            raise UsageError("scenario.error", f"is {value}; expected an NVML return code")
        return value
    name = value.removeprefix("NVML_ERROR_")
    if name not in ERRORS:
        text = f"{value!r} is no NVML error{values.did_you_mean(name, ERRORS)}"
        raise UsageError("scenario.error", text)
    return ERRORS[name]


def _function(name: str) -> str:
    known = [*generate.symbols("nvml"), *generate.symbols("dcmi")]
    if name not in known:
        text = f"NVML and DCMI have no {name!r}{values.did_you_mean(name, known)}"
        raise UsageError("scenario.call", text)
    return name


def fault_code(value: str | int) -> int:
    """Return an Ascend fault code: a number, or hexadecimal text with or without ``0x``.

    Raises:
        UsageError: it is neither, or has more than 32 bits.
    """
    try:
        code = value if isinstance(value, int) else int(value, 16)
    except ValueError:
        code = -1
    if not 0 < code < 2**32:
        raise UsageError(
            "scenario.code", f"{value!r} is no Ascend fault code; expected one such as 80E01801"
        )
    return code


def process_id(value: int) -> int:
    """Return a process number; raises UsageError for one that no process has."""
    if not 1 <= value < 2**31:
        raise UsageError("scenario.pid", f"is {value}; expected 1 to {2**31 - 1}")
    return value


def _hang_ms(text: str) -> int:
    milliseconds = round(1000 * parse_duration(text))
    if milliseconds > _LONGEST_HANG_MS:
        raise UsageError("scenario.hang", f"is {text}; expected at most 1000h")
    return milliseconds


def _log_line(text: str) -> str:
    if not text.isprintable():
        raise UsageError("scenario.log", "is no single line of printable text; list the lines")
    return text


def xid_number(value: int) -> int:
    """Return an XID; raises UsageError for a number that is none."""
    if not 1 <= value <= 9999:
        raise UsageError("scenario.xid", f"{value} is no XID; expected 1 to 9999")
    return value


class _Reader:
    """Reads one ``[[fault]]`` table."""

    def __init__(self, table: Table):
        self.table = table

    def fault(self) -> Fault:
        table = self.table
        table.may_hold("link", "processes")
        kind, devices = self.target()
        links = self._indices("link") if "link" in table else ()
        scope: Scope = "link" if links else kind or "node"
        functions = [table.parsed(path, _function, name) for path, name in table.every("call", str)]
        fault = Fault(
            kind,
            devices,
            links,
            values=self._values(scope),
            functions=tuple(name for name in functions if name),
            error=table.read("error", _error, str, int),
            hang_ms=table.read("hang", _hang_ms, str) or 0,
            xids=self._parsed("xid", xid_number, int),
            detail=table.read("xid_detail", _log_line, str),
            pid=table.read("pid", process_id, int),
            process=table.read("process", _log_line, str),
            log=tuple(self._lines("kernel_log")),
            processes=self._processes(),
            codes=self._parsed("codes", fault_code, str, int),
            when=self._when(),
            place=f"{table.document.source}:{table.document.line(table.path)}: "
            f"{dotted(table.path)}",
        )
        self._check(fault)
        table.end()
        return fault

    def target(self) -> tuple[Kind | None, Targets]:
        """Read ``gpu`` or ``npu``."""
        self.table.may_hold("gpu", "npu")
        if "gpu" in self.table and "npu" in self.table:
            self.table.note("npu", "gpu and npu exclude each other")
        for kind in ("gpu", "npu"):
            if kind in self.table:
                return kind, self._indices(kind)
        return None, ()

    def _indices(self, key: str) -> Targets:
        if self.table.values.get(key) == "all":
            self.table.take(key, str)
            return "all"
        limit = _LIMITS[key]
        found = []
        for path, index in self.table.every(key, int):
            if 0 <= index < limit:
                found.append(index)
            else:
                self.table.document.note(path, f'is {index}; expected 0 to {limit - 1}, or "all"')
        return tuple(found)

    def _values(self, scope: Scope) -> dict[str, Value | Relative]:
        table = self.table.table("set")
        found: dict[str, Value | Relative] = {}
        for name in table.values if table else ():
            assert table is not None
            path, value = table.at(name), table.values[name]
            property_ = table.parsed(path, lambda n: values.find(scope, n), name)
            if property_ is None:
                continue
            if isinstance(value, dict):
                relative = _relative(Table(table.document, path, value), scope)
                found |= {name: relative} if relative else {}
                continue
            read = table.parsed(path, lambda v, p=property_: values.read(p, v), value)  # type: ignore[misc]
            found |= {} if read is None else {name: read}
        return found

    def _parsed(self, key: str, parse_one: Callable[[Any], int], *types: type) -> tuple[int, ...]:
        read = (
            self.table.parsed(path, parse_one, item) for path, item in self.table.every(key, *types)
        )
        return tuple(dict.fromkeys(number for number in read if number is not None))

    def _lines(self, key: str) -> Iterator[str]:
        for path, text in self.table.every(key, str):
            line = self.table.parsed(path, _log_line, text)
            if line is not None:
                yield line

    def _processes(self) -> tuple[Process, ...] | None:
        if "processes" not in self.table:
            return None
        found = []
        used = values.find("gpu", "memory_used_bytes")
        for entry in self.table.tables("processes"):
            pid = entry.read("pid", process_id, int)
            size = entry.read("used_bytes", lambda v: values.read(used, v), int, str)
            graphics = entry.take("graphics", bool)
            for key in ("pid", "used_bytes"):
                if key not in entry:
                    self.table.document.note(entry.path, f"lacks {key}")
            entry.end()
            if pid is not None and isinstance(size, int):
                found.append(Process(pid, size, bool(graphics)))
        return tuple(found)

    def _when(self) -> When:
        table = self.table
        after = table.take("after_calls", int)
        chance = table.read("probability", lambda v: parse_fraction(str(v)), float, int, str)
        if after is not None and after < 0:
            table.note("after_calls", f"is {after}; expected 0 or more")
        return When(
            start_s=table.read("at", _duration, str) or 0.0,
            for_s=table.read("for", _duration, str),
            ramp_s=table.read("ramp", _duration, str) or 0.0,
            after_calls=after or 0,
            probability=1.0 if chance is None else chance,
        )

    def _check(self, fault: Fault) -> None:
        """Note what contradicts itself."""
        table, note = self.table, self.table.note
        if "link" in table and fault.kind != "gpu":
            note("link", "an NVLink belongs to a GPU; add gpu")
        if "call" in table and not ("error" in table or "hang" in table):
            note("call", "lacks what happens: error, hang, or both")
        if ("error" in table or "hang" in table) and "call" not in table:
            note("error" if "error" in table else "hang", "lacks the call that it happens to")
        for key, kind in (("xid", "gpu"), ("processes", "gpu"), ("codes", "npu")):
            if key in table and fault.kind != kind:
                note(key, f"lacks the {kind.upper()} that it is about; add {kind}")
        if len(fault.processes or ()) > MAX_PROCESSES:
            note("processes", f"has more than {MAX_PROCESSES} entries")
        if len(fault.codes) > MAX_CODES:
            note("codes", f"has more than {MAX_CODES} entries")
        self._check_conditions(fault)
        actions = ("set", "call", "xid", "kernel_log", "processes", "codes")
        if not any(action in table for action in (*actions, "error", "hang")):
            table.document.note(table.path, f"does nothing; expected one of {', '.join(actions)}")

    def _check_conditions(self, fault: Fault) -> None:
        table = self.table
        for key in ("after_calls", "probability"):
            for action in ("xid", "kernel_log", "processes", "codes"):
                if key in table and action in table:
                    table.note(key, f"can't govern {action}, which no call reads one by one")
        if "ramp" in table:
            ramped = fault.values or {}
            if not ramped or any(isinstance(value, bool | str) for value in ramped.values()):
                table.note("ramp", "needs numbers to move in set, and nothing else there")


def _relative(table: Table, scope: Scope) -> Relative | None:
    of = table.take("of", str)
    times = table.take("times", float, int)
    plus = table.take("plus", int)
    if of is None and "of" not in table:
        table.document.note(table.path, "lacks of, the reading that it follows")
    table.end()
    if of is None:
        return None
    found = table.parsed(table.at("of"), lambda name: values.find(scope, name), of)
    if found is None:
        return None
    if found.type != "int":
        table.note("of", f"{of} is no number")
        return None
    if times is not None and not math.isfinite(times):
        table.note("times", f"is {times}; expected a finite number")
        return None
    return Relative(of, 1.0 if times is None else float(times), plus or 0)
