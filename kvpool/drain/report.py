"""What a drain of a Mooncake store would do, what its job does, and what became of it."""

from dataclasses import dataclass, field
from typing import Any, Literal

from kvpool.mooncake_http import Segment

End = Literal["succeeded", "failed", "canceled", "stalled", "stopped", "running", "lost"]
"""How following a job ended. ``stalled``: it no longer moves; ``stopped``: nobody waits any
longer; ``running``: nobody waited. In these three the job itself goes on. ``lost``: the master no
longer answers, or no longer knows it."""
Why = Literal["copied", "held", "waiting"]
"""What blocks an object. ``copied``: every target holds a copy already, and a target takes no
second one. ``held``: a lease that readers renew, or a hard pin; the master doesn't tell which.
``waiting``: it is on its way or waits for others that are, or one of the first two."""


@dataclass(frozen=True)
class DrainPlan:
    """What a drain would do.

    Attributes:
        segments: to empty.
        targets: that take the objects.
        objects, bytes: on the segments.
        free_bytes: on the targets together.
        copied: objects of which every target holds a copy already; they will block the job.
        examples: some keys of those.
        on_disk: objects with a copy on the own disk of the segments' clients, which stays there.
        only_on_disk, only_on_disk_bytes: of those, what has no other copy and goes with the disk.
        complete: False where counting was stopped; such a plan must not be carried out.
    """

    segments: tuple[Segment, ...]
    targets: tuple[Segment, ...]
    objects: int
    bytes: int
    free_bytes: int
    copied: int
    examples: tuple[str, ...]
    on_disk: int = 0
    only_on_disk: int = 0
    only_on_disk_bytes: int = 0
    complete: bool = True

    @property
    def fits(self) -> bool:
        """Tell whether the targets have room for everything."""
        return self.bytes <= self.free_bytes

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "segments": [segment.name for segment in self.segments],
            "targets": [segment.name for segment in self.targets],
            "objects": self.objects,
            "bytes": self.bytes,
            "free_bytes": self.free_bytes,
            "fits": self.fits,
            "copied": self.copied,
            "examples": list(self.examples),
            "on_disk": self.on_disk,
            "only_on_disk": self.only_on_disk,
            "only_on_disk_bytes": self.only_on_disk_bytes,
            "complete": self.complete,
        }


@dataclass(frozen=True)
class Job:
    """A drain job, as the master has it.

    Attributes:
        id: of the job.
        status: the master's word, e.g. ``RUNNING``.
        segments: that are emptied.
        moved, moved_bytes: objects that arrived.
        failed: attempts that failed; the master makes three per object.
        blocked: objects that can't be moved now.
        active: objects on their way.
        message: the master's.
    """

    id: str
    status: str
    segments: tuple[str, ...] = ()
    moved: int = 0
    moved_bytes: int = 0
    failed: int = 0
    blocked: int = 0
    active: int = 0
    message: str = ""

    @property
    def counts(self) -> tuple[int, ...]:
        """Return what changes while the job moves."""
        return self.moved, self.failed, self.blocked, self.active

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**vars(self), "segments": list(self.segments)}


@dataclass(frozen=True)
class Blocker:
    """An object that a drain can't move.

    Attributes:
        key, bytes: of the object; one copy.
        why: what blocks it.
        node: segments that hold a copy.
    """

    key: str
    bytes: int
    why: Why
    node: str

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return dict(vars(self))


@dataclass(frozen=True)
class Blockers:
    """What is left on the segments of a drain that stalled.

    Attributes:
        objects, bytes: in all.
        copied: of those, how many are blocked because every target holds a copy.
        examples: the first of them.
    """

    objects: int = 0
    bytes: int = 0
    copied: int = 0
    examples: tuple[Blocker, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**vars(self), "examples": [blocker.to_json() for blocker in self.examples]}


@dataclass(frozen=True)
class Drained:
    """What became of a drain.

    Attributes:
        end: how following it ended.
        job: its last state.
        elapsed_s: since it was started or followed.
        still_s: how long nothing had moved at the end.
        blockers: where it stalled.
        was_canceled: whether it was canceled, for that or because it was asked for.
        unmounted: segments that left the store while it was followed to its success, or until it
            stalled. The master then counts them as empty, and what had not moved is lost.
        missing: objects of the plan that did not arrive though it succeeded: removed or evicted
            meanwhile, or lost. None where it did not, or nothing was planned.
    """

    end: End
    job: Job
    elapsed_s: float = 0.0
    still_s: float = 0.0
    blockers: Blockers = field(default_factory=Blockers)
    was_canceled: bool = False
    unmounted: tuple[str, ...] = ()
    missing: int | None = None

    @property
    def objects_lost(self) -> bool:
        """Tell whether the master calls a success what may have lost objects."""
        if self.missing is None:
            return bool(self.unmounted)
        return self.missing > 0 and bool(self.unmounted or self.job.failed)

    @property
    def can_be_canceled(self) -> bool:
        """Tell whether it stalled so that canceling it helps, and the master would do it."""
        return self.end == "stalled" and not (self.unmounted or self.job.active)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "end": self.end,
            "job": self.job.to_json(),
            "elapsed_s": round(self.elapsed_s, 3),
            "still_s": round(self.still_s, 3),
            "blockers": self.blockers.to_json() if self.end == "stalled" else None,
            "was_canceled": self.was_canceled,
            "unmounted": list(self.unmounted),
            "missing": self.missing,
        }
