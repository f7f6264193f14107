"""Carry out a rollout: scale up, wait until all serve, scale down; go back where that fails."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from accelerators.errors import ToolError
from accelerators.units import format_duration
from cluster.api import Api, Object
from cluster.errors import ClusterUnreachableError, ConflictError, ForbiddenError
from optimizer.rollout.errors import ChangedError, LateError, StoppedError
from optimizer.rollout.journal import Journal, steps_begun
from optimizer.rollout.step import Goal, Step

_TRIES = 8
_GLANCE_S = 1.0
Outcome = Literal["applied", "undone", "stopped", "failed"]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Patience:
    """How long to wait for replicas to serve, and how often to look, in seconds."""

    wait_s: float = 600.0
    glance_s: float = _GLANCE_S


@dataclass(frozen=True)
class Report:
    """How a rollout ended.

    Attributes:
        outcome: ``applied``; ``undone``, all is as before but for ``left``; ``stopped`` by a
            signal, or ``failed`` on the way, both to be continued.
        done: numbers of the steps that are as they should be at that end.
        error: why it was not applied; None where it was.
        left: steps that were not undone since somebody else has changed their objects.
    """

    outcome: Outcome
    done: frozenset[int]
    error: ToolError | None = None
    left: tuple[str, ...] = ()


class Rollout:
    """One rollout, on its way forth or back.

    Args:
        api: the cluster.
        journal: in which it was begun.
        steps: in the order in which they are taken.
        patience: for replicas to serve.
        stop: when set, the step under way is the last.
        tell: called with each thing that happens, as a line.
    """

    def __init__(
        self,
        api: Api,
        journal: Journal,
        steps: Sequence[Step],
        patience: Patience | None = None,
        *,
        stop: threading.Event | None = None,
        tell: Tell = lambda _: None,
    ):
        self._api, self._journal, self._steps = api, journal, steps
        self._patience = patience or Patience()
        self._stop = stop or threading.Event()
        api.transport.heed(self._stop)
        self._tell = tell
        self._done: set[int] = set()
        self._left: list[str] = []

    def forth(self) -> Report:
        """Bring the cluster to the plan; what fails on the way is undone.

        A server that stays away can't be asked to undo: then it fails, and can be resumed.
        """
        try:
            self._carry_out(list(enumerate(self._steps)), "after")
        except StoppedError as error:
            return self._report("stopped", error)
        except ToolError as error:
            if _is_away(error):
                return self._failed(error)
            self._tell(f"going back: {error.message}")
            self._journal.undo(error.message)
            return replace(self.back(), error=error)
        self._journal.end("applied")
        return self._report("applied")

    def back(self) -> Report:
        """Undo what was written, in the same order: first more replicas, then fewer."""
        self._done = set()
        if self._journal.undoing is None:
            self._journal.undo("asked for")
        try:
            self._carry_out(steps_begun(self._journal, self._steps), "before")
        except StoppedError as error:
            return self._report("stopped", error)
        except ToolError as error:
            return self._failed(error)
        self._journal.end("undone")
        return self._report("undone")

    def _failed(self, error: ToolError) -> Report:
        """Return the report of an error; a server that was not waited for is a stop."""
        stopped = self._stop.is_set() and _is_away(error)
        return self._report("stopped" if stopped else "failed", error)

    def _report(self, outcome: Outcome, error: ToolError | None = None) -> Report:
        return Report(outcome, frozenset(self._done), error, tuple(self._left))

    def _carry_out(self, steps: Iterable[tuple[int, Step]], goal: Goal) -> None:
        steps = list(steps)
        rising = [(number, step) for number, step in steps if not step.lowers(goal)]
        falling = [(number, step) for number, step in steps if step.lowers(goal)]
        for number, step in rising:
            self._write(number, step, goal)
        self._await([step for _, step in rising], goal)
        for number, step in falling:
            self._write(number, step, goal)

    def _write(self, number: int, step: Step, goal: Goal) -> None:
        """Write a step, unless it is written already."""
        if self._stop.is_set():
            raise StoppedError("rollout.stopped", f"stopped before {step.object.title}")
        wanted = dict(step.fields(goal))
        for _ in range(_TRIES):
            now = step.object.read(self._api)
            if step.current(now) == wanted:
                self._done.add(number)
                return
            if self._is_foreign(step, now, goal):
                return
            self._journal.writing(number, goal)
            try:
                version = now["metadata"]["resourceVersion"]
                self._api.apply(step.body(goal, version), force=True)
            except ConflictError:
                continue  # Its status, or somebody, has changed it; look which.
            self._journal.written(number, goal)
            self._done.add(number)
            self._tell(step.line(goal))
            return
        raise ChangedError(
            "rollout.contended",
            f"{step.object.title} changed {_TRIES} times while it was to be written",
            hint="find out what writes it",
            target=step.object.title,
        )

    def _is_foreign(self, step: Step, now: Object, goal: Goal) -> bool:
        """Tell whether somebody else has written the fields; on the way forth that ends it."""
        expected = step.fields("before" if goal == "after" else "after")
        found = step.current(now)
        if found == dict(expected):
            return False
        text = f"{step.object.title} has {_named(found)}; expected {_named(expected)}"
        if goal == "before":
            self._left.append(text)
            self._tell(f"left alone: {text}")
            return True
        raise ChangedError(
            "rollout.changed",
            f"{text}: somebody else writes it",
            hint="find out what scales it, then plan again",
            target=step.object.title,
        )

    def _await(self, steps: Sequence[Step], goal: Goal) -> None:
        """Wait until the workloads of steps have all their replicas serving."""
        waiting = {
            step.workload: step for step in steps if step.replicas_after != step.replicas_before
        }
        deadline_s = time.monotonic() + self._patience.wait_s
        said = ""
        while waiting:
            if self._stop.is_set():
                raise StoppedError("rollout.stopped", f"stopped while waiting: {said}")
            lines = []
            for ref, step in list(waiting.items()):
                ready, wanted = _ready(ref.read(self._api)), step.replicas(goal)
                if ready >= wanted:
                    del waiting[ref]
                    self._tell(f"{ref.title}: {wanted} ready")
                else:
                    lines.append(f"{ref.title} has {ready} of {wanted} ready")
            if lines and (text := "; ".join(lines)) != said:
                said = text
                self._tell(f"waiting: {said}")
            if waiting and time.monotonic() >= deadline_s:
                raise LateError(
                    "rollout.late",
                    f"after {format_duration(self._patience.wait_s)} {said}",
                    hint="kubectl describe pods says why they do not start; --wait gives more time",
                    target=next(iter(waiting)).title,
                )
            if waiting:
                self._stop.wait(self._patience.glance_s)


def _is_away(error: ToolError) -> bool:
    return isinstance(error, ClusterUnreachableError) and not isinstance(error, ForbiddenError)


def _ready(workload: Object) -> int:
    """Return the replicas that serve, as far as the controller has seen the newest spec."""
    status = workload.get("status") or {}
    seen = int(status.get("observedGeneration") or 0)
    if seen < int(workload["metadata"].get("generation", 0)):
        return 0
    return min(int(status.get("readyReplicas") or 0), int(workload["spec"].get("replicas", 1)))


def _named(fields: Any) -> str:
    return ", ".join(f"{k} {'unset' if v is None else v}" for k, v in dict(fields).items())
