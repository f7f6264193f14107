"""Options of the commands that take tables, and tables as AIBrix's profiles."""

from typing import TYPE_CHECKING, Any

import typer

from aibrixctl.result import Problem

if TYPE_CHECKING:
    from profiler.interop.aibrix import Exported
    from profiler.table import ThroughputTable

TABLES = typer.Argument(metavar="TABLE", help="Table files, or folders of *.table.json.")
COST = typer.Option(
    "--cost", metavar="NAME=USD,…", help="Dollars per hour of a replica, over the table's own."
)
ALLOW_MISSING = typer.Option(
    "--allow-missing", help="Write cells that were not measured as 0, which means never routed to."
)
DEPLOYMENT = typer.Option(
    "--deployment",
    metavar="[NAMESPACE/]NAME",
    help="AIBrix's deployment; by default the one that was measured, else the table's target.",
)


def aibrix_profile(
    table: "ThroughputTable", deployment: str | None, allow_missing: bool
) -> "Exported":
    """Return a table as AIBrix's GPU profile; one measured in a cluster has its deployment's name.

    Raises:
        UsageError: the table can't be one.
    """
    from accelerators.documents import timestamp
    from profiler.in_cluster.place import deployment_of
    from profiler.interop.aibrix import to_profile

    return to_profile(
        table,
        created=timestamp(precise=True),
        deployment=deployment or deployment_of(table.provenance.where),
        allow_missing=allow_missing,
    )


def warnings_of(code: str, texts: Any) -> tuple[Problem, ...]:
    """Return a warning for each text."""
    return tuple(Problem(code, text) for text in texts)
