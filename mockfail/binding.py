"""Bind a scenario's faults to the devices of a node: the result is a layer of its mock."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from accelerators.errors import UsageError
from mockfail import kernel_log
from mockfail.errors import MockUsageError
from mockfail.layer import Codes, Layer, LogLine, Processes
from mockfail.properties import NOT_SUPPORTED
from mockfail.scenario import Fault, Relative, Scenario, Targets
from mockfail.state import Call, Event, Mode, Node, Override, Value
from mockfail.values import find
from mockfail.values import read as read_value

_XID_EVENT = 8  # nvmlEventTypeXidCriticalError


@dataclass(frozen=True)
class _Target:
    """A device or link that a fault names, with its healthy readings."""

    kind: str
    index: int
    healthy: Mapping[str, Value]
    link: int | None = None


def bind(scenario: Scenario, node: Node, *, mode: Mode = "auto") -> Layer:
    """Return what a scenario does to a node.

    Raises:
        MockUsageError: the node lacks a device, a link or a reading that the scenario breaks.
    """
    node = _renamed(node, scenario.faults)
    layer = Layer(scenario.name)
    for fault in scenario.faults:
        try:
            layer = _joined(layer, _bound(fault, node, mode))
        except UsageError as error:
            raise MockUsageError(
                "scenario.node",
                f"{fault.place}: {error.message}" if fault.place else error.message,
                hint=error.hint,
                target=scenario.source,
            ) from error
    return layer


def _renamed(node: Node, faults: Sequence[Fault]) -> Node:
    """Return the node under the addresses and names that the faults give it, for the log."""
    gpus, npus = list(node.gpus), list(node.npus)
    for fault in faults:
        texts = {name: v for name, v in (fault.values or {}).items() if isinstance(v, str)}
        if not texts or fault.links or fault.devices == "all":
            continue
        for index in fault.devices:
            if fault.kind == "gpu" and index < len(gpus):
                gpus[index] = replace(gpus[index], values={**gpus[index].values, **texts})
            elif fault.kind == "npu" and index < len(npus):
                npus[index] = {**npus[index], **texts}
    return replace(node, gpus=tuple(gpus), npus=tuple(npus))


def _joined(first: Layer, second: Layer) -> Layer:
    return replace(
        first,
        overrides=first.overrides + second.overrides,
        calls=first.calls + second.calls,
        events=first.events + second.events,
        processes=first.processes + second.processes,
        codes=first.codes + second.codes,
        log=first.log + second.log,
    )


def _bound(fault: Fault, node: Node, mode: Mode) -> Layer:
    mode = "auto" if fault.forced else mode
    devices = _devices(fault, node)
    links = [link for device in devices for link in _links(fault.links, device.index, node)]
    return Layer(
        "",
        overrides=tuple(
            Override(
                "link" if target.link is not None else target.kind,  # type: ignore[arg-type]
                name,
                _value(name, value, target, mode),
                index=target.index,
                link=target.link,
                when=fault.when,
            )
            for target in (links if fault.links else devices)
            for name, value in (fault.values or {}).items()
        ),
        calls=tuple(_calls(fault, devices)),
        events=tuple(
            Event(device.index, _XID_EVENT, xid, fault.when)
            for device in devices
            for xid in fault.xids
        ),
        processes=tuple(
            Processes(device.index, fault.processes, fault.when)
            for device in devices
            if fault.processes is not None
        ),
        codes=tuple(
            Codes(device.index, fault.codes, fault.when) for device in devices if fault.codes
        ),
        log=tuple(
            LogLine(text, fault.when.start_s) for device in devices for text in _log(fault, device)
        ),
    )


def _devices(fault: Fault, node: Node) -> list[_Target]:
    if fault.kind is None:
        return [_Target("node", 0, node.values)]
    have: Sequence[Mapping[str, Value]] = (
        [gpu.values for gpu in node.gpus] if fault.kind == "gpu" else node.npus
    )
    name = fault.kind.upper()
    return [
        _Target(fault.kind, index, have[index])
        for index in _indices(_there(fault, len(have)), len(have), f"{name}s", "the node")
    ]


def _there(fault: Fault, count: int) -> Targets:
    """Return the devices that a fault names, without those that it may do without."""
    if not fault.forced or fault.devices == "all":
        return fault.devices
    return tuple(index for index in fault.devices if index < count)


def _links(links: Targets, gpu: int, node: Node) -> list[_Target]:
    if not links:
        return []
    have = node.gpus[gpu].links
    owner = f"GPU {gpu} ({node.gpus[gpu].values.get('name')})"
    return [
        _Target("gpu", gpu, have[index], link=index)
        for index in _indices(links, len(have), "NVLinks", owner)
    ]


def _indices(targets: Targets, count: int, what: str, owner: str) -> Iterable[int]:
    """Return the positions that are meant, when they are there."""
    wanted = range(count) if targets == "all" else targets
    if count == 0 and targets:
        hint = "choose a node that has them: --node h100x8, --node 910bx8"
        raise UsageError("scenario.node", f"{owner} has no {what}", hint=hint)
    missing = [index for index in wanted if index >= count]
    if missing:
        hint = "--node chooses another node; --device moves a scenario to another device"
        text = f"{owner} has {what} 0 to {count - 1}, not {missing[0]}"
        raise UsageError("scenario.node", text, hint=hint)
    return wanted


def _value(name: str, value: Value | Relative, target: _Target, mode: Mode) -> Value:
    if isinstance(value, Relative):
        base = target.healthy.get(value.of, NOT_SUPPORTED)
        if not isinstance(base, int) or base == NOT_SUPPORTED:
            raise _lacks(target, value.of)
        scope = "gpu" if target.kind == "gpu" else target.kind
        number = round(base * value.times) + value.plus
        return read_value(find("link" if target.link is not None else scope, name), number)  # type: ignore[arg-type]
    # Over a real device the simulated one says nothing of what the device has.
    if mode == "standalone" and target.healthy.get(name) == NOT_SUPPORTED:
        raise _lacks(target, name)
    return value


def _lacks(target: _Target, name: str) -> UsageError:
    owner = f"{target.kind.upper()} {target.index} ({target.healthy.get('name')})"
    hint = "--node chooses a node whose cards have it"
    return UsageError("scenario.node", f"{owner} has no reading {name}", hint=hint)


def _calls(fault: Fault, devices: Sequence[_Target]) -> Iterable[Call]:
    for function in fault.functions:
        for device in devices:
            gpu = device.index if device.kind == "gpu" else None
            yield Call(function, gpu, fault.error, fault.hang_ms, fault.when)


def _log(fault: Fault, device: _Target) -> list[str]:
    address, uuid = str(device.healthy.get("pci_bus_id", "")), str(device.healthy.get("uuid", ""))
    lines = [
        line
        for xid in fault.xids
        for line in kernel_log.xid_lines(
            xid,
            pci_bus_id=address,
            uuid=uuid,
            serial=str(device.healthy.get("serial", "")),
            detail=fault.detail,
            pid=fault.pid,
            process=fault.process,
        )
    ]
    names = {"{uuid}": uuid}
    if address:
        names |= {
            "{pci}": kernel_log.pci_address(address),
            "{pci_short}": kernel_log.short_address(address),
        }
    return lines + [_filled(text, names) for text in fault.log]


def _filled(text: str, names: Mapping[str, str]) -> str:
    for name, value in names.items():
        text = text.replace(name, value)
    return text
