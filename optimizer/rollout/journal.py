"""The journal of rollouts: what was to be done and what was, one JSON line each, only appended.

A line is on the disk before what it announces is done, so that after a kill at any moment the
journal and the cluster together tell what is left. The file is locked while a rollout runs.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from accelerators.documents import timestamp
from accelerators.json_lines import JsonLines
from optimizer.rollout.errors import JournalError
from optimizer.rollout.step import Goal, Step

VERSION = 1
Outcome = Literal["applied", "undone"]


@dataclass(frozen=True)
class Head:
    """What a rollout is of.

    Attributes:
        plan: digest of the plan's file.
        target: what is written.
        host: URL of the API server.
        steps: in the order in which they are taken.
    """

    plan: str
    target: str
    host: str
    steps: tuple[Step, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return vars(self) | {"steps": [step.to_json() for step in self.steps]}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "Head":
        """Return what ``to_json`` wrote."""
        steps = tuple(map(Step.from_json, body["steps"]))
        return cls(body["plan"], body["target"], body["host"], steps)


class Journal:
    """An open, locked journal; a context manager.

    Attributes:
        path: of the file.
        head: of its last rollout; None in an empty one.
        begun: steps of it whose write was announced.
        undoing: why it is being undone; None while it is not.
        outcome: how it ended; None while it has not.
    """

    def __init__(self, path: str | os.PathLike[str]):
        """Open a journal, making the file where there is none.

        Raises:
            JournalError: another process writes it, or it is damaged.
            ToolError: it can't be written.
        """
        self.path = Path(path)
        self.head: Head | None = None
        self.begun: set[int] = set()
        self.undoing: str | None = None
        self.outcome: Outcome | None = None
        try:
            self._lines = JsonLines(self.path)
        except BlockingIOError as error:
            raise JournalError(
                "rollout.busy",
                f"another rollout is writing {self.path}",
                hint="wait for it, or stop it with SIGINT",
                target=str(self.path),
            ) from error
        try:
            self._read()
        except BaseException:
            self._lines.close()
            raise

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        if self._lines.empty:
            self._lines.remove()
        self._lines.close()

    @property
    def unfinished(self) -> bool:
        """Return whether there is a rollout that has not ended."""
        return self.head is not None and self.outcome is None

    def refuse_unfinished(self) -> None:
        """Raise JournalError where the last rollout has not ended."""
        if self.unfinished:
            raise JournalError(
                "rollout.journal.unfinished",
                f"{self.path} holds a rollout that was cut short",
                hint="--resume continues it, --rollback undoes it",
                target=str(self.path),
            )

    def begin(self, head: Head) -> None:
        """Begin a rollout; raises JournalError where the last one has not ended."""
        self.refuse_unfinished()
        self._add({"type": "start", "version": VERSION, **head.to_json()})

    def writing(self, step: int, goal: Goal) -> None:
        """Announce the write of a step."""
        self._add({"type": "writing", "step": step, "goal": goal})

    def written(self, step: int, goal: Goal) -> None:
        """Note that a step is done."""
        self._add({"type": "written", "step": step, "goal": goal})

    def undo(self, reason: str) -> None:
        """Note that from here on the rollout is undone."""
        self._add({"type": "undo", "reason": reason})

    def end(self, outcome: Outcome) -> None:
        """Note how the rollout ended."""
        self._add({"type": "end", "outcome": outcome})

    def _add(self, record: dict[str, Any]) -> None:
        self._lines.append({**record, "at": timestamp()})
        self._take(record)

    def _read(self) -> None:
        try:
            for record in self._lines.read():
                self._take(record)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise JournalError(
                "rollout.journal.damaged",
                f"{self.path} is no journal of a rollout, or damaged: {error}",
                hint="name another with --journal",
                target=str(self.path),
            ) from error

    def _take(self, record: Mapping[str, Any]) -> None:
        match record["type"]:
            case "start":
                if record["version"] != VERSION:
                    raise ValueError(f"version {record['version']}; expected {VERSION}")
                self.head = Head.from_json(record)
                self.begun, self.undoing, self.outcome = set(), None, None
            case "writing":
                self.begun.add(record["step"])
            case "undo":
                self.undoing, self.outcome = record["reason"], None
            case "end":
                self.outcome = record["outcome"]


def resumed(journal: Journal, plan: str, host: str) -> Head:
    """Return the unfinished rollout of a journal.

    Args:
        journal: that was opened.
        plan: digest of the plan that is to be continued.
        host: URL of the cluster that is reached.

    Raises:
        JournalError: there is nothing to continue, or it is of another plan or cluster.
    """
    head = journal.head
    if head is None or not journal.unfinished:
        raise JournalError(
            "rollout.journal.finished",
            f"{journal.path} holds no unfinished rollout",
            hint="nothing is to be continued or undone; is it another plan's, or --journal's?",
            target=str(journal.path),
        )
    for name, ours, theirs in (("plan", plan, head.plan), ("cluster", host, head.host)):
        if ours != theirs:
            raise JournalError(
                "rollout.journal.other",
                f"{journal.path} is of another {name}: {theirs}, not {ours}",
                hint="name the same plan and cluster, or another --journal",
                target=str(journal.path),
            )
    return head


def undoable(journal: Journal, plan: str, host: str) -> Head:
    """Return the rollout to undo: an unfinished one, or one that was applied.

    Raises:
        JournalError: there is none, or it is of another plan or cluster.
    """
    if journal.outcome == "applied":
        journal.outcome = None
    return resumed(journal, plan, host)


def steps_begun(journal: Journal, steps: Sequence[Step]) -> list[tuple[int, Step]]:
    """Return the steps whose write was announced, each with its number."""
    return [(number, step) for number, step in enumerate(steps) if number in journal.begun]
