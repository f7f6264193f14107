"""AIBrix's blocks on a shared file system: ``ROOT/conn_id/ab/cd/<key in hexadecimal>``.

A file is the block as it is, written beside its name with ``.tmp`` and renamed.
"""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kvpool import aibrix, directory
from kvpool.entry import Entry, PoolFacts, Value
from kvpool.errors import KvPoolUsageError
from kvpool.pool import BATCH, Closing, Depth, Removal, Verb
from kvpool.url import PoolUrl

_LIMITS: dict[Verb, str] = {
    "expiry": "AIBrix's files carry no time at which they vanish",
    "headers": "AIBrix stores blocks without a header; model and dtype are not written anywhere",
}


class AibrixShfsPool(Closing):
    """See ``kvpool.pool.Pool``. Keys are ``conn_id/hex``; a temporary file's is its path."""

    def __init__(self, url: PoolUrl):
        """Open a root. Raises KvPoolUsageError where there is none, or one of its folders."""
        self.url = url
        self.root = directory.existing_directory(url)
        self.limits: Mapping[Verb, str] = _LIMITS
        if aibrix.parse_conn_id(self.root.name):
            raise KvPoolUsageError(
                "kv.directory",
                f"{self.root} holds the blocks of one conn_id; expected the folder above it",
                hint=f"write {url.scheme}:{self.root.parent}",
                target=str(url),
            )

    @property
    def conn_ids(self) -> tuple[str, ...]:
        """Return the names of the folders that blocks stand in."""
        with directory.reading(self.root):
            names = sorted(path.name for path in self.root.iterdir() if path.is_dir())
        return tuple(name for name in names if aibrix.parse_conn_id(name))

    def describe(self) -> PoolFacts:
        """Return how full the disk is."""
        return directory.describe(self.root, "AIBrix shared file system")

    def scan(self, *, depth: Depth = "quiet", batch: int = BATCH) -> Iterator[list[Entry]]:
        """Yield blocks, temporary files and foreign files."""
        found = (_entry(name, facts) for name, facts in directory.walk(self.root))
        return directory.batches(found, batch)

    def stat(self, key: str) -> Entry | None:
        """Return one block, or the file of that path."""
        for name in (aibrix.block_path(key), key):
            facts = directory.look(self.root / name)
            if facts is not None:
                return _entry(name, facts)
        return None

    def read(self, key: str) -> Value | None:
        """Return a block; its header is empty."""
        path = self.path_of(key)
        if directory.look(path) is None:
            return None
        with directory.reading(path):
            return Value(b"", path.read_bytes())

    def write(self, key: str, value: Value, *, expires_s: float | None = None) -> None:
        """Write a block under a temporary name, then rename it; an expiry is left out."""
        directory.write_whole(self.path_of(key), (value.data,))

    def delete(self, keys: Sequence[str]) -> int:
        """Remove blocks, and temporary files by their path."""
        return sum(directory.remove(self.path_of(key)) for key in keys)

    def remove_orphan(self, key: str, *, min_age_s: float, dry_run: bool = False) -> Removal:
        """Remove a temporary file; see ``kvpool.pool.RemovesOrphans``."""
        if not _is_temporary(key):
            return "changed"
        return directory.remove_stale(self.root / key, min_age_s, dry_run=dry_run)

    def path_of(self, key: str) -> Path:
        """Return where a block stands, or would; a temporary file's key is its path."""
        return self.root / (key if _is_temporary(key) else aibrix.block_path(key))


def _entry(name: str, facts: os.stat_result) -> Entry:
    """Return what a file is, by its path from the root."""
    size, stored_s = facts.st_size, facts.st_mtime
    conn_id, _, rest = name.partition("/")
    space = aibrix.parse_conn_id(conn_id)
    if _is_temporary(name):
        reason = "a temporary file, left by a writer that is still at work or has died"
        return Entry(name, "orphan", size, reason, namespace=conn_id, stored_s=stored_s)
    block = rest.rpartition("/")[2]
    if space is None or not rest or not stat.S_ISREG(facts.st_mode):
        return Entry(name, "foreign", size, "no file below a conn_id of AIBrix", stored_s=stored_s)
    if aibrix.block_path(f"{conn_id}/{block}") != name:
        reason = "not where AIBrix looks for a block"
        return Entry(name, "undecodable", size, reason, namespace=conn_id, stored_s=stored_s)
    return aibrix.make_entry(space, block, size, stored_s=stored_s)


def _is_temporary(name: str) -> bool:
    base = name.rpartition("/")[2]
    return base.endswith(".tmp") or base.startswith(directory.OWN_PREFIX)
