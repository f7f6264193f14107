"""What the readers and writers of other tools' formats share."""

import datetime
from dataclasses import dataclass
from typing import Any

from profiler.errors import ProfilerUsageError
from profiler.table import ThroughputTable


@dataclass(frozen=True)
class Imported:
    """A table read from another tool's file, and what a reader must know of it."""

    table: ThroughputTable
    warnings: tuple[str, ...]


def refuse_missing(table: ThroughputTable, tool: str, allow: bool) -> list[str]:
    """Return a warning when cells without a measurement are to be written as 0.

    Raises:
        ProfilerUsageError: there are such cells, and ``allow`` is False.
    """
    missing = [cell for cell in table.cells if cell.status == "not_measured"]
    if not missing:
        return []
    named = ", ".join(f"{cell.input_tokens}x{cell.output_tokens}" for cell in missing[:5])
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    if not allow:
        raise ProfilerUsageError(
            "export.not_measured",
            f"{len(missing)} cells of {table.target} were not measured ({named}{more}), "
            f"and {tool}'s format can't say so",
            hint="finish the measurement with `profile run --resume`, or write them as 0, "
            "which means that nothing is routed there, with --allow-missing",
            target=table.target,
        )
    return [f"{len(missing)} cells were not measured ({named}{more}) and are written as 0"]


def unix_seconds(moment: str) -> float:
    """Return unix seconds of an ISO 8601 time."""
    return datetime.datetime.fromisoformat(moment).timestamp()


def imported_on(created: Any) -> str | None:
    """Return ISO 8601 UTC of unix seconds; None when they are none."""
    if isinstance(created, bool) or not isinstance(created, int | float):
        return None
    try:
        moment = datetime.datetime.fromtimestamp(created, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
