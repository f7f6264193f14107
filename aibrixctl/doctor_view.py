"""Draw what an examination found, for a person."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from accelerators.hazards import Hazard
    from kvpool.doctor.finding import Report as PoolReport
    from optimizer.doctor.finding import Report as AutoscalerReport

    Report = PoolReport | AutoscalerReport

_STYLES = {"fatal": "bold red", "degraded": "red", "warning": "yellow", "info": "cyan"}


def draw_finding(
    console: "Console", hazard: "Hazard", evidence: Iterable[str], detail: str = ""
) -> None:
    """Print a hazard that is there: what shows it, what it means and what helps."""
    from rich.text import Text

    head = Text.assemble(
        (f"{hazard.severity:<9}", _STYLES[hazard.severity]),
        (hazard.code, "bold"),
        f"  {hazard.title}{detail}",
    )
    console.print(head, soft_wrap=True)
    for line in evidence:
        console.print(Text(f"    {one_line(line)}"), soft_wrap=True)
    draw_paragraph(console, hazard.meaning)
    draw_paragraph(console, f"remedy: {hazard.remedy}")


def one_line(text: str) -> str:
    """Return text without line ends: what follows one in a foreign key must not pass for ours."""
    return text.replace("\n", "␊")


def draw_paragraph(console: "Console", text: str, indent: int = 2) -> None:
    """Print wrapped text."""
    from rich.padding import Padding
    from rich.text import Text

    console.print(Padding(Text(text), (0, 0, 0, indent), expand=False))


def draw_checks(console: "Console", report: "Report") -> None:
    """Print the checks that found nothing, and those without a verdict by their reasons."""
    for code in report.passed:
        console.print(f"passed   {code}")
    left_out: dict[str, list[str]] = {}
    for check in report.unchecked:
        title = f"{'open' if check.applies else 'left out'}, {check.reason}"
        left_out.setdefault(title, []).append(check.code)
    for title, codes in left_out.items():
        draw_paragraph(console, f"{title}: {', '.join(codes)}", indent=0)
    console.print()


def summary(report: "Report", *before: str) -> str:
    """Return a line that sums a report up, after what else there is to say."""
    parts = list(before)
    faults, notes = len(report.faults), len(report.findings) - len(report.faults)
    parts.append(counted(faults, "fault") if faults else "no fault")
    if notes:
        parts.append(counted(notes, "note"))
    parts.append(f"{counted(len(report.passed), 'check')} passed")
    if report.undecided:
        parts.append(f"{len(report.undecided)} could not run")
    return ", ".join(parts)


def counted(count: int, noun: str) -> str:
    """Return ``1 fault``, ``2 faults``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
