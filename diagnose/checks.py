"""What a check is, and how the checks of a family are run over its facts.

A check is one small function from facts to signs; it reads nothing itself. A sign names a code of
the runbook (:mod:`diagnose.explain`) and the readings that show it; meaning, severity and action
come from there.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from diagnose.explain import Overrides, explain
from diagnose.facts import DeviceFacts, Facts
from diagnose.findings import Device, Finding, Severity, Unchecked
from diagnose.kernel_log import KernelLog
from diagnose.pci import PciFunction

NODE = Device("node")


@dataclass(frozen=True)
class Sign:
    """What a check saw.

    Attributes:
        code: of the runbook.
        evidence: the readings that show it, units in the names.
        device: what it is about; None is the device that the check was given, or the node.
        severity: in place of the runbook's; with a fatal one the work must move, with a warning
            it may stay.
        number: the XID, SXID or Ascend fault code.
    """

    code: str
    evidence: Mapping[str, Any]
    device: Device | None = None
    severity: Severity | None = None
    number: str | None = None


@dataclass(frozen=True)
class Context:
    """What a check may know beside the readings of its family.

    Attributes:
        expect_count: how many devices the user says there are.
        expect_type: canonical name of the accelerator that the user says they are.
        pci: the family's accelerators on the PCI bus that its driver may have.
        pci_unknown: why the bus does not tell how many there should be; None when it does.
        kernel_log: what the kernel said.
        pids: processes that exist; None where the container hides those of others.
        previous: the facts of an earlier round, when watching.
        interval_s: between that round and this.
        toolkits: CUDA versions of the software in sight, by its name.
        timeout_s: that a driver had to answer.
    """

    expect_count: int | None = None
    expect_type: str | None = None
    pci: tuple[PciFunction, ...] = ()
    pci_unknown: str | None = None
    kernel_log: KernelLog = field(default_factory=KernelLog)
    pids: frozenset[int] | None = None
    previous: Facts | None = None
    interval_s: float | None = None
    toolkits: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 10.0


OfDevice = Callable[[DeviceFacts, Context], Iterable[Sign | Unchecked]]
OfNode = Callable[[Facts, Context], Iterable[Sign | Unchecked]]


@dataclass(frozen=True)
class Check:
    """One check; exactly one of ``of_device`` and ``of_node`` is set.

    Attributes:
        name: what ``--checks`` and ``--skip`` take; families share names.
        about: one line.
        reads: names of the readings that it judges. A device that has none of them is skipped;
            one of them that failed otherwise leaves the check without a full verdict.
        codes: that it can give, ``<n>`` for a number.
        of_device: judges one device that answers.
        of_node: judges all, also those that do not answer.
        needs: readings without any one of which a device is not judged.
        without_driver: it has a verdict also where the driver does not answer.
    """

    name: str
    about: str
    reads: tuple[str, ...]
    codes: tuple[str, ...]
    of_device: OfDevice | None = None
    of_node: OfNode | None = None
    without_driver: bool = False
    needs: tuple[str, ...] = ()


def hang(hung: Facts | DeviceFacts, context: Context) -> Sign:
    """Return the sign of a driver that had not answered by the deadline."""
    evidence = {"call": hung.hung_in, "timeout_s": context.timeout_s}
    return Sign("DRIVER-HANG", evidence, hung.device if isinstance(hung, DeviceFacts) else None)


@dataclass
class Outcome:
    """What the checks of a family found."""

    findings: list[Finding] = field(default_factory=list)
    unchecked: list[Unchecked] = field(default_factory=list)
    passed: int = 0

    def add(
        self,
        check: Check,
        device: Device,
        items: Iterable[Sign | Unchecked],
        overrides: Overrides,
    ) -> None:
        """Take what a check gave for a device; nothing is a pass."""
        found = list(items)
        self.passed += not found
        for item in found:
            if isinstance(item, Unchecked):
                self.unchecked.append(item)
            else:
                about = item.device or device
                self.findings.append(finding(item, check.name, about, overrides))


def finding(sign: Sign, check: str, device: Device, overrides: Overrides) -> Finding:
    """Return the finding that a sign stands for."""
    known = explain(sign.code, overrides)
    own = overrides.get(known.code, {})
    severity = sign.severity
    if severity is None or "severity" in own:
        severity = known.severity
    move_workload = known.move_workload
    if sign.severity not in (None, "degraded") and "move_workload" not in own:
        move_workload = severity == "fatal"
    return Finding(
        code=sign.code,
        severity=severity,
        device=device,
        evidence=sign.evidence,
        meaning=known.meaning,
        action=known.action,
        move_workload=move_workload,
        check=check,
        number=sign.number,
    )


def run_checks(
    checks: Sequence[Check],
    facts: Facts,
    context: Context,
    overrides: Overrides,
    causes: Mapping[str, frozenset[str]],
) -> Outcome:
    """Run the checks of one family over what was read.

    Args:
        checks: in order.
        facts: of the family.
        context: whatever else the checks may know.
        overrides: a user's own severities and texts.
        causes: consequence to the findings that explain it: then it is no finding of its own, but
            stands in the evidence of its cause.
    """
    outcome = Outcome()
    for check in checks:
        if not (facts.answers or check.without_driver):
            reason = f"the driver does not answer{_because(facts)}"
            outcome.unchecked.append(Unchecked(check.name, NODE, reason, skipped=False))
        elif check.of_node is not None:
            outcome.unchecked += (
                each
                for device in facts.devices
                if device.answers
                for each in _unread(check, device)
                if not each.skipped
            )
            outcome.add(check, NODE, check.of_node(facts, context), overrides)
        elif check.of_device is not None:
            for device in facts.devices:
                if device.answers:
                    judged = check.of_device(device, context) if device.has(*check.needs) else ()
                    signs: chain[Sign | Unchecked] = chain(_unread(check, device), judged)
                    outcome.add(check, device.device, signs, overrides)
    outcome.unchecked += _silent(checks, facts, outcome)
    outcome.findings = _settled(outcome.findings, causes)
    return outcome


def _silent(checks: Sequence[Check], facts: Facts, outcome: Outcome) -> Iterator[Unchecked]:
    """Yield the checks of devices that do not answer and of which nothing else says so."""
    known = {each.device for each in outcome.findings} | {each.device for each in outcome.unchecked}
    for device in facts.devices:
        if not device.answers and device.device not in known:
            reason = f"the device does not answer{_because(device)}"
            for check in checks:
                if not check.without_driver:
                    yield Unchecked(check.name, device.device, reason, skipped=False)


def _because(silent: Facts | DeviceFacts) -> str:
    if silent.hung_in is not None:
        return f": hung in {silent.hung_in}"
    return f": {silent.error.text}" if silent.error else ""


def _settled(findings: Sequence[Finding], causes: Mapping[str, frozenset[str]]) -> list[Finding]:
    """Fold every finding that another one on the same device, or the node, explains into that."""
    kept: list[Finding] = []
    folded: dict[int, list[str]] = {}
    for consequence in findings:
        reasons = causes.get(consequence.code, frozenset())
        cause = next((f for f in findings if f.code in reasons and _touches(f, consequence)), None)
        if cause is None:
            kept.append(consequence)
        else:
            folded.setdefault(id(cause), []).append(consequence.code)
    return [
        replace(each, evidence={**each.evidence, "explains": sorted(set(folded[id(each)]))})
        if id(each) in folded
        else each
        for each in kept
    ]


def _touches(cause: Finding, consequence: Finding) -> bool:
    return (
        cause.device == consequence.device
        or cause.device.kind == "node"
        or consequence.device.kind == "node"
    )


def _unread(check: Check, device: DeviceFacts) -> Iterator[Unchecked]:
    """Yield why a check has no full verdict on a device, if so."""
    failures = {name: device.failures[name] for name in check.reads if name in device.failures}
    broken = {name: f for name, f in failures.items() if f.kind != "not_supported"}
    if broken:
        reason = "; ".join(f"{name}: {f.text}" for name, f in broken.items())
        yield Unchecked(check.name, device.device, reason, skipped=False)
    elif check.reads and not (device.has_any(check.reads) and device.has(*check.needs)):
        wanted = [name for name in check.needs if not device.has(name)] or check.reads
        reasons = sorted({f.text for f in failures.values()}) or ["not read"]
        reason = f"{', '.join(wanted)}: {'; '.join(reasons)}"
        yield Unchecked(check.name, device.device, reason, skipped=True)
