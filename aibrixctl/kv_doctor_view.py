"""Draw what an examination of a KV pool found for a person."""

from typing import TYPE_CHECKING

from accelerators.units import format_bytes
from aibrixctl.doctor_view import counted, draw_checks, draw_finding, one_line, summary

if TYPE_CHECKING:
    from rich.console import Console

    from kvpool.doctor.finding import Report
    from kvpool.doctor.repair import Repaired


def draw_report(
    console: "Console", url: str, report: "Report", repaired: "Repaired | None", *, wide: bool
) -> None:
    """Print findings, worst first, and a line that sums them up."""
    console.print(f"{url}  {report.facts['backend']}", style="bold", soft_wrap=True)
    if repaired is not None:
        _draw_repaired(console, repaired)
    for finding in report.findings:
        console.print()
        size = f" ({format_bytes(finding.bytes)})" if finding.bytes is not None else ""
        draw_finding(console, finding.hazard, finding.evidence, f": {finding.count:,}{size}")
    if report.findings:
        console.print()
    if wide:
        draw_checks(console, report)
    seen = [] if report.scanned is None else [f"{report.scanned:,} entries seen"]
    writing = [f"{report.in_flight:,} still being written"] if report.in_flight else []
    console.print(summary(report, *seen, *writing))


def _draw_repaired(console: "Console", repaired: "Repaired") -> None:
    verb = "would remove" if repaired.dry_run else "removed"
    text = f"{verb} {counted(repaired.removed, 'orphan')}, {format_bytes(repaired.removed_bytes)}"
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
        console.print(f"  {one_line(key)}", soft_wrap=True, highlight=False)
    if repaired.removed > len(repaired.keys):
        console.print(f"  and {repaired.removed - len(repaired.keys):,} more")
