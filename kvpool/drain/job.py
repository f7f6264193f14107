"""Empty a segment of a Mooncake store by the store's own drain job, and notice when that hangs.

A drain moves what can be moved and then waits, without an end, for what can't: objects that a
reader's lease protects for now, that are pinned for good, or of which every target holds a copy
already. The master then reports blocked units, no active ones, and ``RUNNING``. Where the client of
the segment is gone it reports active ones that never arrive, lets go of the segment after a while,
and may call it ``SUCCEEDED`` in the end. Seen with Mooncake 0.3.13; it lists no jobs, so that their
ids are worth keeping.
"""

import time
from collections.abc import Callable, Sequence
from threading import Event

from kvpool.drain.plan import find_blockers
from kvpool.drain.report import Drained, DrainPlan, End, Job
from kvpool.errors import KvPoolError
from kvpool.mooncake import MooncakePool
from kvpool.mooncake_http import Master

_GAP_S = 0.1
"""Between questions for a gap in which a job can be canceled."""
_ENDED: dict[str, End] = {
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
    "CANCELED": "canceled",
    "CANCELLED": "canceled",
}
_BUSY = "kv.mooncake.unavailable_in_current_status"


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


def end_of(job: Job) -> End:
    """Return how a job ended; ``running`` where it has not."""
    return _ENDED.get(job.status, "running")


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
    planned: int | None = None,
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
        planned: objects that it was to move, to tell what did not arrive.
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
        was_over = before is None and end_of(now) != "running"
        if now.counts != before:
            before, moved_s = now.counts, now_s
        if progress is not None:
            progress(now)
        elapsed_s, still_s = now_s - started_s, now_s - moved_s
        end = end_of(now)
        if end == "succeeded" and not was_over:
            missing = None if planned is None else max(0, planned - now.moved)
            gone = _unmounted(pool, now)
            return Drained(end, now, elapsed_s, still_s, unmounted=gone, missing=missing)
        if end != "running":
            return Drained(end, now, elapsed_s, still_s)
        if still_s >= stall_after_s:
            blockers = find_blockers(pool, now, targets, stop=stop)
            gone = _unmounted(pool, now)
            return Drained("stalled", now, elapsed_s, still_s, blockers, unmounted=gone)
        if stop.wait(poll_s):
            return Drained("stopped", now, elapsed_s, still_s)


def _unmounted(pool: MooncakePool, job: Job) -> tuple[str, ...]:
    """Return the segments of a job that left the store; the master takes them for empty."""
    mounted = {segment.name for segment in pool.master.segments()}
    return tuple(name for name in job.segments if name not in mounted)


def query_running(master: Master, job: str) -> Job:
    """Return the state of a drain job that goes on.

    Raises:
        KvPoolError: there is no such job, or it has ended.
    """
    now = query_drain(master, job)
    if end_of(now) != "running":
        raise KvPoolError(
            "kv.drain.ended", f"drain job {job} has ended already: {now.message}", target=job
        )
    return now


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
        now = query_running(master, job)
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
                    hint="try again when they have arrived; if they do not, their client is gone, "
                    "and the master lets go of it after its -client_ttl",
                    target=job,
                ) from error
