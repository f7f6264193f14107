"""LMCache's entries in a directory, as its ``fs://`` connector writes them: one file each.

A file is the header, then the data, written under a temporary name and renamed; its name is the
key with every ``/`` spelled ``-SEP-``. With ``save_chunk_meta: false`` LMCache leaves the header
out; what such a file holds can't be told.
"""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kvpool import directory, lmcache
from kvpool.entry import Entry, PoolFacts, Value
from kvpool.pool import BATCH, Closing, Depth, Removal, Verb
from kvpool.url import PoolUrl

_NO_EXPIRY = "LMCache's files carry no time at which they vanish"
_LENGTH_BYTES = 4


class LmcacheFilePool(Closing):
    """See ``kvpool.pool.Pool``."""

    def __init__(self, url: PoolUrl):
        """Open a directory. Raises KvPoolUsageError where there is none."""
        self.url = url
        self.root = directory.existing_directory(url)
        self.limits: Mapping[Verb, str] = {"expiry": _NO_EXPIRY}

    def describe(self) -> PoolFacts:
        """Return how full the disk is."""
        return directory.describe(self.root, "LMCache directory")

    def scan(self, *, depth: Depth = "quiet", batch: int = BATCH) -> Iterator[list[Entry]]:
        """Yield entries, temporary files and foreign files; headers are read at any depth."""
        found = (self._entry(name, facts) for name, facts in directory.walk(self.root))
        return directory.batches(found, batch)

    def stat(self, key: str) -> Entry | None:
        """Return one entry, or the file that stands under that name."""
        for name in (lmcache.file_name(key), key):
            facts = directory.look(self.root / name)
            if facts is not None:
                return self._entry(name, facts)
        return None

    def read(self, key: str) -> Value | None:
        """Return header and data of an entry."""
        path = self.path_of(key)
        if directory.look(path) is None:
            return None
        with directory.reading(path):
            whole = path.read_bytes()
        size = header_bytes(whole[: lmcache.MOST_HEADER_BYTES], len(whole))
        return Value(whole[:size], whole[size:])

    def write(self, key: str, value: Value, *, expires_s: float | None = None) -> None:
        """Write a file under a temporary name, then rename it; an expiry is left out."""
        directory.write_whole(self.path_of(key), (value.header, value.data))

    def delete(self, keys: Sequence[str]) -> int:
        """Remove the files of entries, and temporary files by their name."""
        return sum(directory.remove(self._named(key)) for key in keys)

    def remove_orphan(self, key: str, *, min_age_s: float, dry_run: bool = False) -> Removal:
        """Remove a temporary file; see ``kvpool.pool.RemovesOrphans``."""
        if not _is_temporary(key):
            return "changed"
        return directory.remove_stale(self.root / key, min_age_s, dry_run=dry_run)

    def path_of(self, key: str) -> Path:
        """Return where the entry of a key stands, or would."""
        return self.root / lmcache.file_name(key)

    def _named(self, name: str) -> Path:
        return self.root / name if _is_temporary(name) else self.path_of(name)

    def _entry(self, name: str, facts: os.stat_result) -> Entry:
        """Return what a file is, by its path from the root."""
        size, stored_s = facts.st_size, facts.st_mtime
        if _is_temporary(name):
            reason = "a temporary file, left by a writer that is still at work or has died"
            return Entry(name, "orphan", size, reason, stored_s=stored_s, has_header=False)
        is_file = stat.S_ISREG(facts.st_mode)
        if "/" in name or not name.endswith(lmcache.FILE_SUFFIX) or not is_file:
            return Entry(name, "foreign", size, _what_else(name), stored_s=stored_s)
        try:
            start = directory.read_start(self.root / name, lmcache.ONE_GROUP_BYTES)
            length = header_bytes(start, size)
            if length > len(start):
                start = directory.read_start(self.root / name, length)
        except OSError as error:
            reason = f"can't be read: {error.strerror}"
            return Entry(name, "undecodable", size, reason, stored_s=stored_s)
        header = lmcache.parse_header(start[:length])
        return lmcache.make_entry(
            lmcache.key_of_file(name),
            size=size,
            value_bytes=max(0, size - length) if header else None,
            header=header,
            damage="" if header else _damage(size),
            stored_s=stored_s,
        )


def header_bytes(start: bytes, size: int) -> int:
    """Return how long the header of a file is, from its first bytes and the file's size.

    It begins with the length of the data behind it, so the rest is header; where the two don't
    fit, as in a file that was cut short, it is taken to have one group of layers.
    """
    if len(start) >= lmcache.ONE_GROUP_BYTES:
        rest = size - int.from_bytes(start[:_LENGTH_BYTES], "little", signed=True)
        if lmcache.ONE_GROUP_BYTES < rest <= lmcache.MOST_HEADER_BYTES and (rest - 8) % 20 == 0:
            return rest
    return lmcache.ONE_GROUP_BYTES


def _what_else(name: str) -> str:
    if name.endswith(".pt") and "@" in name:
        return "a file of LMCache's local disk cache, whose name can't be turned back into a key"
    return "not a file of LMCache"


def _damage(size: int) -> str:
    if size < lmcache.ONE_GROUP_BYTES:
        return f"its {size} bytes are less than a header"
    return "it begins with no header: damaged, or written with save_chunk_meta: false"


def _is_temporary(name: str) -> bool:
    base = name.rpartition("/")[2]
    return base.endswith(lmcache.TEMPORARY_SUFFIX) or base.startswith(directory.OWN_PREFIX)
