"""One diagnosis: read every family of accelerators, run the checks, report.

families ─ reader in a killable child ─► facts ─┐
PCI tree, kernel log (of the mock, if any) ─────┴─► checks ─► findings, unchecked
"""

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from accelerators import mocked
from diagnose import kernel_log, pci, reading, surroundings
from diagnose.checks import Check, Context, Outcome, run_checks
from diagnose.errors import DiagnoseUsageError, NoAcceleratorError
from diagnose.explain import Overrides
from diagnose.facts import Earlier, Facts
from diagnose.families import FAMILIES, Family
from diagnose.findings import SEVERITIES, Finding, Report
from diagnose.kernel_log import KernelLog
from diagnose.pci import PciFunction

if TYPE_CHECKING:
    from diagnose.active import Active

Choice = Literal["auto", "nvidia", "ascend"]


@dataclass(frozen=True)
class Options:
    """What to diagnose, and how.

    Attributes:
        accelerator: ``auto`` takes every family that the PCI bus or a driver shows.
        expect_count: devices there should be; None asks the PCI bus.
        expect_type: canonical name of the type they should be, as ``accelerators`` has it.
        checks: names of the checks to run; empty is all.
        skip: names of checks to leave out.
        timeout_s: for all of a driver's answers together.
        kernel_log: a file in the form of ``dmesg`` in place of the machine's log.
        since_s: only the last so many seconds of the kernel log; None is since boot.
        overrides: a user's own severities and actions, by code.
    """

    accelerator: Choice = "auto"
    expect_count: int | None = None
    expect_type: str | None = None
    checks: frozenset[str] = frozenset()
    skip: frozenset[str] = frozenset()
    timeout_s: float = 10.0
    kernel_log: Path | None = None
    since_s: float | None = None
    overrides: Overrides = field(default_factory=dict)


def diagnose(
    options: Options | None = None,
    environment: Mapping[str, str] = os.environ,
    *,
    previous: Mapping[str, Earlier] | None = None,
    stop: threading.Event | None = None,
) -> Report:
    """Return what is wrong with the accelerators of this machine, or of the mock it runs under.

    Args:
        options: by default everything, of every family that is there.
        environment: the children read under it: it names the mock, if any.
        previous: facts of a round before by family, for rates.
        stop: gives up at once when set.

    Raises:
        NoAcceleratorError: there is nothing to check.
        StoppedError: ``stop`` was set before there was a result.
        DiagnoseUsageError: a check that does not exist.
        UsageError: the kernel log file can't be read.
    """
    options = options or Options()
    check_names(options)
    mock = mocked.current(environment)
    families = [f for f in FAMILIES if options.accelerator in ("auto", f.name)]
    with _readers(families, options, environment, stop) as reads:
        around = _look_around(options, environment, mock)
        read = [future.result() for future in reads]
    around = around.with_processes(surroundings.pids(mocked=mock is not None))
    report = Report(simulated=mock is not None)
    for family, facts in zip(families, read, strict=True):
        context = _context(family, options, around, (previous or {}).get(family.name))
        if _is_there(family, options, facts, context):
            placed = _placed(facts, context.pci)
            checks = _chosen(family, options)
            outcome = run_checks(checks, placed, context, options.overrides, family.causes)
            report = _added(report, placed, outcome)
    if not report.facts:
        raise _nothing(options)
    return report


@contextlib.contextmanager
def _readers(
    families: Sequence[Family],
    options: Options,
    environment: Mapping[str, str],
    stop: threading.Event | None,
) -> Iterator[list[Future[Facts]]]:
    """Read all families at once, as long as the block lasts: nobody waits for a hung driver."""
    unwinding = threading.Event()

    def stopped() -> bool:
        return unwinding.is_set() or (stop is not None and stop.is_set())

    with ThreadPoolExecutor(len(families)) as pool:
        try:
            yield [
                pool.submit(
                    reading.read, f.name, f.reader, f.kind, environment, options.timeout_s, stopped
                )
                for f in families
            ]
        finally:
            unwinding.set()


@dataclass(frozen=True)
class _Surroundings:
    """What is read once, for all families."""

    sysfs: Path
    given_only_some: str | None
    kernel_log: KernelLog
    pids: frozenset[int] | None
    toolkits: Mapping[str, str]

    def with_processes(self, now: frozenset[int] | None) -> "_Surroundings":
        """Add the processes there are now: one that came or went meanwhile is no zombie."""
        both = self.pids | now if self.pids is not None and now is not None else None
        return replace(self, pids=both)


def _look_around(
    options: Options,
    environment: Mapping[str, str],
    mock: mocked.Mock | None,
) -> _Surroundings:
    own_tree = mock is not None and mock.sysfs.is_dir()
    return _Surroundings(
        sysfs=mock.sysfs if mock is not None and own_tree else Path("/sys"),
        given_only_some=None if own_tree else surroundings.given_only_some(environment),
        kernel_log=kernel_log.read(options.kernel_log, mock, options.since_s),
        pids=surroundings.pids(mocked=mock is not None),
        toolkits=surroundings.toolkits(environment),
    )


def check_names(options: Options) -> None:
    """Refuse names of checks that no family has.

    Raises:
        DiagnoseUsageError: names the nearest.
    """
    known = {check.name for family in FAMILIES for check in family.checks}
    for name in sorted((options.checks | options.skip) - known):
        import difflib

        near = difflib.get_close_matches(name, sorted(known), n=2)
        suggestion = f"; did you mean {' or '.join(near)}?" if near else ""
        raise DiagnoseUsageError(
            "diagnose.unknown_check",
            f"{name!r} is no check{suggestion}",
            hint="`aibrixctl diagnose list-checks` names them",
            target=name,
        )


def _chosen(family: Family, options: Options) -> list[Check]:
    return [
        check
        for check in family.checks
        if check.name not in options.skip and (not options.checks or check.name in options.checks)
    ]


def _context(
    family: Family, options: Options, around: "_Surroundings", previous: Earlier | None
) -> Context:
    found = pci.accelerators(family.name, around.sysfs)
    unknown = "there is no PCI tree to read" if found is None else around.given_only_some
    return Context(
        expect_count=options.expect_count,
        expect_type=options.expect_type,
        pci=found or (),
        pci_unknown=unknown,
        kernel_log=around.kernel_log,
        pids=around.pids,
        toolkits=around.toolkits,
        previous=previous.facts if previous else None,
        interval_s=previous.age_s if previous else None,
        timeout_s=options.timeout_s,
    )


def _placed(facts: Facts, found: Sequence[PciFunction]) -> Facts:
    """Give devices that did not say their address the one that is left over on the bus."""
    known = {device.address for device in facts.devices}
    left = [function.address for function in found if function.address not in known]
    lost = [device for device in facts.devices if device.address is None]
    if not lost or len(lost) != len(left):
        return facts
    # Drivers number their devices in the order of the bus.
    addresses = dict(zip([device.device.index for device in lost], left, strict=True))
    devices = (
        replace(each, device=replace(each.device, pci_bus_id=addresses[each.device.index]))
        if each.address is None
        else each
        for each in facts.devices
    )
    return replace(facts, devices=tuple(devices))


def _is_there(family: Family, options: Options, facts: Facts, context: Context) -> bool:
    """Tell whether a family is to be judged: asked for, on the bus, or known to a driver.

    One that was there in the round before is missed when it is gone.
    """
    if options.accelerator == family.name or context.pci or facts.devices or context.previous:
        return True
    if facts.error is not None:
        return facts.error.kind not in ("library_missing", "not_loaded", "not_started")
    return facts.hung_in is not None


def _nothing(options: Options) -> NoAcceleratorError:
    return NoAcceleratorError(
        "diagnose.no_accelerator",
        "no accelerator found: no NVIDIA or Ascend device on the PCI bus, and no driver",
        hint="with --accelerator nvidia or ascend the missing driver is a finding; "
        "`aibrixctl mock-fail run --node h100x8 -- aibrixctl diagnose` tries it on a simulation",
        target=options.accelerator,
    )


def _added(report: Report, facts: Facts, outcome: Outcome) -> Report:
    findings = sorted((*report.findings, *outcome.findings), key=_order)
    return replace(
        report,
        devices=(*report.devices, *(device.device for device in facts.devices)),
        findings=tuple(findings),
        unchecked=(*report.unchecked, *outcome.unchecked),
        passed=report.passed + outcome.passed,
        facts={**report.facts, facts.family: facts},
    )


def with_active(report: Report, active: "Active") -> Report:
    """Return a report with what the active tests found beside it."""
    return replace(
        report,
        findings=tuple(sorted((*report.findings, *active.findings), key=_order)),
        unchecked=(*report.unchecked, *active.unchecked),
        passed=report.passed + active.passed,
        facts={**report.facts, "active": active.facts},
    )


def _order(finding: Finding) -> tuple[Any, ...]:
    """Worst first, then by device and code."""
    device = finding.device
    index = -1 if device.index is None else device.index
    return (-SEVERITIES.index(finding.severity), device.kind, index, finding.code)
