"""Look at the segments of a Mooncake store: what a drain would move, and what blocks one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from threading import Event

from kvpool.drain.report import Blocker, Blockers, DrainPlan, Job, Why
from kvpool.entry import Entry
from kvpool.errors import KvPoolUsageError
from kvpool.mooncake import DISK_OF, MooncakePool
from kvpool.mooncake_http import Segment
from kvpool.pool import Pool

MOST_NAMED = 20


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
    counts = _Counts()
    complete = True
    seen = 0
    for batch in pool.scan():
        for entry in batch:
            counts.add(entry, names, [aim.name for aim in aims])
        seen += len(batch)
        if progress is not None:
            progress(seen)
        if stop is not None and stop.is_set():
            complete = False
            break
    return DrainPlan(
        segments=tuple(sources),
        targets=tuple(aims),
        free_bytes=sum(aim.free_bytes for aim in aims),
        complete=complete,
        **vars(counts) | {"examples": tuple(counts.examples)},
    )


@dataclass
class _Counts:
    """What lies on some segments; see ``DrainPlan``."""

    objects: int = 0
    bytes: int = 0
    copied: int = 0
    examples: list[str] = field(default_factory=list)
    on_disk: int = 0
    only_on_disk: int = 0
    only_on_disk_bytes: int = 0

    def add(self, entry: Entry, names: Sequence[str], targets: Sequence[str]) -> None:
        """Count an object if it lies on the segments, or on a disk of their clients."""
        size = entry.value_bytes or 0
        disks = [node in {DISK_OF + name for name in names} for node in _nodes(entry)]
        if any(disks):
            self.on_disk += 1
        if all(disks):
            self.only_on_disk += 1
            self.only_on_disk_bytes += size
        if not _lies_on(entry, names):
            return
        self.objects += 1
        self.bytes += size
        if _why(entry, names, targets) == "copied":
            self.copied += 1
            self.examples += [entry.key] * (len(self.examples) < MOST_NAMED)


def find_blockers(pool: MooncakePool, job: Job, targets: Sequence[str], *, stop: Event) -> Blockers:
    """Return what is left on the segments of a job that stands still."""
    names = job.segments
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
    if job.active or job.blocked < objects:
        # The master counts what is blocked; it does not say which of the others that is.
        examples = [one if one.why == "copied" else replace(one, why="waiting") for one in examples]
    return Blockers(objects, size, copied, tuple(examples))


def _pick(known: dict[str, Segment], names: Sequence[str], option: str) -> list[Segment]:
    names = list(dict.fromkeys(names))
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
