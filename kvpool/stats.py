"""Count what is in a pool, in one pass and in memory that does not grow with it."""

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any, NamedTuple

from kvpool.entry import STATES, Entry, PoolFacts, State
from kvpool.pool import Depth, Pool

MOST_NAMES = 1000
"""Different groups, and different values of tags, that are counted apart; tags may differ with
every request, and memory is bounded."""
OTHERS = "(others)"
_MINUTE_S, _HOUR_S, _DAY_S = 60.0, 3600.0, 86400.0
EDGES_S = (_MINUTE_S, 10 * _MINUTE_S, _HOUR_S, 6 * _HOUR_S, _DAY_S, 7 * _DAY_S)
"""Upper edges of the histograms of age and expiry; the last bin is beyond."""


@dataclass
class Tally:
    """How much of something there is."""

    entries: int = 0
    bytes: int = 0

    def add(self, entry: Entry) -> None:
        """Count an entry."""
        self.entries += 1
        self.bytes += entry.bytes

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"entries": self.entries, "bytes": self.bytes}


class GroupName(NamedTuple):
    """What entries are told apart by: those with one of these can serve each other's engines."""

    model: str | None
    namespace: str | None
    dtype: str | None
    world_size: int | None

    @property
    def text(self) -> str:
        """Return the model, or the namespace of a pool that knows no models."""
        return self.model or self.namespace or "-"


@dataclass
class Group:
    """The whole entries of one group.

    Attributes:
        workers: entries by the rank of their writer; uneven numbers mean that some ranks lack
            what others have.
        shard_tokens: tokens by rank and first layer: ranks, and layers that are stored one by
            one, each hold their part of the same tokens.
        layers: highest layer number seen, plus one.
        chunk_tokens: the most tokens in one entry.
    """

    tally: Tally = field(default_factory=Tally)
    workers: Counter[int] = field(default_factory=Counter)
    shard_tokens: Counter[tuple[int, int]] = field(default_factory=Counter)
    layers: int = 0
    chunk_tokens: int = 0

    @property
    def tokens(self) -> int | None:
        """Return how many tokens are held; None where no header told."""
        return max(self.shard_tokens.values(), default=None)

    def add(self, entry: Entry) -> None:
        """Count an entry."""
        self.tally.add(entry)
        if entry.worker_id is not None:
            self.workers[entry.worker_id] += 1
        if entry.layers is not None:
            self.layers = max(self.layers, entry.layers[1] + 1)
        if entry.tokens is not None:
            self.chunk_tokens = max(self.chunk_tokens, entry.tokens)
            shard = entry.worker_id or 0, entry.layers[0] if entry.layers else 0
            self.shard_tokens[shard] += entry.tokens


@dataclass
class Histogram:
    """Entries by a time span.

    Attributes:
        counts: one per bin of ``EDGES_S``, and one beyond.
        without: entries that have no such time.
        least_s, most_s: the extremes.
    """

    counts: list[int] = field(default_factory=lambda: [0] * (len(EDGES_S) + 1))
    without: int = 0
    least_s: float | None = None
    most_s: float | None = None

    def add(self, span_s: float | None) -> None:
        """Count one entry."""
        if span_s is None:
            self.without += 1
            return
        self.counts[bisect_right(EDGES_S, span_s)] += 1
        if self.least_s is None or span_s < self.least_s:
            self.least_s = span_s
        if self.most_s is None or span_s > self.most_s:
            self.most_s = span_s

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        edges = [*EDGES_S, None]
        return {
            "bins": [
                {"below_s": edge, "entries": count}
                for edge, count in zip(edges, self.counts, strict=True)
            ],
            "unknown_or_none": self.without,
            "least_s": self.least_s,
            "most_s": self.most_s,
        }


@dataclass
class PoolStats:
    """What a scan counted.

    Attributes:
        facts: what the pool says of itself; asked before the scan, which Redis counts as lookups.
        states: tallies by state; the groups, tags and histograms are of whole entries.
        stored, accessed, expires: time since storing and last use, and until expiry.
        complete: False where the scan was stopped.
        exact_bytes: False where the sizes are memory taken, because headers were not read.
        elapsed_s: of the scan.
    """

    facts: PoolFacts
    states: dict[State, Tally] = field(default_factory=lambda: {state: Tally() for state in STATES})
    groups: dict[GroupName, Group] = field(default_factory=dict)
    tags: dict[tuple[str, str], Tally] = field(default_factory=dict)
    stored: Histogram = field(default_factory=Histogram)
    accessed: Histogram = field(default_factory=Histogram)
    expires: Histogram = field(default_factory=Histogram)
    complete: bool = True
    exact_bytes: bool = True
    elapsed_s: float = 0.0

    @property
    def entries(self) -> int:
        """Return how many whole entries there are."""
        return self.states["whole"].entries

    @property
    def tokens(self) -> int | None:
        """Return how many tokens all groups hold; None where no header told."""
        known = [group.tokens for group in self.groups.values() if group.tokens is not None]
        return sum(known) if known else None

    def add(self, batch: Sequence[Entry], now_s: float) -> None:
        """Count a batch of a scan."""
        for entry in batch:
            self.states[entry.state].add(entry)
            if entry.state != "whole":
                continue
            name = GroupName(entry.model, entry.namespace, entry.dtype, entry.world_size)
            self._group(name).add(entry)
            for tag in entry.tags:
                self._tag(tag).add(entry)
            self.exact_bytes = self.exact_bytes and entry.value_bytes is not None
            self.stored.add(_since(entry.stored_s, now_s))
            self.accessed.add(_since(entry.accessed_s, now_s))
            self.expires.add(None if entry.expires_s is None else entry.expires_s - now_s)

    def _group(self, name: GroupName) -> Group:
        found = self.groups.get(name)
        if found is not None:
            return found
        if len(self.groups) >= MOST_NAMES:
            name = GroupName(OTHERS, None, None, None)
        return self.groups.setdefault(name, Group())

    def _tag(self, tag: tuple[str, str]) -> Tally:
        found = self.tags.get(tag)
        if found is not None:
            return found
        if len(self.tags) >= MOST_NAMES:
            tag = (tag[0], OTHERS)
        return self.tags.setdefault(tag, Tally())

    def largest_groups(self) -> list[tuple[GroupName, Group]]:
        """Return the groups, largest first."""
        return sorted(self.groups.items(), key=lambda item: (-item[1].tally.bytes, str(item[0])))

    def largest_tags(self) -> list[tuple[tuple[str, str], Tally]]:
        """Return the tags, largest first."""
        return sorted(self.tags.items(), key=lambda item: (-item[1].bytes, item[0]))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "pool": self.facts.to_json(),
            "complete": self.complete,
            "exact_bytes": self.exact_bytes,
            "scan_s": round(self.elapsed_s, 3),
            "tokens": self.tokens,
            "states": {state: tally.to_json() for state, tally in self.states.items()},
            "groups": list(self._group_rows()),
            "tags": [
                {"tag": name, "value": value, **tally.to_json()}
                for (name, value), tally in self.largest_tags()
            ],
            "since_stored": self.stored.to_json(),
            "since_used": self.accessed.to_json(),
            "until_expiry": self.expires.to_json(),
        }

    def _group_rows(self) -> Iterator[dict[str, Any]]:
        for name, group in self.largest_groups():
            yield {
                "model": name.model,
                "namespace": name.namespace,
                "dtype": name.dtype,
                "world_size": name.world_size,
                **group.tally.to_json(),
                "tokens": group.tokens,
                "layers": group.layers or None,
                "chunk_tokens": group.chunk_tokens or None,
                "entries_per_worker": {
                    str(worker): count for worker, count in sorted(group.workers.items())
                },
            }


def _since(moment_s: float | None, now_s: float) -> float | None:
    return None if moment_s is None else max(0.0, now_s - moment_s)


def collect(
    pool: Pool,
    *,
    depth: Depth = "quiet",
    stop: Event | None = None,
    progress: Callable[[int, Mapping[State, Tally]], None] | None = None,
) -> PoolStats:
    """Count everything in a pool.

    Args:
        pool: must be able to scan.
        depth: see ``kvpool.pool.Depth``.
        stop: when set, the scan ends after its batch and the result is not ``complete``.
        progress: called after each batch with the number seen so far, and the tallies.

    Raises:
        KvPoolError: what the pool raises.
    """
    started_s = time.monotonic()
    found = PoolStats(pool.describe())
    seen = 0
    for batch in pool.scan(depth=depth):
        found.add(batch, time.time())
        seen += len(batch)
        if progress is not None:
            progress(seen, found.states)
        if stop is not None and stop.is_set():
            found.complete = False
            break
    found.elapsed_s = time.monotonic() - started_s
    return found
