"""Remove entries from a pool, oldest first: a plan, then the removal of what has not changed."""

import heapq
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from threading import Event
from typing import Any

from kvpool.pool import BATCH, Pool
from kvpool.selection import Selection, age_s

_CLOCK_S = 2.0
"""Redis counts idle time in whole seconds; a use must be later than this to count as one."""


@dataclass(frozen=True, slots=True)
class Victim:
    """One entry to remove, and what it was when the plan was made."""

    key: str
    bytes: int
    stored_s: float | None
    accessed_s: float | None


@dataclass(frozen=True)
class EvictPlan:
    """What would be removed.

    Attributes:
        victims: in the order of removal.
        victim_bytes: what they occupy together.
        scanned, scanned_bytes: whole entries in the pool, and what they occupy.
        unknown_age: selected entries that are left alone because nothing tells their age.
        complete: False where the scan was stopped; such a plan must not be carried out.
    """

    victims: tuple[Victim, ...]
    victim_bytes: int
    scanned: int
    scanned_bytes: int
    unknown_age: int = 0
    complete: bool = True


@dataclass(frozen=True)
class Evicted:
    """What was removed.

    Attributes:
        removed, removed_bytes: entries, and what they occupied.
        changed: entries that were written or used since the plan, and left alone.
        absent: entries that were gone already.
        complete: False where it was stopped.
    """

    removed: int = 0
    removed_bytes: int = 0
    changed: int = 0
    absent: int = 0
    complete: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return dict(vars(self))


def plan_eviction(
    pool: Pool,
    selection: Selection,
    *,
    to_bytes: int | None = None,
    stop: Event | None = None,
    progress: Callable[[int], None] | None = None,
) -> EvictPlan:
    """Choose what to remove: all that is selected, or the oldest of it until the rest is small.

    Args:
        pool: must be able to scan.
        selection: which whole entries may go.
        to_bytes: stop as soon as the whole entries of the pool, selected or not, occupy no more.
        stop: when set, the scan ends after its batch.
        progress: called after each batch with the number seen.

    Raises:
        KvPoolError: what the pool raises.
    """
    now_s = time.time()
    scanned = scanned_bytes = unknown = 0
    complete = True
    heap: list[tuple[float, str, Victim]] = []
    for batch in pool.scan():
        for entry in batch:
            if entry.state != "whole":
                continue
            scanned += 1
            scanned_bytes += entry.bytes
            if not selection.holds(entry, now_s):
                continue
            since_s = age_s(entry, now_s)
            if since_s is None and to_bytes is not None:
                unknown += 1
                continue
            victim = Victim(entry.key, entry.bytes, entry.stored_s, entry.accessed_s)
            heap.append((-(since_s or 0.0), entry.key, victim))
        if progress is not None:
            progress(scanned)
        if stop is not None and stop.is_set():
            complete = False
            break
    victims = tuple(_oldest(heap, None if to_bytes is None else scanned_bytes - to_bytes))
    total = sum(victim.bytes for victim in victims)
    return EvictPlan(victims, total, scanned, scanned_bytes, unknown, complete)


def _oldest(heap: list[tuple[float, str, Victim]], excess_bytes: int | None) -> Iterator[Victim]:
    """Yield the oldest first, as long as there is something in excess."""
    heapq.heapify(heap)
    while heap and (excess_bytes is None or excess_bytes > 0):
        victim = heapq.heappop(heap)[2]
        if excess_bytes is not None:
            excess_bytes -= victim.bytes
        yield victim


def evict(
    pool: Pool,
    plan: EvictPlan,
    *,
    stop: Event | None = None,
    progress: Callable[[Evicted], None] | None = None,
) -> Evicted:
    """Remove the entries of a plan, sparing those that were written or used since.

    Args:
        pool: must be able to delete.
        plan: a complete one.
        stop: when set, the removal ends after its batch.
        progress: called after each batch.

    Raises:
        KvPoolError: what the pool raises; the entries before are gone.
    """
    done = Evicted()
    victims = iter(plan.victims)
    while batch := list(islice(victims, BATCH)):
        if stop is not None and stop.is_set():
            return Evicted(**(vars(done) | {"complete": False}))
        fit, changed, absent = [], 0, 0
        for victim in batch:
            now = pool.stat(victim.key)
            if now is None:
                absent += 1
            elif _is_later(now.stored_s, victim.stored_s, 0.0) or _is_later(
                now.accessed_s, victim.accessed_s, _CLOCK_S
            ):
                changed += 1
            else:
                fit.append(victim)
        removed = pool.delete([victim.key for victim in fit])
        done = Evicted(
            removed=done.removed + removed,
            removed_bytes=done.removed_bytes + sum(victim.bytes for victim in fit),
            changed=done.changed + changed,
            absent=done.absent + absent + len(fit) - removed,
        )
        if progress is not None:
            progress(done)
    return done


def _is_later(now_s: float | None, then_s: float | None, margin_s: float) -> bool:
    return now_s is not None and then_s is not None and now_s > then_s + margin_s
