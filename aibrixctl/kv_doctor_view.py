"""Draw what an examination of a KV pool found for a person."""

from typing import TYPE_CHECKING

from accelerators.units import format_bytes

if TYPE_CHECKING:
    from rich.console import Console

    from kvpool.doctor.finding import Finding, Report
    from kvpool.doctor.repair import Repaired

_STYLES = {"fatal": "bold red", "degraded": "red", "warning": "yellow", "info": "cyan"}


def draw_report(
    console: "Console", url: str, report: "Report", repaired: "Repaired | None", *, wide: bool
) -> None:
    """Print findings, worst first, and a line that sums them up."""
    console.print(f"{url}  {report.facts['backend']}", style="bold", soft_wrap=True)
    if repaired is not None:
        _draw_repaired(console, repaired)
    for finding in report.findings:
        console.print()
        _draw_finding(console, finding)
    if report.findings:
        console.print()
    if wide:
        _draw_checks(console, report)
    console.print(_summary(report))


def _draw_repaired(console: "Console", repaired: "Repaired") -> None:
    verb = "would remove" if repaired.dry_run else "removed"
    text = f"{verb} {_counted(repaired.removed, 'orphan')}, {format_bytes(repaired.removed_bytes)}"
    kept = [
        f"{count:,} {why}"
        for count, why in (
            (repaired.young, "too young"),
            (repaired.unknown_age, "of unknown age"),
            (repaired.foreign, "that only look like one"),
            (repaired.changed, "gone or completed meanwhile"),
        )
        if count
    ]
    console.print(f"{text}; left alone: {', '.join(kept)}" if kept else text)
    for key in repaired.keys:
        console.print(f"  {_one_line(key)}", soft_wrap=True, highlight=False)
    if repaired.removed > len(repaired.keys):
        console.print(f"  and {repaired.removed - len(repaired.keys):,} more")


def _draw_finding(console: "Console", finding: "Finding") -> None:
    from rich.text import Text

    hazard = finding.hazard
    size = f" ({format_bytes(finding.bytes)})" if finding.bytes is not None else ""
    head = Text.assemble(
        (f"{hazard.severity:<9}", _STYLES[hazard.severity]),
        (hazard.code, "bold"),
        f"  {hazard.title}: {finding.count:,}{size}",
    )
    console.print(head, soft_wrap=True)
    for line in finding.evidence:
        console.print(Text(f"    {_one_line(line)}"), soft_wrap=True)
    _draw_paragraph(console, hazard.meaning)
    _draw_paragraph(console, f"remedy: {hazard.remedy}")


def _one_line(text: str) -> str:
    # A foreign key may hold line ends, and what follows them must not pass for a finding.
    return text.replace("\n", "␊")


def _draw_paragraph(console: "Console", text: str, indent: int = 2) -> None:
    from rich.padding import Padding
    from rich.text import Text

    console.print(Padding(Text(text), (0, 0, 0, indent), expand=False))


def _draw_checks(console: "Console", report: "Report") -> None:
    for code in report.passed:
        console.print(f"passed   {code}")
    left_out: dict[str, list[str]] = {}
    for check in report.unchecked:
        title = f"{'open' if check.applies else 'left out'}, {check.reason}"
        left_out.setdefault(title, []).append(check.code)
    for title, codes in left_out.items():
        _draw_paragraph(console, f"{title}: {', '.join(codes)}", indent=0)
    console.print()


def _summary(report: "Report") -> str:
    parts = []
    if report.scanned is not None:
        parts.append(f"{report.scanned:,} entries seen")
    if report.in_flight:
        parts.append(f"{report.in_flight:,} still being written")
    faults, notes = len(report.faults), len(report.findings) - len(report.faults)
    parts.append(_counted(faults, "fault") if faults else "no fault")
    if notes:
        parts.append(_counted(notes, "note"))
    parts.append(f"{_counted(len(report.passed), 'check')} passed")
    if report.undecided:
        parts.append(f"{len(report.undecided)} could not run")
    return ", ".join(parts)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
