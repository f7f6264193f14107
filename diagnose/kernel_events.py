"""The lines of a kernel log that speak of accelerators: XIDs, SXIDs, NVRM and PCIe errors.

Forms of the lines, as drivers and kernels of different ages write them::

    NVRM: Xid (PCI:0000:18:00): 79, pid=4711, name=python3, GPU has fallen off the bus.
    NVRM: Xid (PCI:0000:cb:00): 13, pid='<unknown>', name=<unknown>, Graphics SM Warp Exception …
    NVRM: Xid (PCI:0000:01:00 GPU-I:05): 43, pid=1, Ch 00000008          (a MIG instance)
    NVRM: Xid (0000:03:00): 31, Ch 00000010 …                            (before driver 340)
    nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20009, Non-fatal, Link 28 RX Short Error Rate
    pcieport 0000:17:01.0: AER: Corrected error received: 0000:18:00.0
    nvidia 0000:18:00.0: PCIe Bus Error: severity=Corrected, type=Data Link Layer, …
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from diagnose.pci import address_of

EventKind = Literal["xid", "sxid", "nvrm", "aer"]
_CONTEXT = 2  # lines before and after
_SYMPTOM_S = 5.0
"""NVRM lines within that time of an XID belong to it."""


@dataclass(frozen=True)
class Line:
    """One line; ``time_s`` since boot, None where the log has no times."""

    time_s: float | None
    text: str


@dataclass(frozen=True)
class Event:
    """Lines of the log that say the same of the same device.

    Attributes:
        kind: of the line.
        address: PCI address in the kernel's form; None where the line names none.
        number: XID or SXID.
        grade: what the line itself says of its severity: ``Fatal``, ``Non-fatal``, ``Corrected``,
            ``Assertion``.
        text: the first line.
        context: the lines around it, itself included.
        pid, process: what the line names.
        count: of such lines.
        first_s, last_s: since boot.
    """

    kind: EventKind
    address: str | None
    text: str
    number: int | None = None
    grade: str | None = None
    context: tuple[str, ...] = ()
    pid: int | None = None
    process: str | None = None
    count: int = 1
    first_s: float | None = None
    last_s: float | None = None

    @property
    def _same(self) -> tuple[object, ...]:
        return (self.kind, self.address, self.number, self.grade)


_ADDRESS = r"(?P<address>(?:[0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-7])?)"
_XID = re.compile(
    rf"NVRM: Xid \((?:PCI:)?{_ADDRESS}(?: GPU-I:\w+)?\): (?P<number>\d+)\b"
    r"(?:, pid=(?:(?P<pid>\d+)|[^,]*))?(?:, name=(?P<name>[^,]*))?"
)
_SXID = re.compile(
    rf"nvidia-nvswitch\d+: SXid \((?:PCI:)?{_ADDRESS}\): (?P<number>\d+)(?:, (?P<grade>[\w-]+))?"
)
_AER = re.compile(
    rf"(?:{_ADDRESS}: (?:AER: )?PCIe Bus Error: severity=(?P<grade>[^,]+))"
    r"|(?:\bAER: (?:Multiple )?(?P<received>Correct\w*|Uncorrect\w*(?: \([\w-]+\))?) error "
    r"(?:message )?received(?: from|:) (?P<from>[0-9a-fA-F]{4}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.\d))"
)
_NVRM = re.compile(
    r"NVRM: (?!Xid)(?:.*?\bGPU (?:at )?(?:PCI:)?(?P<address>[0-9a-fA-F]{4,8}(?::[0-9a-fA-F]{2}){2}"
    r"(?:\.[0-7])?))?"
    r".*?(?:RmInitAdapter failed|rm_init_adapter failed|fallen off the bus|API mismatch"
    r"|GPU is lost|not supported by this driver|[Aa]ssertion failed|krcWatchdog|RPC.*timeout)"
)


def events_of(lines: Sequence[Line]) -> tuple[Event, ...]:
    """Return the events of a log in the order of their first line.

    Lines that repeat are one event with their count. NVRM lines that go with an XID of the same
    GPU are its context and no event of their own.
    """
    groups: dict[tuple[object, ...], Event] = {}
    for number, line in enumerate(lines):
        event = _event(line)
        if event is None:
            continue
        known = groups.get(event._same)
        if known is None:
            around = lines[max(0, number - _CONTEXT) : number + _CONTEXT + 1]
            groups[event._same] = replace(event, context=tuple(each.text for each in around))
        else:
            groups[event._same] = replace(known, count=known.count + 1, last_s=line.time_s)
    return tuple(_without_symptoms(list(groups.values())))


def _event(line: Line) -> Event | None:
    if "NVRM" in line.text:
        event = _xid(line.text) or _nvrm(line.text)
    elif "SXid" in line.text:
        event = _sxid(line.text)
    elif "PCIe Bus Error" in line.text or "AER:" in line.text:
        event = _aer(line.text)
    else:
        return None
    return event and replace(event, first_s=line.time_s, last_s=line.time_s)


def _xid(text: str) -> Event | None:
    match = _XID.search(text)
    if match is None:
        return None
    name = match["name"]
    return Event(
        "xid",
        address_of(match["address"]),
        text,
        int(match["number"]),
        pid=int(match["pid"]) if match["pid"] else None,
        process=None if name in (None, "<unknown>") else name,
    )


def _nvrm(text: str) -> Event | None:
    match = _NVRM.search(text)
    if match is None:
        return None
    address = address_of(match["address"]) if match["address"] else None
    return Event("nvrm", address, text, grade="Assertion" if "ssertion failed" in text else None)


def _sxid(text: str) -> Event | None:
    match = _SXID.search(text)
    if match is None:
        return None
    return Event(
        "sxid", address_of(match["address"]), text, int(match["number"]), grade=match["grade"]
    )


def _aer(text: str) -> Event | None:
    match = _AER.search(text)
    if match is None:
        return None
    address = address_of(match["address"] or match["from"])
    said = match["grade"] or match["received"]
    if said.startswith("Correct"):
        grade = "Corrected"
    else:
        grade = "Non-fatal" if "non-fatal" in said.lower() else "Fatal"
    return Event("aer", address, text, grade=grade)


def _without_symptoms(events: Sequence[Event]) -> Iterator[Event]:
    """Yield the events, NVRM lines that an XID explains left out."""
    xids = [event for event in events if event.kind == "xid"]
    for event in events:
        if event.kind != "nvrm" or not any(_explains(xid, event) for xid in xids):
            yield event


def _explains(xid: Event, line: Event) -> bool:
    if line.address is not None:
        return line.address == xid.address
    if line.first_s is None or xid.first_s is None or xid.last_s is None:
        return line.text in xid.context
    return xid.first_s - _SYMPTOM_S <= line.first_s <= xid.last_s + _SYMPTOM_S
