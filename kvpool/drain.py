"""Empty a segment of a Mooncake store by the store's own drain job, and notice when that hangs.

A drain moves what can be moved and then waits, without an end, for what can't: objects that a
reader's lease protects for now, that are pinned for good, or of which every target holds a copy
already. The master then reports blocked units, no active ones, and ``RUNNING``. Seen with Mooncake
0.3.13; it lists no jobs, so that their ids are worth keeping.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Literal

from kvpool.entry import Entry
from kvpool.errors import KvPoolError, KvPoolUsageError
from kvpool.mooncake import MooncakePool
from kvpool.mooncake_http import Master, Segment
from kvpool.pool import Pool

End = Literal["succeeded", "failed", "canceled", "stalled", "stopped", "running"]
"""How following a job ended. ``stalled``: it no longer moves; ``stopped``: nobody waits any
longer; ``running``: nobody waited. In these three the job itself goes on."""
Why = Literal["copied", "held"]
"""What blocks an object. ``copied``: every target holds a copy already, and a target takes no
second one. ``held``: a lease that readers renew, or a hard pin; the master doesn't tell which."""

MOST_NAMED = 20
_GAP_S = 0.1
"""Between questions for a gap in which a job can be canceled."""
_ENDED: dict[str, End] = {
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
    "CANCELED": "canceled",
    "CANCELLED": "canceled",
}
_BUSY = "kv.mooncake.unavailable_in_current_status"


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
    """

    segments: tuple[Segment, ...]
    targets: tuple[Segment, ...]
    objects: int
    bytes: int
    free_bytes: int
    copied: int
    examples: tuple[str, ...]

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
        was_canceled: whether it was canceled for that.
    """

    end: End
    job: Job
    elapsed_s: float = 0.0
    still_s: float = 0.0
    blockers: Blockers = field(default_factory=Blockers)
    was_canceled: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "end": self.end,
            "job": self.job.to_json(),
            "elapsed_s": round(self.elapsed_s, 3),
            "still_s": round(self.still_s, 3),
            "blockers": self.blockers.to_json() if self.end == "stalled" else None,
            "was_canceled": self.was_canceled,
        }


def mooncake(pool: Pool) -> MooncakePool:
    """Return the pool as one that can drain. Raises KvPoolUsageError for any other."""
    if not isinstance(pool, MooncakePool):
        raise KvPoolUsageError(
            "kv.drain.kind",
            f"{pool.url} has no segments to drain; only a Mooncake store has",
            hint="aibrixctl kv migrate moves the entries of other pools",
            target=str(pool.url),
        )
    return pool


def plan_drain(
    pool: MooncakePool,
    names: Sequence[str],
    targets: Sequence[str] = (),
    *,
    stop: Event | None = None,
    progress: Callable[[int], None] | None = None,
) -> DrainPlan:
    """Find out what a drain would move, and whether it has where to.

    Args:
        pool: to look at; nothing is changed.
        names: of the segments to empty.
        targets: where to; empty for every other one in service.
        stop: when set, the counts end with their batch.
        progress: called after each batch with the objects seen.

    Raises:
        KvPoolUsageError: there are no such segments, or they are not in service.
    """
    known = {segment.name: segment for segment in pool.master.segments()}
    sources = _pick(known, names, "--segment")
    others = [one.name for one in known.values() if one.name not in names and one.status == "OK"]
    aims = _pick(known, targets or others, "--to")
    if both := set(names) & set(targets):
        raise KvPoolUsageError(
            "kv.drain.target", f"{min(both)} is to be emptied and filled at once", target="--to"
        )
    if not aims:
        raise KvPoolUsageError(
            "kv.drain.target",
            "there is no other segment in service that could take the objects",
            hint="start another client that lends memory to the store",
            target="--to",
        )
    objects = size = copied = seen = 0
    examples: list[str] = []
    for batch in pool.scan():
        for entry in batch:
            seen += 1
            if not _lies_on(entry, names):
                continue
            objects += 1
            size += entry.value_bytes or 0
            if _why(entry, names, [aim.name for aim in aims]) == "copied":
                copied += 1
                examples += [entry.key] * (len(examples) < MOST_NAMED)
        if progress is not None:
            progress(seen)
        if stop is not None and stop.is_set():
            break
    free = sum(aim.free_bytes for aim in aims)
    return DrainPlan(tuple(sources), tuple(aims), objects, size, free, copied, tuple(examples))


def start_drain(master: Master, plan: DrainPlan, concurrency: int) -> Job:
    """Start a drain job.

    Args:
        master: of the store.
        plan: of the drain.
        concurrency: objects on their way at a time. A segment's client fetches its tasks about
            once a second, so that this also limits the objects per second.

    Raises:
        KvPoolError: the targets have no room, or the master refuses.
    """
    if not plan.fits:
        raise KvPoolError(
            "kv.drain.room",
            f"the targets have room for {plan.free_bytes:,} bytes, and {plan.bytes:,} would move",
            hint="a drain evicts nothing to make room; add a segment, or evict first",
            target="--to",
        )
    names = [segment.name for segment in plan.segments]
    try:
        job = master.start_drain(names, [segment.name for segment in plan.targets], concurrency)
    except KvPoolError as error:
        if error.code != _BUSY:
            raise
        raise KvPoolError(
            "kv.drain.busy",
            f"the master does not drain {', '.join(names)} now: one of them is being drained",
            hint="--job ID follows that drain; whoever started it was told the id",
            target="--segment",
        ) from error
    return Job(job, "CREATED", tuple(names))


def query_drain(master: Master, job: str) -> Job:
    """Return the state of a drain job.

    Raises:
        KvPoolError: the master knows no such job; it forgets them when it ends.
    """
    try:
        found = master.drain(job)
    except KvPoolError as error:
        if error.code not in ("kv.mooncake.job_not_found", "kv.mooncake.refused"):
            raise
        raise KvPoolError(
            "kv.drain.job",
            f"the master knows no drain job {job!r}",
            hint="it forgets its jobs when it restarts; the segment may be started on anew",
            target="--job",
        ) from error
    return Job(
        id=str(found["job_id"]),
        status=str(found["status_name"]),
        segments=tuple(found["segments"]),
        moved=int(found["succeeded_units"]),
        moved_bytes=int(found["migrated_bytes"]),
        failed=int(found["failed_units"]),
        blocked=int(found["blocked_units"]),
        active=int(found["active_units"]),
        message=str(found["message"]),
    )


def follow_drain(
    pool: MooncakePool,
    job: str,
    *,
    targets: Sequence[str] = (),
    stall_after_s: float = 30.0,
    poll_s: float = 0.5,
    stop: Event,
    progress: Callable[[Job], None] | None = None,
) -> Drained:
    """Wait for a drain job to end, or to hang.

    Args:
        pool: where it runs.
        job: its id.
        targets: that it was started with; empty for every other segment.
        stall_after_s: it hangs when none of its counts has changed for so long. Longer than a
            lease lasts, for what a lease blocks moves when that is over.
        poll_s: between questions to the master.
        stop: when set, waiting ends; the job goes on.
        progress: called with each state.

    Raises:
        KvPoolError: there is no such job, or no longer.
        PoolUnreachableError: the master no longer answers.
    """
    started_s = moved_s = time.monotonic()
    before: tuple[int, ...] | None = None
    while True:
        now = query_drain(pool.master, job)
        now_s = time.monotonic()
        if now.counts != before:
            before, moved_s = now.counts, now_s
        if progress is not None:
            progress(now)
        elapsed_s, still_s = now_s - started_s, now_s - moved_s
        if now.status in _ENDED:
            return Drained(_ENDED[now.status], now, elapsed_s, still_s)
        if still_s >= stall_after_s:
            blockers = find_blockers(pool, now.segments, targets, stop=stop)
            return Drained("stalled", now, elapsed_s, still_s, blockers)
        if stop.wait(poll_s):
            return Drained("stopped", now, elapsed_s, still_s)


def find_blockers(
    pool: MooncakePool, names: Sequence[str], targets: Sequence[str], *, stop: Event
) -> Blockers:
    """Return what is left on segments that are being drained."""
    aims = targets or [
        one.name for one in pool.master.segments() if one.name not in names and one.status == "OK"
    ]
    objects = size = copied = 0
    examples: list[Blocker] = []
    for entry in _left_on(pool, names, stop):
        why = _why(entry, names, aims)
        objects += 1
        size += entry.value_bytes or 0
        copied += why == "copied"
        if len(examples) < MOST_NAMED:
            examples.append(Blocker(entry.key, entry.value_bytes or 0, why, entry.node or ""))
    return Blockers(objects, size, copied, tuple(examples))


def cancel_drain(master: Master, job: str, *, stop: Event, patience_s: float = 10.0) -> Job:
    """Cancel a drain job, which puts its segments back into service.

    What has been moved stays where it is now. The master does not cancel while objects are on
    their way, so that it is asked until there is a gap.

    Args:
        master: of the store.
        job: its id.
        stop: when set, asking ends.
        patience_s: for how long to ask.

    Raises:
        KvPoolError: there is no such job, it has ended, or it goes on moving.
    """
    until_s = time.monotonic() + patience_s
    while True:
        now = query_drain(master, job)
        if now.status in _ENDED:
            raise KvPoolError(
                "kv.drain.ended", f"drain job {job} has ended already: {now.message}", target=job
            )
        try:
            master.cancel_drain(job)
            return query_drain(master, job)
        except KvPoolError as error:
            if error.code != _BUSY:
                raise
            if time.monotonic() >= until_s or stop.wait(_GAP_S):
                raise KvPoolError(
                    "kv.drain.moving",
                    f"the master does not cancel drain job {job} while objects are on their way: "
                    f"{now.active:,} now, {now.moved:,} moved",
                    hint="follow it with --job; it can be canceled when it stalls",
                    target=job,
                ) from error


def _pick(known: dict[str, Segment], names: Sequence[str], option: str) -> list[Segment]:
    for name in names:
        if name not in known:
            raise KvPoolUsageError(
                "kv.drain.segment",
                f"there is no segment {name!r}",
                hint=f"there are {', '.join(known) or 'none'}",
                target=option,
            )
        if known[name].status != "OK":
            raise KvPoolUsageError(
                "kv.drain.status",
                f"segment {name} is not in service but {known[name].status}",
                hint="--job ID follows a drain that runs already"
                if known[name].status == "DRAINING"
                else "",
                target=option,
            )
    return [known[name] for name in names]


def _left_on(pool: MooncakePool, names: Sequence[str], stop: Event) -> Iterator[Entry]:
    for batch in pool.scan():
        yield from (entry for entry in batch if _lies_on(entry, names))
        if stop.is_set():
            return


def _nodes(entry: Entry) -> list[str]:
    return (entry.node or "").split(", ")


def _lies_on(entry: Entry, names: Sequence[str]) -> bool:
    return any(node in names for node in _nodes(entry))


def _why(entry: Entry, names: Sequence[str], targets: Sequence[str]) -> Why:
    nodes = _nodes(entry)
    return "copied" if all(target in nodes for target in targets) else "held"
