"""Remove entries from a pool, oldest first, in two scans and in memory that does not grow with it.

The first scan sums bytes by the time of storing or last use, which tells up to which moment entries
must go. The second removes what is older, batch by batch as it is seen; what was written or used in
between has become newer, and stays.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any

from kvpool.entry import Entry
from kvpool.errors import InUseError
from kvpool.pool import Pool
from kvpool.selection import Selection

_MOST_BINS = 1 << 16
_CLOCK_S = 1.0
"""Redis counts idle time in whole seconds, so two looks at one entry may differ by this."""


@dataclass(frozen=True)
class EvictPlan:
    """What would be removed.

    Attributes:
        selection: which whole entries may go.
        made_s: when the plan was made; ages are counted from there.
        entries, bytes: what would be removed; of those stored or used at the very moment up to
            which entries go, an estimate by their mean size.
        scanned, scanned_bytes: whole entries in the pool, and what they occupy.
        unknown_age: selected entries that stay because nothing tells their age.
        before_s: all that is older than this goes; None: all that is selected.
        edge_s, edge_bytes: of what lies between ``before_s`` and this, so much goes.
        complete: False where the scan was stopped; such a plan must not be carried out.
    """

    selection: Selection
    made_s: float
    entries: int
    bytes: int
    scanned: int
    scanned_bytes: int
    unknown_age: int = 0
    before_s: float | None = None
    edge_s: float = 0.0
    edge_bytes: int = 0
    complete: bool = True


@dataclass(frozen=True)
class Evicted:
    """What was removed.

    Attributes:
        removed, removed_bytes: entries, and what they occupied.
        in_use: entries that stay because readers are at work on them.
        complete: False where it was stopped.
    """

    removed: int = 0
    removed_bytes: int = 0
    in_use: int = 0
    complete: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return dict(vars(self))


class _Ages:
    """Bytes and entries by moment, in bins that widen when there are too many."""

    def __init__(self) -> None:
        self.width_s = 1.0
        self.bytes: Counter[int] = Counter()
        self.entries: Counter[int] = Counter()

    def add(self, moment_s: float, size: int) -> None:
        place = int(moment_s // self.width_s)
        self.bytes[place] += size
        self.entries[place] += 1
        while len(self.entries) > _MOST_BINS:
            self._widen()

    def _widen(self) -> None:
        self.width_s *= 2
        for name in ("bytes", "entries"):
            wider: Counter[int] = Counter()
            for place, count in getattr(self, name).items():
                wider[place // 2] += count
            setattr(self, name, wider)


def moment_s(entry: Entry) -> float | None:
    """Return when an entry was stored or, failing that, last used."""
    return entry.stored_s if entry.stored_s is not None else entry.accessed_s


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
        to_bytes: no more than this shall be left of whole entries, selected or not.
        stop: when set, the scan ends after its batch.
        progress: called after each batch with the number seen.

    Raises:
        KvPoolError: what the pool raises.
    """
    made_s = time.time()
    scanned = scanned_bytes = unknown = chosen = chosen_bytes = 0
    complete = True
    ages = _Ages()
    for batch in pool.scan():
        for entry in batch:
            if entry.state != "whole":
                continue
            scanned += 1
            scanned_bytes += entry.bytes
            if not selection.holds(entry, made_s):
                continue
            moment = moment_s(entry)
            if to_bytes is None:
                chosen += 1
                chosen_bytes += entry.bytes
            elif moment is None:
                unknown += 1
            else:
                ages.add(moment, entry.bytes)
        if progress is not None:
            progress(scanned)
        if stop is not None and stop.is_set():
            complete = False
            break
    counts = (scanned, scanned_bytes, unknown)
    if to_bytes is None:
        return EvictPlan(selection, made_s, chosen, chosen_bytes, *counts, complete=complete)
    return _cut(selection, made_s, counts, ages, scanned_bytes - to_bytes, complete)


def _cut(
    selection: Selection,
    made_s: float,
    counts: tuple[int, int, int],
    ages: _Ages,
    excess_bytes: int,
    complete: bool,
) -> EvictPlan:
    """Return the plan that takes bins from the oldest on, and of the last only a part.

    How many entries that part is, follows from the mean size of those in the bin.
    """
    entries = size = 0
    before = edge = 0.0
    edge_bytes = 0
    for place in sorted(ages.bytes):
        left = excess_bytes - size
        if left <= 0:
            break
        before = place * ages.width_s
        edge, edge_bytes = before + ages.width_s, left
        there, bytes_there = ages.entries[place], ages.bytes[place]
        taken = there if left >= bytes_there else -(-left * there // bytes_there)
        entries += taken
        size += bytes_there * taken // there
    return EvictPlan(
        selection,
        made_s,
        entries,
        size,
        *counts,
        before_s=before,
        edge_s=edge,
        edge_bytes=edge_bytes,
        complete=complete,
    )


def evict(
    pool: Pool,
    plan: EvictPlan,
    *,
    stop: Event | None = None,
    progress: Callable[[Evicted], None] | None = None,
) -> Evicted:
    """Carry out a plan, on what the pool holds by now.

    Args:
        pool: must be able to delete.
        plan: a complete one.
        stop: when set, the removal ends after its batch.
        progress: called after each batch.

    Raises:
        KvPoolError: what the pool raises; the entries before are gone.
    """
    removed = removed_bytes = in_use = 0
    edge_bytes = plan.edge_bytes
    for batch in pool.scan():
        if stop is not None and stop.is_set():
            return Evicted(removed, removed_bytes, in_use, complete=False)
        going = []
        for entry in batch:
            if entry.state != "whole" or not plan.selection.holds(entry, plan.made_s):
                continue
            place = _place(entry, plan)
            if place == "edge" and edge_bytes > 0:
                edge_bytes -= entry.bytes
                going.append(entry)
            elif place == "before":
                going.append(entry)
        if going:
            gone, left = _delete(pool, [entry.key for entry in going])
            removed += gone
            in_use += len(left)
            removed_bytes += sum(entry.bytes for entry in going if entry.key not in left)
        if progress is not None:
            progress(Evicted(removed, removed_bytes, in_use))
    return Evicted(removed, removed_bytes, in_use)


def _delete(pool: Pool, keys: Sequence[str]) -> tuple[int, frozenset[str]]:
    """Remove entries; return how many are gone, and those that readers are at work on."""
    try:
        return pool.delete(keys), frozenset()
    except InUseError as error:
        return error.removed, frozenset(error.keys)


def _place(entry: Entry, plan: EvictPlan) -> str:
    """Return on which side of the cut an entry lies now."""
    if plan.before_s is None:
        return "before"
    moment = moment_s(entry)
    if moment is None:
        return "after"
    if moment < plan.before_s:
        return "before"
    # Of a whole second's clock the same entry may seem a little younger the second time.
    slack_s = 0.0 if entry.stored_s is not None else _CLOCK_S
    return "edge" if moment < plan.edge_s + slack_s else "after"
