"""``aibrixctl optimize report``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aibrixctl.command import command
from aibrixctl.result import Result

if TYPE_CHECKING:
    from optimizer.workload import Workload
    from profiler.table import ThroughputTable


@command(
    "optimize report",
    examples=(
        ("aibrixctl optimize report plan.json --out plan.html", "the plan as one HTML page"),
        (
            "aibrixctl optimize report plan.json --out plan.html --title 'Chat, November'",
            "under a heading of your own",
        ),
    ),
)
def report(
    path: Annotated[str, typer.Argument(metavar="PLAN", help="A plan that `optimize plan` wrote.")],
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="HTML file to write.")],
    title: Annotated[str, typer.Option("--title", help="Heading of the page.")] = "",
    note: Annotated[
        list[str] | None, typer.Option("--note", help="A sentence to show. Repeatable.")
    ] = None,
) -> Result:
    """Write a plan as one HTML page: the mix, its cost, where each bucket goes, and the tables.

    The tables and the workload are those that the plan names, found beside it or in the current
    folder; files that have changed since are refused. The page fetches nothing.
    """
    from accelerators.documents import write_text
    from aibrixctl.report.plan_page import plan_page
    from optimizer import plan as plans

    plan = plans.load(path)
    folder = Path(path).parent
    tables = [_table(entry, folder) for entry in plan.inputs.get("tables", ())]
    html = plan_page(plan, tables, _workload(plan.inputs, folder), title=title, notes=note or ())
    write_text(out, html)

    def view(console: Any, wide: bool) -> None:
        console.print(f"wrote {out} ({len(html) / 1024:.0f} KiB)")

    return Result({"plan": path, "out": out, "bytes": len(html.encode())}, view=view)


def _find(name: str, digest: str | None, folder: Path) -> Path:
    """Return the file of a name, beside the plan or here, unchanged since the plan was made."""
    from accelerators.errors import UsageError
    from optimizer.workload.collect import digest as digest_of

    found = next((p for p in (folder / name, Path(name)) if p.is_file()), None)
    if found is None:
        raise UsageError(
            "report.missing",
            f"the plan rests on {name}, which is neither beside it nor here",
            hint="run this in the folder where the plan was made",
            target=name,
        )
    if digest is not None and digest_of(found) != digest:
        raise UsageError(
            "report.changed",
            f"{found} has changed since the plan was made",
            hint="make the plan again, then the report",
            target=str(found),
        )
    return found


def _table(entry: dict[str, Any], folder: Path) -> "ThroughputTable":
    from profiler.table import load

    return load(_find(entry["path"], entry["digest"], folder))


def _workload(inputs: dict[str, Any], folder: Path) -> "Workload | None":
    """Return the plan's workload; None when it came from a Mélange problem."""
    from dataclasses import replace

    from optimizer.workload import read

    entry = inputs.get("workload")
    if not entry:
        return None
    found = _find(entry["path"], entry["digest"], folder)
    return replace(read(str(found), format_name=entry["format"]), source=entry["path"])
