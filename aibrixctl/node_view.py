"""The result of ``diagnose cluster``: a table by node, its JSON form, and the exit code."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from accelerators.errors import ToolError
from aibrixctl.diagnose_view import STYLES, draw_finding
from aibrixctl.exit_codes import ExitCode
from aibrixctl.result import Problem, Result
from aibrixctl.signals import StopFlag
from diagnose.findings import SEVERITIES
from diagnose.nodes.changes import Marked
from diagnose.nodes.condition import place
from diagnose.nodes.mark import Policy
from diagnose.nodes.node import Node
from diagnose.nodes.report import NodeReport

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Scan:
    """What was scanned.

    Attributes:
        nodes: that were to be diagnosed.
        reports: of those that were.
        unsupported: nodes whose accelerators no check knows.
        left_behind: why Jobs of it may be left; None where all are removed.
    """

    nodes: tuple[Node, ...] = ()
    reports: tuple[NodeReport, ...] = ()
    unsupported: tuple[str, ...] = ()
    left_behind: ToolError | None = None


@dataclass(frozen=True)
class Work:
    """What was done to the nodes, or would be.

    Attributes:
        marked: by node.
        announced: nodes that were said to be changed next; none in a dry run.
    """

    marked: tuple[Marked, ...] = ()
    announced: tuple[str, ...] = ()

    @property
    def untouched(self) -> tuple[str, ...]:
        """The nodes that were announced and never reached."""
        reached = {one.node for one in self.marked}
        return tuple(name for name in self.announced if name not in reached)


def result(
    scan: Scan,
    work: Work,
    stop: StopFlag,
    *,
    policy: Policy | None,
    dry_run: bool,
    undone: bool = False,
) -> Result:
    """Return what the command answers."""
    marked = work.marked
    errors = tuple(_errors(scan, marked))
    if stop.is_set():
        writes = (policy is not None or undone) and not dry_run
        errors = (_interrupted(scan, work, writes=writes, undone=undone), *errors)
    if stop.is_set():
        code = stop.exit_code
    elif any(one.error is not None and one.error.kind == "unreachable" for one in marked):
        code = ExitCode.UNREACHABLE
    elif any(report.faults for report in scan.reports):
        code = ExitCode.FAULTS_FOUND
    else:
        code = ExitCode.PARTIAL if errors else ExitCode.OK
    partial = any(problem.code != "diagnose.faults" for problem in errors)
    return Result(
        {
            "nodes": [_node(report, scan) for report in scan.reports],
            "unsupported": list(scan.unsupported),
            "apply": policy.how if policy else None,
            "undo": undone,
            "dry_run": dry_run,
            "changed": [_marked(one) for one in marked if one.changes or one.left or one.error],
        },
        rows=[row for report in scan.reports for row in _rows(report, scan)],
        record="device",
        view=lambda console, wide: _draw(
            console, scan, marked, wide=wide, dry_run=dry_run, undone=undone
        ),
        status="partial" if partial else "success",
        exit_code=code,
        errors=errors,
        warnings=tuple(_warnings(scan)),
    )


def _interrupted(scan: Scan, work: Work, *, writes: bool, undone: bool) -> Problem:
    """Return how far a run got that a signal stopped: what had answered, what is as it was."""
    answered = f"{len(scan.reports)} of {len(scan.nodes)} nodes had answered"
    text = "stopped by a signal" + ("" if undone else f"; {answered}")
    if writes and not any(one.changes for one in work.marked):
        left = "nothing was changed"
    elif work.untouched:
        left = f"announced and not changed: {', '.join(work.untouched)}"
    else:
        return Problem("interrupted", text)
    hint = "run it again: what is done is not written again"
    return Problem("interrupted", f"{text}; {left}", hint=hint)


def _errors(scan: Scan, marked: Sequence[Marked]) -> Iterator[Problem]:
    faulty = [report for report in scan.reports if report.faults]
    if faulty:
        codes = dict.fromkeys(fault.code for report in faulty for fault in report.faults)
        nodes = ", ".join(report.node for report in faulty)
        faults = _count(sum(len(report.faults) for report in faulty), "fault")
        text = f"{faults} on {_count(len(faulty), 'node')}: {', '.join(codes)} on {nodes}"
        yield Problem("diagnose.faults", text)
    for report in scan.reports:
        if report.why is not None:
            yield Problem(
                "diagnose.node_unknown", f"{report.node} is not known: {report.why}", report.node
            )
    for one in marked:
        if one.left is not None:
            yield Problem("diagnose.left", f"{one.node} was left as it is: {one.left}", one.node)
        if one.error is not None:
            yield Problem.of(one.error)


def _warnings(scan: Scan) -> Iterator[Problem]:
    if scan.left_behind is not None:
        yield Problem.of(scan.left_behind)
    simulated = [report.node for report in scan.reports if report.simulated]
    if simulated:
        text = f"mocks were diagnosed, not the hardware, on {', '.join(simulated)}"
        yield Problem("diagnose.simulated", text)
    if scan.unsupported:
        text = f"no check knows the accelerators of {', '.join(scan.unsupported)}"
        yield Problem("diagnose.unsupported_nodes", text)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _node(report: NodeReport, scan: Scan) -> dict[str, Any]:
    node = next(one for one in scan.nodes if one.name == report.node)
    return {
        "node": report.node,
        "product": report.product,
        "accelerators": dict(node.accelerators),
        "in_service": node.available,
        "verdict": report.verdict,
        "why_unknown": report.why,
        "simulated": report.simulated,
        "devices": [vars(device) | {"health": health} for device, health in report.devices],
        "findings": [finding.to_json() for finding in report.findings],
    }


def _marked(one: Marked) -> dict[str, Any]:
    return {
        "node": one.node,
        "changes": [vars(change) for change in one.changes],
        "left": one.left,
        "error": None if one.error is None else one.error.message,
    }


def _rows(report: NodeReport, scan: Scan) -> Iterator[dict[str, Any]]:
    """Yield a row per device, and one for what concerns the whole node."""
    head = {"node": report.node, "product": report.product}
    for device, health in report.devices:
        found = [f for f in report.findings if (f.device.kind, f.device.index) ==
                 (device.kind, device.index)]  # fmt: skip
        yield head | {
            "kind": device.kind,
            "index": device.index,
            "uuid": device.uuid,
            "pci_bus_id": device.pci_bus_id,
            "health": health,
            "codes": [finding.code for finding in found],
        }
    whole = [finding for finding in report.findings if finding.device.index is None]
    if whole or not report.devices:
        worst = max(whole, key=lambda f: SEVERITIES.index(f.severity), default=None)
        yield head | {
            "kind": "node",
            "index": None,
            "uuid": None,
            "pci_bus_id": None,
            "health": "unknown" if report.why or worst is None else worst.severity,
            "codes": [finding.code for finding in whole],
        }


def _draw(
    console: "Console",
    scan: Scan,
    marked: Sequence[Marked],
    *,
    wide: bool,
    dry_run: bool,
    undone: bool,
) -> None:
    from aibrixctl.render import table_of

    if scan.reports:
        console.print(table_of([_line(report, scan, wide=wide) for report in scan.reports]))
    for report in scan.reports:
        for finding in report.findings:
            if finding.severity != "info" or wide:
                console.print(f"\n{report.node}", style="bold")
                draw_finding(console, finding, wide=wide)
    if undone and not marked:
        console.print("Nothing to undo: no node has a record of a change")
    _draw_changes(console, marked, "\n" if scan.reports else "", dry_run=dry_run)


def _line(report: NodeReport, scan: Scan, *, wide: bool) -> dict[str, Any]:
    node = next(one for one in scan.nodes if one.name == report.node)
    sound = sum(health in ("healthy", "info") for _, health in report.devices)
    worst = next(iter(report.faults or report.findings), None)
    line = {
        "node": report.node,
        "type": report.product or next(iter(node.accelerators), None),
        "healthy": f"{sound} of {len(report.devices)}" if report.devices else None,
        "verdict": report.verdict,
        "worst": f"{worst.code} ({place(worst)})" if worst else None,
        "service": _service(node),
    }
    if wide:
        counts = ", ".join(f"{name} {number}" for name, number in node.accelerators.items())
        line |= {"capacity": counts or None, "not known": report.why}
    return line


def _service(node: Node) -> str:
    states = (("not ready", not node.ready), ("cordoned", node.cordoned), ("tainted", node.tainted))
    return ", ".join(name for name, holds in states if holds) or "open"


def _draw_changes(
    console: "Console", marked: Sequence[Marked], head: str, *, dry_run: bool
) -> None:
    changed = [one for one in marked if one.changes or one.left or one.error]
    if changed:
        console.print(f"{head}{'Would change' if dry_run else 'Changed'}", style="bold")
    for one in changed:
        parts = [str(change) for change in one.changes] if one.error is None else []
        text = "; ".join(parts) or "nothing"
        if one.error is not None:
            console.print(f"  {one.node}  FAILED: {one.error.message}", style=STYLES["degraded"])
        elif one.left is not None:
            console.print(f"  {one.node}  {text}; LEFT AS IT IS: {one.left}", style="yellow")
        else:
            console.print(f"  {one.node}  {text}")
