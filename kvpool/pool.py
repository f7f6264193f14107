"""The one protocol that every backend speaks, and the way to open one.

A backend does what it can; what it can't is in ``Pool.limits`` with the reason, and ``require``
turns that into the error which a command shows.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Protocol, Self, runtime_checkable

from kvpool.entry import Entry, PoolFacts, Value
from kvpool.errors import UnsupportedError
from kvpool.url import PoolUrl, parse_pool_url

Verb = Literal["scan", "stat", "read", "write", "delete", "expiry", "headers", "age"]
"""What a backend may be unable to do. ``expiry``: keep and set one; ``headers``: tell shape and
dtype of a value; ``age``: tell when an entry was stored or last used."""
Depth = Literal["quiet", "headers"]
"""How far a scan looks. ``headers`` reads the header of every entry. ``quiet`` leaves that out
where reading would disturb the store, as it does the eviction order of an old Redis; ``bytes`` is
then the memory taken."""

Removal = Literal["removed", "young", "unknown_age", "foreign", "changed"]
"""What became of an orphan that was to be removed. ``young``: a writer may be at work on it;
``unknown_age``: nothing tells; ``foreign``: only its name fits the pool's; ``changed``: it is gone,
or is no orphan any more."""

BATCH = 500
"""Entries per batch of a scan: a few milliseconds of a server's time at most."""


class Pool(Protocol):
    """An open pool; a context manager that closes it.

    Every method raises ``PoolUnreachableError`` when the pool no longer answers, ``KvPoolError``
    when it refuses, and ``UnsupportedError`` for what stands in ``limits``.
    """

    @property
    def url(self) -> PoolUrl:
        """Where it is."""
        ...

    @property
    def limits(self) -> Mapping[Verb, str]:
        """What this backend can't do, each with the reason as the end of "because ..."."""
        ...

    def scan(self, *, depth: Depth = "quiet", batch: int = BATCH) -> Iterator[list[Entry]]:
        """Yield everything in the pool, orphans and foreign keys too, in batches.

        Values are never read. Memory is bounded by the batch. What is written or removed
        meanwhile may be seen or not; on Redis an entry may be seen twice while a table grows.
        """
        ...

    def stat(self, key: str) -> Entry | None:
        """Return one entry with its header decoded; None when there is none."""
        ...

    def read(self, key: str) -> Value | None:
        """Return the bytes of an entry; None when there is none, or only half of one."""
        ...

    def write(self, key: str, value: Value, *, expires_s: float | None = None) -> None:
        """Store an entry so that no reader ever sees half of it, replacing one of that key.

        Args:
            key: of the entry.
            value: header and data.
            expires_s: when it shall vanish, in seconds since the epoch; None: never.
        """
        ...

    def delete(self, keys: Sequence[str]) -> int:
        """Remove entries and orphans, whatever is left of each; return how many there were."""
        ...

    def describe(self) -> PoolFacts:
        """Return what the pool says of itself, without a scan."""
        ...

    def close(self) -> None:
        """Let go of connections and files."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Closing:
    """What makes a backend a context manager: it closes at the end."""

    def close(self) -> None:
        """Do nothing; a backend that holds connections or files lets go of them."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@runtime_checkable
class RemovesOrphans(Protocol):
    """A pool that can remove what a writer left, and nothing that one is at work on."""

    def remove_orphan(self, key: str, *, min_age_s: float, dry_run: bool = False) -> Removal:
        """Remove an orphan if it still is one, and has been left alone for long enough.

        Nothing else can change it between that look and its removal.

        Args:
            key: of the orphan.
            min_age_s: what a writer touched since is left alone.
            dry_run: only look.
        """
        ...


def open_pool(
    url: str | PoolUrl,
    *,
    password: str | None = None,
    ca_file: str | None = None,
    insecure: bool = False,
    timeout_s: float = 10.0,
) -> Pool:
    """Connect to a pool, or open its directory.

    Args:
        url: see ``kvpool.url``.
        password: of a Redis server.
        ca_file: certificates to trust, for TLS.
        insecure: do not verify the server's certificate.
        timeout_s: for connecting, and for each answer.

    Raises:
        KvPoolUsageError: the URL is malformed, or names a directory that is none.
        PoolUnreachableError: nothing answers there, or access is refused.
        KvPoolError: what answers is not such a pool; or its package is not installed.
    """
    place = parse_pool_url(url) if isinstance(url, str) else url
    connection: dict[str, Any] = {
        "password": password,
        "ca_file": ca_file,
        "insecure": insecure,
        "timeout_s": timeout_s,
    }
    match place.scheme:
        case "lmcache+redis":
            from kvpool.lmcache_redis import open_lmcache_redis

            return open_lmcache_redis(place, **connection)
        case "lmcache+file":
            from kvpool.lmcache_file import LmcacheFilePool

            return LmcacheFilePool(place)
        case "lm":
            from kvpool.lm_server import LmServerPool

            return LmServerPool(place, timeout_s)
        case "aibrix+shfs":
            from kvpool.aibrix_shfs import AibrixShfsPool

            return AibrixShfsPool(place)
        case "aibrix+rocksdb":
            from kvpool.aibrix_rocksdb import AibrixRocksdbPool

            return AibrixRocksdbPool(place)
        case "aibrix+redis":
            from kvpool.placement import open_aibrix_placement

            return open_aibrix_placement(place, **connection)
        case "mooncake":
            from kvpool.mooncake import MooncakePool

            return MooncakePool(place, timeout_s)
        case "vineyard":
            from kvpool.vineyard import VineyardPool

            return VineyardPool(place, timeout_s)
    raise UnsupportedError("kv.scheme", f"no backend for {place.scheme} yet", target=str(place))


def require(pool: Pool, *verbs: Verb) -> None:
    """Refuse what a pool can't do.

    Raises:
        UnsupportedError: names the first of the verbs that stands in its limits, and why.
    """
    for verb in verbs:
        if verb in pool.limits:
            raise UnsupportedError(
                f"kv.cannot.{verb}",
                f"{pool.url} can't {_WORDS[verb]}: {pool.limits[verb]}",
                target=str(pool.url),
            )


_WORDS: dict[Verb, str] = {
    "scan": "be listed",
    "stat": "be asked for single entries",
    "read": "be read",
    "write": "be written",
    "delete": "have entries removed",
    "expiry": "keep an expiry",
    "headers": "tell shapes and dtypes",
    "age": "tell the age of entries",
}
