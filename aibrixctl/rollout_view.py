"""Draw a rollout: what it would change, and what became of each step."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from optimizer.rollout.draft import Draft
    from optimizer.rollout.step import Step

_OUTCOMES = {
    "applied": "the cluster is as planned",
    "undone": "the cluster is as it was before",
    "stopped": "stopped on the way",
    "failed": "failed on the way",
}


def draft_lines(draft: "Draft") -> Iterator[str]:
    """Yield the difference between the cluster and the plan, in the order of the steps."""
    if not draft.steps:
        yield f"{draft.host} is as planned"
    waited = False
    for step, changes in zip(draft.steps, draft.changes, strict=True):
        if step.lowers("after") and not waited:
            waited = True
            if step is not draft.steps[0]:
                yield "then, when all of these serve:"
        yield f"{step.object.title} ({step.type})"
        yield from (f"  {change}" for change in changes)
    if draft.unchanged and draft.steps:
        yield f"as planned already: {', '.join(draft.unchanged)}"


def draw_report(
    console: "Console", steps: "Sequence[Step]", states: Mapping[int, str], outcome: str
) -> None:
    """Print what became of each step."""
    from aibrixctl.render import table_of

    rows = [
        {
            "type": step.type,
            "object": step.object.title,
            "replicas": f"{step.replicas_before} -> {step.replicas_after}",
            "state": states[number],
        }
        for number, step in enumerate(steps)
    ]
    console.print(table_of(rows))
    console.print()
    console.print(_OUTCOMES[outcome])
