"""Tell the cluster what a scan found: condition and Events, and the worst nodes out of service."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from accelerators.documents import timestamp
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
from diagnose.nodes.condition import condition_for, says_the_same, write_events
from diagnose.nodes.node import Node, read
from diagnose.nodes.record import Record
from diagnose.nodes.report import NodeReport
from diagnose.nodes.service import Limit, choose

How = Literal["condition", "taint", "cordon"]


@dataclass(frozen=True)
class Policy:
    """What may be done.

    Attributes:
        how: only tell (condition and Events), or also keep new work away, by taint or cordon.
        limit: most nodes out of service at once.
        return_healed: open again what we closed and what is found healthy now.
    """

    how: How = "condition"
    limit: Limit = field(default_factory=Limit)
    return_healed: bool = False


def mark(
    api: Api,
    reports: Sequence[NodeReport],
    policy: Policy,
    *,
    dry_run: bool = False,
    stop: threading.Event | None = None,
) -> Iterator[Marked]:
    """Yield what is done for each report, the worst first.

    Each node is read anew before it is written, and for one that is to go all others too: whether
    the limit allows it is decided on what is so at that moment. Nothing that stands on the node
    already is written again, so a run that was cut off is repaired by the next.

    Args:
        api: the cluster.
        reports: of a scan.
        policy: what may be done.
        dry_run: let the server check every write, and change nothing.
        stop: when set, no further node is touched.
    """
    gone: set[str] = set()
    for report in sorted(reports, key=lambda one: (-one.fatal, -len(one.faults), one.node)):
        if stop is not None and stop.is_set():
            return
        done: dict[str, Change] = {}
        attempt = partial(_mark, api, report, policy, gone, done, dry_run=dry_run)
        try:
            left = again_on_conflict(attempt)
        except ForbiddenError as error:  # so it would be for all others
            yield Marked(report.node, tuple(done.values()), error=error)
            return
        except ToolError as error:
            yield Marked(report.node, tuple(done.values()), error=error)
        else:
            yield Marked(report.node, tuple(done.values()), left)


def _mark(
    api: Api,
    report: NodeReport,
    policy: Policy,
    gone: set[str],
    done: dict[str, Change],
    *,
    dry_run: bool,
) -> str | None:
    """Do one node, note in ``done`` what has been written, and return why it is left, if it is."""
    node, out, left = _decided(api, report, policy, gone)
    record = records.parse(node.name, node.record)
    back = policy.return_healed and report.verdict == "healthy"
    cordoned = node.cordoned or (out and policy.how == "cordon")
    tainted = node.tainted or (out and policy.how == "taint")
    if back:
        cordoned, tainted = cordoned and not record.cordon, tainted and not record.taint
    version = write_service(
        api,
        node,
        _recorded(record, node, cordoned=cordoned, tainted=tainted),
        cordoned=cordoned,
        tainted=tainted,
        dry_run=dry_run,
    )
    done |= service_changes(node, cordoned=cordoned, tainted=tainted)
    if out:
        gone.add(node.name)
    now = timestamp()
    condition = condition_for(report, node.condition, now)
    write_condition(api, node.name, version, condition, dry_run=dry_run)
    if not says_the_same(node.condition, condition):
        done["condition"] = condition_change(node, condition)
    write_events(api, report, now, dry_run=dry_run)
    return left


def _decided(
    api: Api, report: NodeReport, policy: Policy, gone: set[str]
) -> tuple[Node, bool, str | None]:
    """Return the node as it is, whether it goes out of service, and why not if it should."""
    if policy.how == "condition" or not report.fatal:
        return current(api, report.node), False, None
    # A dry run leaves no trace in the cluster of what it has counted out.
    pool = [replace(n, cordoned=True) if n.name in gone else n for n in read(api)]
    choice = choose([report.node], pool, policy.limit)
    node = next((one for one in pool if one.name == report.node), None)
    if node is None:
        return current(api, report.node), False, None
    if not choice.left:
        return node, True, None
    closed = sum(not one.available for one in pool)
    most = policy.limit.of(len(pool))
    why = f"{closed} of {len(pool)} nodes are out of service, and at most {most} may be"
    return node, False, why


def _recorded(record: Record, node: Node, *, cordoned: bool, tainted: bool) -> Record:
    """Return the record after a change: what stood there before us stays as it was noted first."""
    if not record.condition:
        record = replace(record, condition=True, condition_before=node.condition)
    return replace(
        record,
        cordon=cordoned and (record.cordon or not node.cordoned),
        taint=tainted and (record.taint or not node.tainted),
    )
