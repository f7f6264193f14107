"""The record on a node of what we changed there, so that anyone can undo it from anywhere."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diagnose.errors import DiagnoseError

_VERSION = 1


@dataclass(frozen=True)
class Record:
    """What we changed on a node, with what stood there before.

    Attributes:
        cordon: we closed the node, which was open.
        taint: we added our taint, which was not there.
        condition: we wrote AcceleratorHealthy.
        condition_before: what it was; None where there was none.
    """

    cordon: bool = False
    taint: bool = False
    condition: bool = False
    condition_before: Mapping[str, Any] | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing of ours is left on the node."""
        return not (self.cordon or self.taint or self.condition)

    def to_text(self) -> str:
        """Return the annotation's value: for each thing that we changed, its value before."""
        before: dict[str, Any] = {}
        if self.cordon:
            before["spec.unschedulable"] = None
        if self.taint:
            before["spec.taints"] = None
        if self.condition:
            before["status.conditions"] = self.condition_before
        return json.dumps({"version": _VERSION, "before": before}, sort_keys=True)


def parse(node: str, text: str | None) -> Record:
    """Return the record that an annotation holds; an empty one for None.

    Raises:
        DiagnoseError: it is none of ours, or of a later version.
    """
    if text is None:
        return Record()
    try:
        body = json.loads(text)
        version, before = body["version"], body["before"]
        condition = before.get("status.conditions")
        if version != _VERSION or not (condition is None or isinstance(condition, dict)):
            raise ValueError(f"version {version}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DiagnoseError(
            "node.record",
            f"the annotation aibrixctl/applied of node {node} is not a record of ours: {error}",
            hint="undo by hand what was done to the node, and remove the annotation",
            target=node,
        ) from error
    return Record(
        cordon="spec.unschedulable" in before,
        taint="spec.taints" in before,
        condition="status.conditions" in before,
        condition_before=condition,
    )
