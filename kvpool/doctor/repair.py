"""Remove the orphans of a pool, and nothing else."""

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from kvpool.entry import Entry
from kvpool.errors import UnsupportedError
from kvpool.pool import Pool, Removal, RemovesOrphans

MOST_NAMED = 100


@dataclass
class Repaired:
    """What became of the orphans.

    Attributes:
        dry_run: whether nothing was really removed.
        removed, removed_bytes: orphans, and what they occupied.
        young: left alone, because a writer may be at work on them.
        unknown_age: left alone, because nothing tells for how long they have been orphans.
        foreign: left alone, because no writer of the pool stores such a thing; only its name fits.
        changed: gone or completed before they could be removed.
        keys: of the first that were removed.
        complete: False where it was stopped.
    """

    dry_run: bool = False
    removed: int = 0
    removed_bytes: int = 0
    young: int = 0
    unknown_age: int = 0
    foreign: int = 0
    changed: int = 0
    keys: list[str] = field(default_factory=list)
    complete: bool = True

    def add(self, entry: Entry, what: Removal) -> None:
        """Count one orphan."""
        if what == "removed":
            self.removed += 1
            self.removed_bytes += entry.bytes
            if len(self.keys) < MOST_NAMED:
                self.keys.append(entry.key)
        else:
            setattr(self, what, getattr(self, what) + 1)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return dict(vars(self))


def remover(pool: Pool) -> RemovesOrphans:
    """Return a pool as one that can remove its orphans.

    Raises:
        UnsupportedError: it can't, because its entries have no halves.
    """
    if isinstance(pool, RemovesOrphans):
        return pool
    raise UnsupportedError(
        "kv.cannot.repair",
        f"{pool.url} holds no orphans that could be removed: its store keeps an entry in one piece",
        target=str(pool.url),
    )


def remove_orphans(
    pool: Pool,
    min_age_s: float,
    *,
    dry_run: bool = False,
    stop: Event | None = None,
    progress: Callable[[int], None] | None = None,
) -> Repaired:
    """Remove what is half an entry or a temporary file and has been left alone for long enough.

    Each is looked at again in the step that removes it, so that an entry which is completed
    meanwhile stays. The scan leaves idle times as they are, on which the age depends.

    Args:
        pool: to repair; it must be able to scan.
        min_age_s: what was touched since is left alone.
        dry_run: only count.
        stop: when set, it ends after its batch.
        progress: called after each batch with the number of entries seen.

    Raises:
        UnsupportedError: the pool has no orphans.
        KvPoolError: what the pool raises; the orphans before are gone.
    """
    place = remover(pool)
    done = Repaired(dry_run)
    seen = 0
    for batch in pool.scan(depth="quiet"):
        for entry in batch:
            if entry.state == "orphan":
                what = place.remove_orphan(entry.key, min_age_s=min_age_s, dry_run=dry_run)
                done.add(entry, what)
        seen += len(batch)
        if progress is not None:
            progress(seen)
        if stop is not None and stop.is_set():
            done.complete = False
            break
    return done
