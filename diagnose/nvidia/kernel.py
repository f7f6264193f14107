"""What the kernel log says of GPUs and NVSwitches."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from diagnose.checks import NODE, Check, Context, Sign
from diagnose.facts import Facts
from diagnose.findings import Device, Severity, Unchecked
from diagnose.kernel_events import Event

_OF_SXID: Mapping[str, Severity] = {"Fatal": "fatal", "Always": "fatal"}
_OF_AER: Mapping[str, Severity] = {
    "Corrected": "warning",
    "Non-fatal": "degraded",
    "Fatal": "fatal",
}
CORRECTED_FEW = 10
"""Corrected PCIe errors since boot below which they are information; own limit."""


def kernel_log(facts: Facts, context: Context) -> Iterator[Sign | Unchecked]:
    """Yield a sign for each event, on the GPU whose PCI address the line names."""
    log = context.kernel_log
    if log.error is not None:
        yield Unchecked("kernel-log", NODE, log.error, skipped=False)
    devices = {each.address: each.device for each in facts.devices if each.address}
    bridges = {bridge: f.address for f in context.pci for bridge in f.upstream}
    ours = {f.address for f in context.pci} | devices.keys()
    for event in log.events:
        address = event.address
        evidence = _evidence(event)
        if event.kind == "xid":
            yield Sign(f"NV-XID-{event.number}", evidence, _gpu(address, devices), None, _n(event))
        elif event.kind == "sxid":
            severity = _OF_SXID.get(event.grade or "")
            switch = Device("node", name="NVSwitch", pci_bus_id=address)
            yield Sign(f"NV-SXID-{event.number}", evidence, switch, severity, _n(event))
        elif event.kind == "nvrm":
            # drivers of good GPUs print failed assertions too
            of_assertion: Severity | None = "info" if event.grade == "Assertion" else None
            yield Sign("NV-NVRM", evidence, _gpu(address, devices), of_assertion)
        elif address in ours or address in bridges:
            below = address if address in ours else bridges[str(address)]
            yield Sign("PCIE-AER", evidence, _gpu(below, devices), _of_aer(event))


def _of_aer(event: Event) -> Severity:
    few = event.grade == "Corrected" and event.count < CORRECTED_FEW
    return "info" if few else _OF_AER[str(event.grade)]


def _gpu(address: str | None, devices: Mapping[str, Device]) -> Device:
    if address is None:
        return NODE
    return devices.get(address, Device("gpu", pci_bus_id=address))


def _n(event: Event) -> str:
    return str(event.number)


def _evidence(event: Event) -> dict[str, Any]:
    """Return what the log says, without what says nothing."""
    names = ("text", "count", "first_s", "last_s", "address", "pid", "process", "context")
    return {name: value for name, value in asdict(event).items() if name in names and value}


CHECKS = (
    Check(
        "kernel-log",
        "The kernel log has no XID, SXid, NVRM error or PCIe error of a GPU since boot.",
        ("/dev/kmsg", "dmesg"),
        ("NV-XID-<n>", "NV-SXID-<n>", "NV-NVRM", "PCIE-AER"),
        of_node=kernel_log,
        without_driver=True,
    ),
)
