"""Draw a migration of a KV pool for a person."""

from typing import TYPE_CHECKING

from accelerators.units import format_bytes, format_duration

if TYPE_CHECKING:
    from rich.console import Console

    from kvpool.migrate.journal import Fate
    from kvpool.migrate.report import Report

_FATES: "dict[Fate, str]" = {
    "copied": "copied",
    "moved": "moved, and removed from the source",
    "same": "already there, the same",
    "kept": "left: the target has another",
    "gone": "vanished from the source first",
    "changing": "kept changing",
    "unfit": "do not fit the target",
    "pending": "still to copy",
    "writing": "begun, to be copied again",
    "stale": "changed since, to be copied again",
}


def draw_plan(console: "Console", report: "Report") -> None:
    """Print what a migration would do."""
    plan = report.plan
    _head(console, report)
    console.print(f"would copy {plan.entries:,} entries, {format_bytes(plan.bytes)}")
    _models(console, report)
    if plan.present_entries:
        console.print(
            f"{plan.present_entries:,} of them ({format_bytes(plan.present_bytes)}) seem to be "
            "there already; they would be compared, not copied"
        )
    if plan.expiring:
        console.print(f"{plan.expiring:,} of them expire, and will at the same time")
    free = "unlimited" if plan.free_bytes is None else format_bytes(plan.free_bytes)
    console.print(f"takes {format_bytes(plan.needed_bytes)} of {free} that the target has free")
    _others(console, report)
    console.print("nothing was written")


def draw_report(console: "Console", report: "Report") -> None:
    """Print what became of a migration."""
    from aibrixctl.render import table_of

    _head(console, report)
    rows = [
        {
            "what became of them": _FATES[fate],
            "entries": f"{report.fates[fate]:,}",
            "bytes": format_bytes(report.fate_bytes[fate]),
        }
        for fate in _FATES
        if report.fates.get(fate)
    ]
    if rows:
        console.print(table_of(rows))
    if report.elapsed_s and report.written_entries:
        rate = format_bytes(report.written_bytes / report.elapsed_s)
        console.print(
            f"{format_bytes(report.written_bytes)} in {format_duration(report.elapsed_s)}, "
            f"{rate}/s; {report.verified_entries:,} of {report.written_entries:,} copies read "
            "back and compared"
        )
    if report.recopied_entries:
        console.print(f"{report.recopied_entries:,} changed meanwhile and were copied again")
    _others(console, report)
    if not report.complete:
        console.print(f"journal: {report.journal}", soft_wrap=True)


def _head(console: "Console", report: "Report") -> None:
    console.print(f"{report.source}\n  -> {report.target}", style="bold", soft_wrap=True)


def _models(console: "Console", report: "Report") -> None:
    from aibrixctl.render import table_of

    rows = [
        {"model": name or "-", "bytes": format_bytes(size)}
        for name, size in report.plan.models.most_common()
    ]
    if rows:
        console.print(table_of(rows))


def _others(console: "Console", report: "Report") -> None:
    plan = report.plan
    parts = [
        f"{count:,} {name}"
        for count, name in (
            (plan.left_out, "of other models"),
            (plan.orphans, "orphaned"),
            (plan.undecodable, "undecodable"),
            (plan.foreign, "foreign"),
        )
        if count
    ]
    if parts:
        console.print(f"left where they are: {', '.join(parts)}")
