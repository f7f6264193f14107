"""A Mooncake store: its master is asked over HTTP, values move through its own client.

Objects are whole or not there: the master names them only once a copy is complete. It publishes
neither when one was stored nor when it was used; the lease that a reader takes keeps it for a
while from being evicted or removed.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from kvpool import lmcache
from kvpool.entry import Entry, Node, PoolFacts, Value
from kvpool.errors import InUseError, KvPoolError
from kvpool.mooncake_client import EXTRA, Client, is_installed
from kvpool.mooncake_http import SEPARATOR, Master, Replicas, Segment
from kvpool.mooncake_keys import identify
from kvpool.pool import BATCH, Closing, Depth, Verb
from kvpool.url import PoolUrl

DISK_OF = "disk of "
"""Precedes, in ``Entry.node``, the segment on whose client's own disk a copy lies."""
LEASE_S = 5.5
"""A little more than a lease lasts unless the master is told otherwise."""
_RETRY_S = 0.5
_LIMITS: dict[Verb, str] = {
    "expiry": "Mooncake knows leases and eviction, and no time at which an object vanishes",
    "headers": "its objects can't be read in part without taking a lease on them",
    "age": "its master does not publish when an object was stored or used",
}
_PACKAGE = f"its values take Mooncake's client, which is not installed: {EXTRA}"


class MooncakePool(Closing):
    """See ``kvpool.pool.Pool``."""

    def __init__(self, url: PoolUrl, timeout_s: float):
        """Connect to the master. Raises PoolUnreachableError where none answers."""
        self.url = url
        lacking: dict[Verb, str] = dict.fromkeys(("read", "write", "delete"), _PACKAGE)
        self.limits: Mapping[Verb, str] = _LIMITS | ({} if is_installed() else lacking)
        self.master = Master(url, timeout_s)
        self._timeout_s = timeout_s
        self._client: Client | None = None

    def close(self) -> None:
        """Close the connections."""
        self.master.close()
        if self._client is not None:
            self._client.close()

    def describe(self) -> PoolFacts:
        """Return the segments, how full they are, and the master's hit rate."""
        segments = self.master.segments()
        counters = self.master.counters()
        lookups = int(counters.get("total_get_nums_", 0))
        hits = int(counters.get("valid_get_nums_", 0))
        return PoolFacts(
            backend=f"Mooncake store, {self.master.health['role']}",
            medium="memory",
            used_bytes=int(counters.get("master_allocated_bytes", 0)),
            capacity_bytes=int(counters.get("master_total_capacity_bytes", 0)) or None,
            eviction="approximate LRU",
            hit_rate=hits / lookups if lookups else None,
            hits=hits,
            misses=max(0, lookups - hits),
            nodes=tuple(map(_node, segments)),
            details={
                "clients": int(counters.get("master_active_clients", 0)),
                "keys": int(counters.get("master_key_count", 0)),
                "evicted_keys": int(counters.get("master_evicted_key_count", 0)),
                "evicted_bytes": int(counters.get("master_evicted_size_bytes", 0)),
                "disk_bytes": int(counters.get("master_allocated_file_size_bytes", 0)),
            },
        )

    def scan(self, *, depth: Depth = "quiet", batch: int = BATCH) -> Iterator[list[Entry]]:
        """Yield every object; the master is asked for so many at a time."""
        names = self._names()
        keys = self.master.keys()
        while part := list(islice(keys, batch)):
            yield list(self._entries(part, names))

    def stat(self, key: str) -> Entry | None:
        """Return one object; one whose key can't be asked for is looked up in the list of all."""
        everything = self.master.keys()
        if SEPARATOR in key and key not in everything:
            return None
        return next(iter(self._entries([key], self._names())), None)

    def read(self, key: str) -> Value | None:
        """Return the bytes of an object, which takes a lease on it.

        LMCache may store its header in front of the data; where one is, it is split off.
        """
        data = self._connected().get(key)
        if data is None:
            return None
        start = data[: lmcache.ONE_GROUP_BYTES]
        header = lmcache.parse_header(start) if lmcache.parse_key(key) else None
        if header is not None and header.value_bytes == len(data) - len(start):
            return Value(start, data[len(start) :])
        return Value(b"", data)

    def write(self, key: str, value: Value, *, expires_s: float | None = None) -> None:
        """Store an object, its header in front of the data, in place of any that is there."""
        self._connected().put(key, value.header + value.data)

    def delete(self, keys: Sequence[str]) -> int:
        """Remove objects; those that were just read are tried until their lease may be over.

        Raises:
            InUseError: readers went on using some; the others are gone.
        """
        client = self._connected()
        removed, leased = client.remove(keys)
        until_s = time.monotonic() + LEASE_S
        while leased and time.monotonic() < until_s:
            time.sleep(_RETRY_S)
            more, leased = client.remove(leased)
            removed += more
        if leased:
            raise InUseError(
                "kv.mooncake.leased",
                f"{len(leased)} of {len(keys)} objects were left, such as {leased[0]!r}: readers "
                f"hold leases on them (-706) that did not end within {LEASE_S:g} s",
                hint="stop the engines that read them, or try again",
                target=str(self.url),
                keys=tuple(leased),
                removed=removed,
            )
        return removed

    def _connected(self) -> Client:
        if self._client is None:
            if not is_installed():
                raise KvPoolError("kv.mooncake.package", f"{self.url}: {_PACKAGE}", hint=EXTRA)
            self._client = Client(self.url, self.master.own_address, self._timeout_s)
        return self._client

    def _names(self) -> dict[str, str]:
        """Return what places of copies are called: memory by its endpoint, disks by client."""
        segments = self.master.segments()
        disks = {one.client: f"{DISK_OF}{one.name}" for one in segments if one.client}
        return disks | {one.endpoint: one.name for one in segments}

    def _entries(self, keys: Sequence[str], names: Mapping[str, str]) -> Iterable[Entry]:
        found = self.master.replicas(keys)
        for key in keys:
            replicas = found.get(key)
            if replicas is None:
                yield Entry(key, "undecodable", 0, _unaskable(key))
            elif replicas.error != "OBJECT_NOT_FOUND":
                yield _entry(key, replicas, names)


def _unaskable(key: str) -> str:
    what = "a comma" if SEPARATOR in key else "characters"
    return f"its name has {what} that the master's HTTP can't be asked for"


def _entry(key: str, replicas: Replicas, names: Mapping[str, str]) -> Entry:
    places = [names.get(endpoint, endpoint) for endpoint in replicas.endpoints]
    places += [names.get(client, f"{DISK_OF}{client}") for client in replicas.local_disks]
    where = ", ".join([*places, *(["disk"] if replicas.on_disk else [])])
    about = identify(key)
    if replicas.error or replicas.bytes is None:
        reason = f"no copy is complete: {replicas.error or 'being written'}"
        return Entry(key, "orphan", 0, reason, node=where or None, **about)
    copies = len(replicas.endpoints) + replicas.on_disk + len(replicas.local_disks)
    return Entry(
        key,
        "whole",
        replicas.bytes * copies,
        value_bytes=replicas.bytes,
        node=where or None,
        **about,
    )


def _node(segment: Segment) -> Node:
    return Node(
        segment.name,
        segment.endpoint,
        used_bytes=segment.used_bytes,
        capacity_bytes=segment.capacity_bytes,
        status=segment.status,
    )
