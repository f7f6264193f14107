"""Draw why an autoscaler does not move, for a person."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from optimizer.doctor.finding import Finding, Report

_STYLES = {"fatal": "bold red", "degraded": "red", "warning": "yellow", "info": "cyan"}


def draw_report(console: "Console", title: str, report: "Report", *, wide: bool) -> None:
    """Print findings, worst first, and a line that sums them up."""
    console.print(title, style="bold", soft_wrap=True)
    console.print()
    for finding in report.findings:
        _draw_finding(console, finding)
        console.print()
    if wide:
        _draw_checks(console, report)
    console.print(_summary(report))


def _draw_finding(console: "Console", finding: "Finding") -> None:
    from rich.padding import Padding
    from rich.text import Text

    hazard = finding.hazard
    head = Text.assemble(
        (f"{hazard.severity:<9}", _STYLES[hazard.severity]),
        (hazard.code, "bold"),
        f"  {hazard.title}",
    )
    console.print(head, soft_wrap=True)
    for line in finding.evidence:
        console.print(Text(f"    {line}"), soft_wrap=True)
    for paragraph in (hazard.meaning, f"remedy: {hazard.remedy}"):
        console.print(Padding(Text(paragraph), (0, 0, 0, 2), expand=False))


def _draw_checks(console: "Console", report: "Report") -> None:
    for code in report.passed:
        console.print(f"passed    {code}")
    for check in report.unchecked:
        console.print(f"{'open' if check.applies else 'left out':<9} {check.code}: {check.reason}")
    console.print()


def _summary(report: "Report") -> str:
    faults, notes = len(report.faults), len(report.findings) - len(report.faults)
    parts = [_counted(faults, "fault") if faults else "no fault"]
    if notes:
        parts.append(_counted(notes, "note"))
    parts.append(f"{_counted(len(report.passed), 'check')} passed")
    if report.undecided:
        parts.append(f"{len(report.undecided)} could not run")
    return ", ".join(parts)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
