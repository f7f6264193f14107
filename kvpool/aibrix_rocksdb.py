"""AIBrix's blocks in RocksDB: one database for each ``conn_id``, blocks under their raw key.

AIBrix opens its databases with a time to live, for which RocksDB puts the second of writing behind
every value; how long that is stands nowhere in the database. Databases are opened read-only, which
works beside a running engine; only writing and removing take the lock.
"""

import contextlib
import shutil
import struct
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvpool import aibrix, directory
from kvpool.entry import Entry, PoolFacts, Value
from kvpool.errors import KvPoolError, KvPoolUsageError
from kvpool.pool import BATCH, Closing, Depth, Verb
from kvpool.url import PoolUrl

if TYPE_CHECKING:
    from rocksdict import Rdict

_LIMITS: dict[Verb, str] = {
    "expiry": "the reading engine's AIBRIX_KV_CACHE_OL_ROCKSDB_TTL_S decides when blocks vanish",
    "headers": "AIBrix stores blocks without a header; model and dtype are not written anywhere",
}
_WRITTEN = struct.Struct("<i")
"""The second of writing, since the epoch, behind each value."""


class AibrixRocksdbPool(Closing):
    """See ``kvpool.pool.Pool``. Keys are ``conn_id/hex``.

    Blocks that other processes write after the start of a scan are not seen until the pool is
    opened again.
    """

    def __init__(self, url: PoolUrl):
        """Find the databases: the path itself, or its subfolders.

        Raises:
            KvPoolUsageError: there is no such folder, or no database in it.
            KvPoolError: the package that reads RocksDB is not installed.
        """
        self.url = url
        self.limits: Mapping[Verb, str] = _LIMITS
        self._rocksdict = _import()
        root = directory.existing_directory(url)
        self._root = root.parent if _is_database(root) else root
        found = [root] if _is_database(root) else sorted(filter(_is_database, root.iterdir()))
        self._paths = {path.name: path for path in found}
        if not found:
            raise KvPoolUsageError(
                "kv.rocksdb.none",
                f"{root} is no RocksDB database, and there is none in it",
                hint="AIBRIX_KV_CACHE_OL_ROCKSDB_ROOT of the engine names the folder",
                target=str(url),
            )
        self._readers: dict[str, Rdict] = {}
        self._writers: dict[str, Rdict] = {}
        self._log_folder = tempfile.mkdtemp(prefix="aibrixctl-rocksdb-")

    def close(self) -> None:
        """Close the databases."""
        for database in (*self._readers.values(), *self._writers.values()):
            database.close()
        self._readers.clear()
        self._writers.clear()
        shutil.rmtree(self._log_folder, ignore_errors=True)

    @property
    def conn_ids(self) -> tuple[str, ...]:
        """Return the names of the databases."""
        return tuple(self._paths)

    def describe(self) -> PoolFacts:
        """Return how full the disk is, and RocksDB's own estimates."""
        disk = directory.describe(self._root, "RocksDB")
        sizes = [file["size"] for name in self._paths for file in self._reader(name).live_files()]
        keys = [
            self._reader(name).property_int_value("rocksdb.estimate-num-keys") or 0
            for name in self._paths
        ]
        own = {
            "databases": len(self._paths),
            "sst_bytes": sum(sizes),
            "estimated_keys": sum(keys),
        }
        return replace(disk, details={**disk.details, **own})

    def scan(self, *, depth: Depth = "quiet", batch: int = BATCH) -> Iterator[list[Entry]]:
        """Yield blocks. RocksDB keeps values beside their keys, so both are read from the disk."""
        return directory.batches(self._all(), batch)

    def stat(self, key: str) -> Entry | None:
        """Return one block."""
        conn_id, block = _split(key)
        stored = self._stored(conn_id, block)
        return None if stored is None else _entry(conn_id, block, stored)

    def read(self, key: str) -> Value | None:
        """Return a block; its header is empty."""
        stored = self._stored(*_split(key))
        return None if stored is None else Value(b"", stored[: -_WRITTEN.size])

    def write(self, key: str, value: Value, *, expires_s: float | None = None) -> None:
        """Store a block as written now."""
        conn_id, block = _split(key)
        if aibrix.parse_conn_id(conn_id) is None or block is None:
            raise KvPoolUsageError("kv.key", f"{key!r} is no CONN_ID/HEX", target=key)
        with _failures(self._root / conn_id):
            self._writer(conn_id).put(block, value.data + _WRITTEN.pack(int(time.time())))

    def delete(self, keys: Sequence[str]) -> int:
        """Remove blocks.

        Raises:
            KvPoolError: an engine has the database open.
        """
        removed = 0
        for key in keys:
            conn_id, block = _split(key)
            if conn_id not in self._paths or block is None:
                continue
            with _failures(self._paths[conn_id]):
                writer = self._writer(conn_id)
                removed += writer.get(block) is not None
                writer.delete(block)
        return removed

    def _all(self) -> Iterable[Entry]:
        for conn_id in self._paths:
            reader = self._reader(conn_id)
            with _failures(self._paths[conn_id]):
                for block, stored in reader.items():
                    yield _entry(conn_id, block, stored)

    def _stored(self, conn_id: str, block: bytes | None) -> bytes | None:
        if conn_id not in self._paths or block is None:
            return None
        with _failures(self._paths[conn_id]):
            stored: bytes | None = self._reader(conn_id).get(block)
        return stored

    def _reader(self, conn_id: str) -> "Rdict":
        if conn_id in self._writers:
            return self._writers[conn_id]
        if conn_id not in self._readers:
            access = self._rocksdict.AccessType.read_only()
            self._readers[conn_id] = self._open(self._paths[conn_id], access)
        return self._readers[conn_id]

    def _writer(self, conn_id: str) -> "Rdict":
        if conn_id not in self._writers:
            path = self._paths.setdefault(conn_id, self._root / conn_id)
            # A reader stays open beside it, for a scan may be under way.
            self._writers[conn_id] = self._open(path, self._rocksdict.AccessType.read_write())
        return self._writers[conn_id]

    def _open(self, path: Path, access: Any) -> "Rdict":
        options = self._rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_wal_dir(str(path / "wal"))
        options.set_db_log_dir(self._log_folder)
        with _failures(path):
            database: Rdict = self._rocksdict.Rdict(str(path), options, access_type=access)
        return database


@contextlib.contextmanager
def _failures(path: Path) -> Iterator[None]:
    """Turn RocksDB's errors, which are plain exceptions, into ones that say what to do."""
    try:
        yield
    except KvPoolError:
        raise
    except Exception as error:
        locked = "lock" in str(error).lower()
        raise KvPoolError(
            "kv.rocksdb.locked" if locked else "kv.rocksdb.failed",
            f"{path}: {error}",
            hint="an engine has it open; stop the engine to change the database" if locked else "",
            target=str(path),
        ) from error


def _import() -> Any:
    try:
        import rocksdict
    except ImportError as error:
        raise KvPoolError(
            "kv.rocksdb.package",
            "reading RocksDB takes the package rocksdict, which is not installed",
            hint="pip install 'aibrixctl[rocksdb]'",
        ) from error
    return rocksdict


def _is_database(path: Path) -> bool:
    return (path / "CURRENT").is_file()


def _split(key: str) -> tuple[str, bytes | None]:
    conn_id, _, block = key.rpartition("/")
    return conn_id, bytes.fromhex(block) if aibrix.is_block_key(block) else None


def _entry(conn_id: str, block: Any, stored: bytes) -> Entry:
    """Return the entry of a stored value, which ends with the second of its writing."""
    size = len(stored) - _WRITTEN.size
    space = aibrix.parse_conn_id(conn_id)
    name = block.hex() if isinstance(block, bytes) else str(block)
    if space is None or size < 0:
        reason = "too short for a block" if space else "not in a database that AIBrix names"
        return Entry(f"{conn_id}/{name}", "foreign", len(stored), reason)
    return aibrix.make_entry(
        space, name, size, stored_s=float(_WRITTEN.unpack_from(stored, size)[0])
    )
