"""What is changed on a node, as it is told, and the writes that change it.

Every write states the version of the node that was read, so that it is refused when the node has
changed since. The taints of a node are one value to the API, and its conditions are merged by type;
so spec and annotation go in one merge patch, at once or not at all, and the condition in a
strategic one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from accelerators.errors import ToolError
from cluster.api import Api, Object
from cluster.errors import ConflictError, NotFoundError
from cluster.kinds import NODE
from cluster.nodes import ACCELERATOR_HEALTHY, TAINT
from diagnose.nodes.node import RECORD, Node, node_of
from diagnose.nodes.record import Record

_TRIES = 8
T = TypeVar("T")


@dataclass(frozen=True)
class Change:
    """One thing that changes on a node: what it is, before and after, in words."""

    what: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.what}: {self.before} -> {self.after}"


@dataclass(frozen=True)
class Marked:
    """What was done to a node, or would be.

    Attributes:
        node: its name.
        changes: what changed; with an error, what had by then.
        left: why it stays in service although it should go, or closed although it was asked back.
        error: why it was not done, or not to the end.
    """

    node: str
    changes: tuple[Change, ...] = ()
    left: str | None = None
    error: ToolError | None = None


def current(api: Api, name: str) -> Node:
    """Return a node as it is now.

    Raises:
        NotFoundError: it has gone, or has no accelerators any more.
        ClusterError: the server refuses or fails.
    """
    found = node_of(api.get(NODE, name))
    if found is None:
        raise NotFoundError("node.no_accelerator", f"node {name} has no accelerators", target=name)
    return found


def again_on_conflict(attempt: Callable[[], T]) -> T:
    """Return what an attempt gives; one that meets a changed node is made anew, a few times."""
    for _ in range(_TRIES - 1):
        try:
            return attempt()
        except ConflictError:
            continue
    return attempt()


def write_service(
    api: Api,
    node: Node,
    record: Record,
    *,
    cordoned: bool,
    tainted: bool,
    dry_run: bool,
) -> str:
    """Open or close a node, with the record of it, in one write; return its version after it."""
    spec: Object = {}
    if cordoned != node.cordoned:
        spec["unschedulable"] = True if cordoned else None
    if tainted != node.tainted:
        others = [dict(taint) for taint in node.taints if taint.get("key") != TAINT["key"]]
        spec["taints"] = ([*others, TAINT] if tainted else others) or None
    text = None if record.empty else record.to_text()
    if not spec and text == node.record:
        return node.version
    metadata = {"resourceVersion": node.version, "annotations": {RECORD: text}}
    body: Object = {"metadata": metadata} | ({"spec": spec} if spec else {})
    after = api.patch(NODE, node.name, body, dry_run=dry_run)
    return node.version if dry_run else str(after["metadata"]["resourceVersion"])


def write_condition(
    api: Api, name: str, version: str, condition: Mapping[str, Any] | None, *, dry_run: bool
) -> str:
    """Write the condition, or take it away with None; return the node's version after it."""
    gone = {"type": ACCELERATOR_HEALTHY, "$patch": "delete"}
    entry = gone if condition is None else dict(condition)
    body = {"metadata": {"resourceVersion": version}, "status": {"conditions": [entry]}}
    after = api.patch(
        NODE, name, body, dry_run=dry_run, subresource="status", how="strategic-merge"
    )
    return version if dry_run else str(after["metadata"]["resourceVersion"])


def condition_change(node: Node, condition: Mapping[str, Any] | None) -> Change:
    """Return what writing a condition changes."""
    return Change("condition", _in_words(node.condition), _in_words(condition))


def _in_words(condition: Mapping[str, Any] | None) -> str:
    return "none" if condition is None else f"{condition.get('status')} ({condition.get('reason')})"


def service_changes(node: Node, *, cordoned: bool, tainted: bool) -> dict[str, Change]:
    """Return what opening or closing a node changes."""
    changes = {}
    if cordoned != node.cordoned:
        words = ("open", "cordoned")
        changes["cordon"] = Change("cordon", words[node.cordoned], words[cordoned])
    if tainted != node.tainted:
        words = ("none", "{key}={value}:{effect}".format_map(TAINT))
        changes["taint"] = Change("taint", words[node.tainted], words[tainted])
    return changes
