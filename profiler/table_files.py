"""Throughput tables on disk: many at once, and with other prices."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from profiler import table as tables
from profiler.errors import ProfilerUsageError
from profiler.table import ThroughputTable
from profiler.targets import parse_costs

SUFFIX = ".table.json"


def path_in(folder: str | os.PathLike[str], target: str) -> Path:
    """Return where a target's table lies in a folder."""
    return Path(folder) / f"{target}{SUFFIX}"


def files_of(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Return table files, and those of folders (``*.table.json``), each once, in the order given.

    Raises:
        ProfilerUsageError: a folder without tables.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        found = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
        if not found:
            raise ProfilerUsageError(
                "table.none",
                f"{path} holds no *{SUFFIX}",
                hint="make tables with `aibrixctl profile run --out DIR`",
                target=str(path),
            )
        files += [file for file in found if file not in files]
    return files


def load_all(paths: Iterable[str | os.PathLike[str]]) -> list[ThroughputTable]:
    """Return the tables of files, and of folders of ``*.table.json``, in the order given.

    Raises:
        UsageError: unreadable, another document or another version, or a folder without tables.
    """
    return [tables.load(file) for file in files_of(paths)]


def with_costs(
    loaded: Sequence[ThroughputTable], assignments: Iterable[str]
) -> list[ThroughputTable]:
    """Return the tables with the costs of ``NAME=USD,…`` texts, dollars per hour of a replica.

    Raises:
        ProfilerUsageError: a malformed cost, or a name that no table has.
    """
    costs = parse_costs(assignments, [table.target for table in loaded])
    return [
        replace(table, cost_usd_per_hour=costs.get(table.target, table.cost_usd_per_hour))
        for table in loaded
    ]
