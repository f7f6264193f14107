"""Take back what the records on the nodes say that we changed, and nothing else."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from accelerators.errors import ToolError
from cluster.api import Api
from cluster.errors import ForbiddenError
from diagnose.nodes import record as records
from diagnose.nodes.changes import (
    Change,
    Marked,
    again_on_conflict,
    condition_change,
    current,
    service_changes,
    write_condition,
    write_service,
)
from diagnose.nodes.node import read
from diagnose.nodes.record import Record


def undo(
    api: Api, labels: str = "", *, dry_run: bool = False, stop: threading.Event | None = None
) -> Iterator[Marked]:
    """Yield what is undone on each node that has a record, by name.

    The condition goes first and the record last, with the cordon and the taint: what is cut off
    in between is finished by the next undo.

    Args:
        api: the cluster.
        labels: selector of nodes; all by default.
        dry_run: let the server check every write, and change nothing.
        stop: when set, no further node is touched.

    Raises:
        ClusterError: nodes can't be listed.
    """
    for name in [node.name for node in read(api, labels) if node.record is not None]:
        if stop is not None and stop.is_set():
            return
        done: dict[str, Change] = {}
        try:
            left = again_on_conflict(partial(_undo, api, name, done, dry_run=dry_run))
        except ForbiddenError as error:
            yield Marked(name, tuple(done.values()), error=error)
            return
        except ToolError as error:
            yield Marked(name, tuple(done.values()), error=error)
        else:
            yield Marked(name, tuple(done.values()), left)


def _undo(api: Api, name: str, done: dict[str, Change], *, dry_run: bool) -> str | None:
    """Undo one node, note in ``done`` what has been written, and return why it stays closed."""
    node = current(api, name)
    record = records.parse(name, node.record)
    left = None
    reopens = record.cordon and node.cordoned
    if reopens and not node.cordoned_by_us:
        reopens, left = False, "someone else has cordoned it since"
    version = node.version
    if record.condition and node.condition != record.condition_before:
        before = record.condition_before
        version = write_condition(api, name, version, before, dry_run=dry_run)
        done["condition"] = condition_change(node, before)
    cordoned = node.cordoned and not reopens
    tainted = node.tainted and not record.taint
    write_service(
        api,
        replace(node, version=version),
        Record(),
        cordoned=cordoned,
        tainted=tainted,
        dry_run=dry_run,
    )
    done |= service_changes(node, cordoned=cordoned, tainted=tainted)
    return left
