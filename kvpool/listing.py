"""Find entries: the first of many in some order, or the one that a person means."""

import hashlib
import heapq
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Event
from typing import Any, Literal

from kvpool import aibrix, lmcache
from kvpool.entry import Entry
from kvpool.errors import KvPoolUsageError
from kvpool.pool import Depth, Pool
from kvpool.selection import Selection, age_s

Order = Literal["key", "size", "age", "expiry"]
ORDERS: tuple[Order, ...] = ("key", "size", "age", "expiry")
_SHORTEST_HASH = 4
_HASH = re.compile(r"-?[0-9a-f]+", re.ASCII)
_MOST_NAMED = 5


@dataclass(frozen=True)
class Listing:
    """The first entries of an order.

    Attributes:
        entries: in order.
        matching: how many there are in all.
        complete: False where the scan was stopped.
    """

    entries: tuple[Entry, ...]
    matching: int
    complete: bool


@dataclass(frozen=True)
class Details:
    """What only the value tells.

    Attributes:
        sha256: of the data, without its header; None where it can't be read.
        faults: what contradicts itself in it.
        prefix_tokens, tokens: stored behind the data, for AIBrix with token validation.
        key_builder: how AIBrix made the key.
    """

    sha256: str | None = None
    faults: tuple[str, ...] = ()
    prefix_tokens: tuple[int, ...] | None = None
    tokens: tuple[int, ...] | None = None
    key_builder: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "sha256": self.sha256,
            "faults": list(self.faults),
            "prefix_tokens": None if self.prefix_tokens is None else list(self.prefix_tokens),
            "token_ids": None if self.tokens is None else list(self.tokens),
            "key_builder": self.key_builder,
        }


def parse_order(text: str) -> Order:
    """Return an order by its name. Raises KvPoolUsageError for another word."""
    for order in ORDERS:
        if order == text:
            return order
    raise KvPoolUsageError(
        "kv.sort", f"{text!r} is no order; expected {', '.join(ORDERS)}", target="--sort"
    )


def _rank(order: Order, entry: Entry, now_s: float) -> tuple[float, str]:
    """Return what entries are sorted by; ties and unknowns by key, unknowns last."""
    number: float | None = 0.0
    if order == "size":
        number = -float(entry.bytes)
    elif order == "age":
        since_s = age_s(entry, now_s)
        number = None if since_s is None else -since_s
    elif order == "expiry":
        number = entry.expires_s
    return float("inf") if number is None else number, entry.key


def first(
    pool: Pool,
    selection: Selection,
    *,
    order: Order = "key",
    limit: int = 0,
    depth: Depth = "quiet",
    stop: Event | None = None,
    progress: Callable[[int], None] | None = None,
) -> Listing:
    """Return the first entries of a pool in an order, keeping no more than those in memory.

    Args:
        pool: must be able to scan.
        selection: which entries count.
        order: largest, oldest or soonest to expire first, or by key.
        limit: how many; 0 for all.
        depth: see ``kvpool.pool.Depth``.
        stop: when set, the scan ends after its batch.
        progress: called after each batch with the number seen.

    Raises:
        KvPoolError: what the pool raises.
    """
    now_s = time.time()
    matching = 0
    complete = True

    def matches() -> Iterator[Entry]:
        nonlocal matching, complete
        seen = 0
        for batch in pool.scan(depth=depth):
            chosen = [entry for entry in batch if selection.holds(entry, now_s)]
            matching += len(chosen)
            yield from chosen
            seen += len(batch)
            if progress is not None:
                progress(seen)
            if stop is not None and stop.is_set():
                complete = False
                return

    def rank(entry: Entry) -> tuple[float, str]:
        return _rank(order, entry, now_s)

    found = heapq.nsmallest(limit, matches(), rank) if limit else sorted(matches(), key=rank)
    return Listing(tuple(found), matching, complete)


def resolve(pool: Pool, text: str, *, stop: Event | None = None) -> Entry | None:
    """Return the entry that a key or the start of a hash means.

    Args:
        pool: to look in; only a hash needs it to be able to scan.
        text: a whole key, or at least four digits of a chunk's hash.
        stop: when set while a hash is looked for, None is returned.

    Raises:
        KvPoolUsageError: there is no such entry, or there are several.
    """
    entry = pool.stat(text)
    if entry is not None:
        return entry
    is_hash = _HASH.fullmatch(text) is not None and len(text) >= _SHORTEST_HASH
    found: list[Entry] = []
    for batch in pool.scan() if is_hash and "scan" not in pool.limits else ():
        found += [entry for entry in batch if (entry.chunk_hash or "").startswith(text)]
        if len(found) > _MOST_NAMED:
            break
        if stop is not None and stop.is_set():
            return None
    if len(found) == 1:
        return pool.stat(found[0].key) or found[0]
    if found:
        named = "\n  ".join(sorted(entry.key for entry in found[:_MOST_NAMED]))
        more = "\n  and more" if len(found) > _MOST_NAMED else ""
        raise KvPoolUsageError(
            "kv.key.ambiguous",
            f"{text!r} is the start of several entries' hash:\n  {named}{more}",
            hint="name one by its whole key",
            target=text,
        )
    raise KvPoolUsageError(
        "kv.key.absent",
        f"{pool.url} has no entry {text!r}",
        hint="`aibrixctl kv ls POOL -o wide` lists whole keys",
        target=text,
    )


def details_of(pool: Pool, entry: Entry) -> Details:
    """Return what the value of an entry tells; little where it can't be read."""
    value = pool.read(entry.key) if "read" not in pool.limits and entry.has_data else None
    faults = list(length_faults(entry))
    if entry.reason:
        faults.insert(0, entry.reason)
    if value is None:
        return Details(faults=tuple(faults))
    digest = hashlib.sha256(value.data).hexdigest()
    space = aibrix.parse_conn_id(entry.namespace or "")
    if space is None:
        return Details(digest, tuple(faults))
    tail = aibrix.parse_tail(space, value.data) if space.has_tokens else None
    if space.has_tokens and tail is None:
        faults.append("no tokens stand behind the block, although its conn_id says so")
    return Details(
        digest,
        tuple(faults),
        None if tail is None else tail.prefix_tokens,
        None if tail is None else tail.tokens,
        aibrix.KEY_BUILDERS[space.key_builder],
    )


def length_faults(entry: Entry) -> Iterator[str]:
    """Yield where the length of a value, its header and its shape contradict each other."""
    header = entry.header
    if header is None:
        return
    expected = lmcache.shape_bytes(header)
    if expected != header.value_bytes:
        yield (
            f"its header says {header.value_bytes:,} bytes, but its shapes and dtypes make "
            f"{expected:,}"
        )
    if entry.value_bytes is not None and entry.value_bytes != header.value_bytes:
        yield (
            f"its header says {header.value_bytes:,} bytes, but {entry.value_bytes:,} are stored"
        )
