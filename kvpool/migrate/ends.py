"""The two ends of a migration: what is asked of a pool beyond the sessions of the lanes."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Final, Protocol

from accelerators.documents import write_errors
from accelerators.units import format_bytes
from kvpool import aibrix, lmcache, lmcache_file
from kvpool.errors import KvPoolError, KvPoolUsageError, UnsupportedError
from kvpool.migrate.changes import RedisChanges
from kvpool.migrate.directory_side import DirectorySide, Layout
from kvpool.migrate.locks import directory_lock, redis_lock
from kvpool.migrate.redis_side import RedisSide
from kvpool.migrate.side import Look, Side
from kvpool.migrate.wire import BulkConnection
from kvpool.pool import Pool, open_pool
from kvpool.redis_facts import parse_info
from kvpool.url import PoolUrl, parse_pool_url

NAME_MAX_BYTES: Final = 255
_BLOCK_BYTES: Final = 4096
_KEY_OVERHEAD_BYTES: Final = 96
"""What Redis keeps per key beside name and value: its place in the table, the object, slack."""
FAMILIES: Final = {"lmcache+redis": "lmcache", "lmcache+file": "lmcache", "aibrix+shfs": "aibrix"}
"""Kinds of pools whose entries can be moved, and which of them hold the same entries."""


@dataclass(frozen=True)
class Access:
    """How to get into a pool; see ``kvpool.pool.open_pool``."""

    password: str | None = None
    ca_file: str | None = None
    insecure: bool = False
    timeout_s: float = 10.0


@dataclass(frozen=True)
class Room:
    """How much more a pool can take.

    Attributes:
        free_bytes: None: unlimited or unknown.
        limit: what sets it, for messages.
        evicted: entries that the pool has thrown out so far to make room.
    """

    free_bytes: int | None
    limit: str
    evicted: int = 0


class End(Protocol):
    """One end of a migration."""

    @property
    def url(self) -> PoolUrl:
        """Of the pool."""
        ...

    @property
    def pool(self) -> Pool:
        """To scan and describe it."""
        ...

    @property
    def keeps_expiry(self) -> bool:
        """Whether its entries can vanish at a set time."""
        ...

    def reader(self) -> Side:
        """Open a session for reading entries, and for removing them."""
        ...

    def writer(self, *, durable: bool = False) -> Side:
        """Open a session for writing; ``durable`` ones wait until it is on the disk."""
        ...

    def why_no_source(self, *, delete: bool) -> str:
        """Return why entries can't be moved out of it, or an empty text."""
        ...

    def why_no_target(self) -> str:
        """Return why nothing can be moved into it, or an empty text."""
        ...

    def room(self) -> Room:
        """Return how much more it can take, now."""
        ...

    def footprint_bytes(self, key: str, look: Look) -> int:
        """Return how much of its room an entry would take."""
        ...

    def why_unfit(self, key: str, look: Look) -> str:
        """Return why it can't hold an entry, as the end of "because ...", or an empty text."""
        ...

    def lock(self, lost: threading.Event) -> contextlib.AbstractContextManager[None]:
        """Keep other migrations away for a block."""
        ...

    def changes(self) -> RedisChanges | None:
        """Begin to watch who else touches entries; None where stamps tell it afterwards."""
        ...

    def tidy(self) -> int:
        """Clear away what a killed migration left; return how many files."""
        ...

    def identity(self) -> str:
        """Return a text that two URLs of the same pool share."""
        ...

    def keep(self) -> None:
        """Let what was made for it stay when it is closed."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class RedisEnd:
    """LMCache's entries in Redis."""

    keeps_expiry = True

    def __init__(self, url: PoolUrl, access: Access):
        self.url = url
        self._open: Callable[[], BulkConnection] = partial(BulkConnection, url, **vars(access))
        self.pool = open_pool(url, **vars(access))
        self._control = self._open()

    def reader(self) -> Side:
        """Open a session for reading."""
        return RedisSide(self._open, eager=True)

    def writer(self, *, durable: bool = False) -> Side:
        """Open a session for writing; how durable that is, is the server's own setting."""
        return RedisSide(self._open, eager=False)

    def why_no_source(self, *, delete: bool) -> str:
        """Refuse to remove from a replica, and nodes of a Redis Cluster."""
        return self.why_no_target() if delete else self._cluster()

    def why_no_target(self) -> str:
        """Refuse replicas and nodes of a Redis Cluster."""
        if not self.pool.describe().writable:
            return "it is a read-only replica; name the primary"
        return self._cluster()

    def room(self) -> Room:
        """Return what is left of ``maxmemory``, or else of the machine's memory."""
        info = parse_info(self._control.ask("INFO"))
        used = int(info.get("used_memory", 0))
        limit = int(info.get("maxmemory", 0))
        total = int(info.get("total_system_memory", 0))
        evicted = int(info.get("evicted_keys", 0))
        if limit:
            return Room(max(0, limit - used), f"maxmemory {format_bytes(limit)}", evicted)
        if total:
            return Room(max(0, total - used), "the machine's memory", evicted)
        return Room(None, "", evicted)

    def footprint_bytes(self, key: str, look: Look) -> int:
        """Return the memory that the allocator gives to both keys and both values."""
        name = len(key.encode("utf-8", "surrogateescape")) + 16
        return (
            jemalloc_bytes(look.value_bytes)
            + jemalloc_bytes(len(look.header))
            + 2 * (jemalloc_bytes(name) + _KEY_OVERHEAD_BYTES)
        )

    def why_unfit(self, key: str, look: Look) -> str:
        """Refuse values that Redis does not take."""
        return "Redis takes at most 512 MiB in a value" if look.value_bytes > 512 << 20 else ""

    def lock(self, lost: threading.Event) -> contextlib.AbstractContextManager[None]:
        """Hold the database."""
        return redis_lock(self._open, lost)

    def changes(self) -> RedisChanges | None:
        """Begin to watch the database."""
        return RedisChanges(self._open)

    def tidy(self) -> int:
        """Do nothing: the server drops what was not committed."""
        return 0

    def identity(self) -> str:
        """Return the server's own identity and the database."""
        info = parse_info(self._control.ask("INFO", "server"))
        return f"redis:{info.get('run_id')}/{self.url.database}"

    def keep(self) -> None:
        """Do nothing: nothing was made."""

    def close(self) -> None:
        """Close the connections."""
        self._control.close()
        self.pool.close()

    def _cluster(self) -> str:
        facts = self.pool.describe()
        if facts.details.get("cluster"):
            return "it is a node of a Redis Cluster, and halves of an entry may live on two nodes"
        return ""


class DirectoryEnd:
    """Entries in files: LMCache's, or AIBrix's.

    Args:
        url: of the pool.
        pool: that stands there.
        layout: how files are named.
        made: directories that were made for it, innermost first; see ``keep``.
    """

    keeps_expiry = False

    def __init__(self, url: PoolUrl, pool: Pool, layout: Layout, made: Sequence[Path] = ()):
        self.url, self.pool, self._layout = url, pool, layout
        self._made = made
        self._root = Path(url.path)

    def reader(self) -> Side:
        """Open a session for reading."""
        return DirectorySide(self._layout)

    def writer(self, *, durable: bool = False) -> Side:
        """Open a session for writing."""
        return DirectorySide(self._layout, durable=durable)

    def why_no_source(self, *, delete: bool) -> str:
        """Refuse to remove from a directory that can't be written."""
        return self.why_no_target() if delete else ""

    def why_no_target(self) -> str:
        """Refuse a directory that can't be written."""
        return "" if self.pool.describe().writable else "it can't be written"

    def room(self) -> Room:
        """Return what is left on the file system."""
        return Room(self.pool.describe().details["free_bytes"], "the disk")

    def footprint_bytes(self, key: str, look: Look) -> int:
        """Return the blocks that a file takes, and one for its name."""
        size = look.value_bytes + len(look.header)
        return (-(-size // _BLOCK_BYTES) + 1) * _BLOCK_BYTES

    def why_unfit(self, key: str, look: Look) -> str:
        """Refuse names that are too long or ambiguous, and headers that don't fit the value."""
        if self.url.scheme != "lmcache+file":
            return ""
        name = lmcache.file_name(key)
        if len(name.encode("utf-8", "surrogateescape")) > NAME_MAX_BYTES:
            return f"a file's name has at most {NAME_MAX_BYTES} bytes, and this key's is longer"
        if lmcache.key_of_file(name) != key or "\0" in name:
            return "its key can't be told again from the name of a file"
        header = lmcache.parse_header(look.header)
        if header is None:
            return "its header can't be read, and a file's has to be"
        if header.value_bytes != look.value_bytes:
            return f"its header says {header.value_bytes} bytes, the value has {look.value_bytes}"
        return ""

    @contextlib.contextmanager
    def lock(self, lost: threading.Event) -> Iterator[None]:
        """Hold the directory."""
        with directory_lock(self._root):
            yield

    def changes(self) -> RedisChanges | None:
        """Watch nothing: the stamps of files are compared at the end."""
        return None

    def tidy(self) -> int:
        """Clear away what a killed migration left."""
        from kvpool.migrate.directory_side import clear

        return clear(self._root)

    def identity(self) -> str:
        """Return device and inode."""
        status = self._root.stat()
        return f"directory:{status.st_dev}:{status.st_ino}"

    def keep(self) -> None:
        """Let the directories stay that were made for it."""
        self._made = ()

    def close(self) -> None:
        """Close the pool, and remove what was made for it if it is to go and is empty."""
        self.pool.close()
        _remove_empty(self._made)


def open_end(url: str, access: Access, *, create: bool = False) -> End:
    """Return one end of a migration, opened.

    Args:
        url: of the pool.
        access: how to get in.
        create: whether to make a directory that is missing. It goes with the end, unless that was
            told to ``keep`` it.

    Raises:
        UnsupportedError: entries of this kind of pool can't be moved; says why.
        KvPoolError: see ``kvpool.pool.open_pool``.
    """
    place = parse_pool_url(url)
    if place.scheme not in FAMILIES:
        raise UnsupportedError(
            "kv.migrate.kind",
            f"entries can't be moved in or out of {place}: "
            f"{_WHY_NOT.get(place.scheme, 'nothing is known of its format')}",
            hint=_INSTEAD.get(place.scheme, f"kinds that can: {', '.join(FAMILIES)}"),
            target=str(place),
        )
    if place.scheme == "lmcache+redis":
        return RedisEnd(place, access)
    # Relative paths are of no use in a journal.
    place = replace(place, path=str(Path(place.path).absolute()))
    root = Path(place.path)
    if place.scheme == "lmcache+file":
        layout = Layout(lambda key: root / lmcache.file_name(key), _file_header)
    else:
        layout = Layout(lambda key: root / aibrix.block_path(key), lambda start, size: 0)
    made = [path for path in (root, *root.parents) if create and not path.exists()]
    try:
        if made:
            with write_errors(root):
                root.mkdir(parents=True, exist_ok=True)
        return DirectoryEnd(place, open_pool(place), layout, made)
    except BaseException:
        _remove_empty(made)
        raise


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders, innermost first, as long as they are empty."""
    for path in folders:
        try:
            path.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return


def check_pair(source: End, target: End) -> None:
    """Refuse two ends between which nothing can be moved.

    Raises:
        KvPoolUsageError: both are the same pool.
        UnsupportedError: entries of one can't be told in the terms of the other.
    """
    if source.identity() == target.identity():
        raise KvPoolUsageError(
            "kv.migrate.same", f"{source.url} and {target.url} are the same pool"
        )
    kinds = (source.url.scheme, target.url.scheme)
    if len({FAMILIES[kind] for kind in kinds}) == 1:
        return
    raise UnsupportedError(
        "kv.migrate.formats",
        f"entries of {kinds[0]} can't become entries of {kinds[1]}: LMCache names a chunk of 256 "
        "tokens by a hash of its own chain (hash scheme), AIBrix a block of its own size by "
        "FarmHash (hash scheme, shape); AIBrix's names have no model, dtype or world size, "
        "LMCache's need all three",
        hint="engines have to fill the new pool; within LMCache, or within AIBrix, entries can "
        "be moved",
        target=str(target.url),
    )


def require_room(target: End, needed_bytes: int) -> Room:
    """Return a target's room if so much more fits.

    Raises:
        KvPoolError: it does not.
    """
    room = target.room()
    if room.free_bytes is not None and needed_bytes > room.free_bytes:
        raise KvPoolError(
            "kv.target.too_small",
            f"{target.url} has room for {format_bytes(room.free_bytes)} more ({room.limit}), and "
            f"what is to be copied takes {format_bytes(needed_bytes)}",
            hint="give it more room, or move a part: --model",
            target=str(target.url),
        )
    return room


@lru_cache(maxsize=4096)
def jemalloc_bytes(count: int) -> int:
    """Return what Redis's allocator gives for a string: four sizes for every power of two."""
    size = count + 10  # the string's own header and its final zero
    if size <= 128:
        return -(-size // 16) * 16
    step = 1 << ((size - 1).bit_length() - 3)
    return -(-size // step) * step


def _file_header(start: bytes, size: int) -> int | None:
    length = lmcache_file.header_bytes(start, size)
    header = lmcache.parse_header(start[:length])
    return None if header is None or header.value_bytes != size - length else length


_WHY_NOT: Final = {
    "lm": "LMCache's own server does not tell which entries it has, and is read only",
    "aibrix+rocksdb": "RocksDB itself puts the second of writing behind each block, and the engine "
    "tells from it when the block is too old; written anew, every block would be young again",
    "aibrix+redis": "it holds placement metadata only; the data can only be reached over RDMA",
    "mooncake": "its master moves segments itself: aibrixctl kv drain",
    "vineyard": "its objects name the node they live on; vineyard's own migrate moves them",
}
_INSTEAD: Final = {
    "aibrix+rocksdb": "stop the engine and copy the directory as it is, times of writing and all",
}
"""What helps where moving entries does not."""
