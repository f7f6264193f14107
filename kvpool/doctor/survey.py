"""Gather what the checks look at: the pool's own words, one scan, a few values, the nodes."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Event
from typing import Literal

from kvpool import aibrix
from kvpool.aibrix import Tail
from kvpool.doctor.census import Census, Space
from kvpool.doctor.placement_checks import Snapshot
from kvpool.doctor.probe import Probe, blind_reason, probe_nodes
from kvpool.drain.job import follow_drain
from kvpool.drain.report import Drained, Job
from kvpool.entry import Entry, PoolFacts
from kvpool.mooncake import MooncakePool
from kvpool.pool import Depth, Pool, require
from kvpool.url import PoolUrl, Scheme

Need = Literal[
    "facts", "server", "entries", "halves", "files", "headers", "lengths", "chunks", "blocks",
    "decodable", "objects", "expiry", "slots", "addresses", "drains",
]  # fmt: skip
"""What a check needs to know of a pool."""
_APPLIES: dict[Scheme, tuple[Need, ...]] = {
    "lmcache+redis": (
        "server", "entries", "decodable", "halves", "headers", "lengths", "chunks", "expiry",
    ),
    "lmcache+file": ("entries", "decodable", "files", "headers", "lengths", "chunks"),
    "aibrix+shfs": ("entries", "decodable", "files", "lengths", "blocks"),
    "aibrix+rocksdb": ("entries", "decodable", "lengths", "blocks"),
    "aibrix+redis": ("slots", "addresses"),
    "mooncake": ("entries", "objects", "chunks", "drains"),
    "vineyard": ("entries",),
}  # fmt: skip
_OF_SCAN: tuple[Need, ...] = (
    "entries", "decodable", "halves", "files", "headers", "lengths", "chunks", "objects", "blocks",
    "expiry",
)  # fmt: skip
Tails = tuple[tuple[Entry, Tail | None], ...]
"""Blocks, and the tokens found behind each."""
_WATCH_STEP_S = 0.25
_MOST_SNAPSHOTS = 100
_MOST_READ_BYTES = 64 << 20
_STOPPED = "the examination was stopped before its end"


@dataclass(frozen=True)
class Options:
    """How to look.

    Attributes:
        depth: of the scan; see ``kvpool.pool.Depth``.
        min_age_s: halves and temporary files must be so old to count as orphans.
        probe_timeout_s: for each node's address; None leaves the nodes alone.
        watch_s: how long to watch placement metadata for a second writer.
        drain_job: id of a drain of a Mooncake store, to see whether it moves.
        stall_after_s: how long its counts must stand still for it to hang.
    """

    depth: Depth = "quiet"
    min_age_s: float = 300.0
    probe_timeout_s: float | None = 2.0
    watch_s: float = 0.0
    drain_job: str | None = None
    stall_after_s: float = 30.0


@dataclass
class Survey:
    """What is known of a pool.

    Attributes:
        url, facts: of the pool.
        census: what the scan counted; None where the pool can't be listed.
        tails: tokens behind the smallest and the largest block of each ``conn_id`` that stores
            them; None for a block without.
        snapshots: placement metadata, once for every change while it was watched.
        probes: of the nodes' addresses.
        stalled: a drain that stood still while it was watched.
        lacking: why something that applies to this kind of pool is not known.
        declined: why something is not known that nobody asked for.
        complete: False where the survey was stopped.
    """

    url: PoolUrl
    facts: PoolFacts
    census: Census | None = None
    tails: dict[str, Tails] = field(default_factory=dict)
    snapshots: tuple[Snapshot, ...] = ()
    probes: tuple[Probe, ...] = ()
    stalled: Drained | None = None
    lacking: dict[Need, str] = field(default_factory=dict)
    declined: dict[Need, str] = field(default_factory=dict)
    complete: bool = True

    def applies(self, need: Need) -> bool:
        """Tell whether this kind of pool has such a thing at all."""
        return need == "facts" or need in _APPLIES.get(self.url.scheme, ())


def survey_pool(
    pool: Pool,
    options: Options,
    *,
    stop: Event,
    progress: Callable[[int], None] | None = None,
) -> Survey:
    """Look at a pool without changing it, in memory that does not grow with it.

    Args:
        pool: to look at.
        options: how.
        stop: when set, the survey ends after its batch.
        progress: called after each batch with the number of entries seen.

    Raises:
        UnsupportedError: the pool can neither be listed nor does it name nodes.
        KvPoolError: what the pool raises.
    """
    found = Survey(pool.url, pool.describe())
    if not found.applies("slots"):
        require(pool, "scan")
        _scan(pool, found, options, stop, progress)
        _read_tails(pool, found, stop)
        if isinstance(pool, MooncakePool):
            _watch_drain(pool, found, options, stop)
        return found
    found.snapshots = _watch(pool, found.facts, options.watch_s, stop)
    found.complete = not stop.is_set()
    if not found.complete:
        found.lacking["addresses"] = _STOPPED
    elif options.probe_timeout_s is None:
        found.declined["addresses"] = "nobody asked: --no-probe"
    else:
        found.probes = probe_nodes(found.facts.nodes, options.probe_timeout_s)
        blind = blind_reason(found.probes)
        if blind:
            found.lacking["addresses"] = blind
    return found


def _scan(
    pool: Pool,
    found: Survey,
    options: Options,
    stop: Event,
    progress: Callable[[int], None] | None,
) -> None:
    census = found.census = Census(found.url.is_local, options.min_age_s)
    for batch in pool.scan(depth=options.depth):
        census.add(batch, time.time())
        if progress is not None:
            progress(census.scanned)
        if stop.is_set():
            found.complete = False
            found.lacking |= dict.fromkeys(_OF_SCAN, _STOPPED)
            return
    if census.without_header:
        reason = "this server counts reading headers as use; --headers reads them all the same"
        found.lacking |= {"headers": reason, "lengths": reason}


def _read_tails(pool: Pool, found: Survey, stop: Event) -> None:
    """Read the smallest and the largest block of each space that stores tokens."""
    census = found.census
    assert census is not None
    for name, space in census.spaces.items():
        if not space.space.has_tokens or stop.is_set():
            continue
        tails = []
        for entry in _extremes(space):
            value = pool.read(entry.key)
            if value is not None:
                tails.append((entry, aibrix.parse_tail(space.space, value.data)))
        found.tails[name] = tuple(tails)


def _extremes(space: Space) -> list[Entry]:
    both = [e for e in (space.smallest, space.largest) if e and e.bytes <= _MOST_READ_BYTES]
    return list({entry.key: entry for entry in both}.values())


def _watch_drain(pool: MooncakePool, found: Survey, options: Options, stop: Event) -> None:
    """Watch a drain until it moves, ends or has stood still for long enough."""
    draining = [node.name for node in found.facts.nodes if node.status == "DRAINING"]
    if options.drain_job is None:
        if draining:
            names = ", ".join(draining)
            found.lacking["drains"] = (
                f"{names} is being drained, and the master does not tell by which job; --drain-job "
                "ID sees whether it moves"
            )
        return
    moved = Event()
    first: Job | None = None

    def look(job: Job) -> None:
        nonlocal first
        first = first or job
        if job.counts != first.counts or stop.is_set():
            moved.set()

    followed = follow_drain(
        pool, options.drain_job, stall_after_s=options.stall_after_s, stop=moved, progress=look
    )
    if followed.end == "stalled":
        found.stalled = followed
    if stop.is_set():
        found.complete = False
        found.lacking["drains"] = _STOPPED


def _watch(pool: Pool, facts: PoolFacts, watch_s: float, stop: Event) -> tuple[Snapshot, ...]:
    """Return the metadata, once for every change within a span of time."""
    seen = [_snapshot(facts)]
    until_s = time.monotonic() + watch_s
    while (left_s := until_s - time.monotonic()) > 0:
        if stop.wait(min(_WATCH_STEP_S, left_s)):
            break
        now = _snapshot(pool.describe())
        if now != seen[-1]:
            seen = [*seen[-_MOST_SNAPSHOTS:], now]
    return tuple(seen)


def _snapshot(facts: PoolFacts) -> Snapshot:
    details: Mapping[str, object] = facts.details
    return Snapshot(details.get("version"), facts.nodes)
