"""LMCache's entries in Redis or Valkey: two string keys for each, data first, then the header.

A scan asks only for what leaves the store as it was: SCAN in batches, TTL, idle time and memory of
each key, which Redis answers without counting it as use. Headers are read where the server can be
told the same of reads (``CLIENT NO-TOUCH``, Redis 7.2), or where the caller wants them all the
same. Values are never read, and KEYS is never sent.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from kvpool import lmcache
from kvpool.entry import Entry, Header, PoolFacts, Value
from kvpool.errors import KvPoolError
from kvpool.pool import BATCH, Depth, Verb
from kvpool.redis_facts import describe, parse_info
from kvpool.redis_wire import Connection, RefusalError, argument, command, opening
from kvpool.url import PoolUrl

_HEADER = lmcache.HEADER_SUFFIX.encode()
_DATA = lmcache.DATA_SUFFIX.encode()
_OBJECT_IDLETIME = opening(b"OBJECT", b"IDLETIME", more=1)
_PEXPIRETIME = opening(b"PEXPIRETIME", more=1)
_PTTL = opening(b"PTTL", more=1)
_STRLEN = opening(b"STRLEN", more=1)
_MEMORY_USAGE = opening(b"MEMORY", b"USAGE", more=1)
_EXISTS = opening(b"EXISTS", more=1)
_GETRANGE = opening(b"GETRANGE", more=3)
_WHOLE_HEADER = argument(b"0") + argument(b"%d" % lmcache.MOST_HEADER_BYTES)
_MISSING_MS = -2
"""Answer to PTTL and PEXPIRETIME for a key that isn't there; -1 is a key without expiry."""


class LmcacheRedisPool:
    """See ``kvpool.pool.Pool``."""

    def __init__(self, url: PoolUrl, connection: Connection):
        """Look at the server behind a connection, which then belongs to the pool."""
        self.url = url
        self.limits: Mapping[Verb, str] = {}
        self._redis = connection
        quiet = connection.pipeline([command("CLIENT", "NO-TOUCH", "ON")], 1)[0]
        self.reads_are_quiet = not isinstance(quiet, RefusalError)
        info = parse_info(connection.call("INFO", "server"))
        self._has_expiretime = int(str(info.get("redis_version", "0")).split(".")[0]) >= 7

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()

    def describe(self) -> PoolFacts:
        """Return version, memory, eviction and hit rate of the server."""
        return describe(self._redis)

    def scan(self, *, depth: Depth = "quiet", batch: int = BATCH) -> Iterator[list[Entry]]:
        """Yield entries, orphans and foreign keys."""
        headers = depth == "headers" or self.reads_are_quiet
        cursor = b"0"
        while True:
            # Two keys make an entry, most often in different places of the table.
            cursor, names = self._redis.call("SCAN", cursor, "COUNT", 2 * batch)
            entries = self._entries(list(dict.fromkeys(names)), headers=headers)
            if entries:
                yield entries
            if cursor == b"0":
                return

    def stat(self, key: str) -> Entry | None:
        """Return one entry, or one orphaned half."""
        name = _bytes(key)
        for suffix in (_HEADER, _DATA):
            found = self._entries([name + suffix], headers=True)
            if found:
                return found[0]
        found = self._entries([name], headers=True)
        return found[0] if found else None

    def read(self, key: str) -> Value | None:
        """Return header and data of an entry, both of the same moment."""
        name = _bytes(key)
        header, data = self._redis.call("MGET", name + _HEADER, name + _DATA)
        return None if header is None or data is None else Value(header, data)

    def write(self, key: str, value: Value, *, expires_s: float | None = None) -> None:
        """Store both halves in one transaction, the data first."""
        name = _bytes(key)
        until = () if expires_s is None else ("PXAT", round(expires_s * 1000))
        commands = [
            command("MULTI"),
            command("SET", name + _DATA, value.data, *until),
            command("SET", name + _HEADER, value.header, *until),
            command("EXEC"),
        ]
        answers = self._redis.pipeline(commands, len(commands))
        done = answers[-1] if isinstance(answers[-1], list) else []
        for answer in (*answers[:-1], *done, answers[-1]):
            if isinstance(answer, RefusalError):
                raise self._redis.refused(answer)

    def delete(self, keys: Sequence[str]) -> int:
        """Remove both halves of each; a foreign key's name is left alone."""
        commands = [command("UNLINK", _bytes(key) + _HEADER, _bytes(key) + _DATA) for key in keys]
        removed = 0
        for answer in self._redis.pipeline(commands, len(commands)):
            if isinstance(answer, RefusalError):
                raise self._redis.refused(answer)
            removed += answer > 0
        return removed

    def _entries(self, names: list[bytes], *, headers: bool) -> list[Entry]:
        """Return what stands behind some keys; each entry once, for its header or lone data."""
        stems = dict.fromkeys(name[: -len(_HEADER)] for name in names if _is(name, _HEADER))
        lone = [
            name[: -len(_DATA)]
            for name in names
            if _is(name, _DATA) and name[: -len(_DATA)] not in stems
        ]
        foreign = [name for name in names if not (_is(name, _HEADER) or _is(name, _DATA))]
        return [
            *self._halves(list(stems), headers=headers),
            *self._halves(self._without_header(lone), headers=headers),
            *self._foreign(foreign),
        ]

    def _without_header(self, stems: list[bytes]) -> list[bytes]:
        commands = (_EXISTS + argument(stem + _HEADER) for stem in stems)
        answers = self._redis.numbers(commands, len(stems))
        return [stem for stem, there in zip(stems, answers, strict=True) if not there]

    def _halves(self, stems: list[bytes], *, headers: bool) -> list[Entry]:
        """Return the entries of some keys without their suffix."""
        if not stems:
            return []
        expiry = _PEXPIRETIME if self._has_expiretime else _PTTL
        size = _STRLEN if headers else _MEMORY_USAGE
        commands, ranges = [], []
        for stem in stems:
            data, header = argument(stem + _DATA), argument(stem + _HEADER)
            # First the idle time, which reading would reset.
            commands += [_OBJECT_IDLETIME, data, expiry, data, expiry, header]
            commands += [size, data, size, header]
            ranges += [_GETRANGE, header, _WHOLE_HEADER]
        answers = self._redis.numbers(commands, 5 * len(stems))
        raw = self._redis.pipeline(ranges, len(stems)) if headers else [None] * len(stems)
        now_s = time.time()
        found = []
        for index, stem in enumerate(stems):
            idle_s, data_ms, header_ms, *sizes = answers[5 * index : 5 * index + 5]
            has_data, has_header = _is_there(data_ms), _is_there(header_ms)
            if not has_data and not has_header:
                continue  # gone since the server named it
            decoded, damage = _decoded(raw[index], sizes) if headers and has_header else (None, "")
            entry = lmcache.make_entry(
                stem.decode("utf-8", "surrogateescape"),
                size=sum(size or 0 for size in sizes),
                value_bytes=sizes[0] if headers and has_data else None,
                header=decoded,
                damage=damage,
                has_data=has_data,
                has_header=has_header,
                accessed_s=None if idle_s is None else now_s - idle_s,
                expires_s=self._earliest(data_ms, header_ms, now_s),
            )
            found.append(entry)
        return found

    def _earliest(self, data_ms: int | None, header_ms: int | None, now_s: float) -> float | None:
        """Return when the first half vanishes."""
        times = [ms for ms in (data_ms, header_ms) if ms is not None and ms >= 0]
        if not times:
            return None
        return min(times) / 1000 + (0 if self._has_expiretime else now_s)

    def _foreign(self, names: list[bytes]) -> list[Entry]:
        commands = (_MEMORY_USAGE + argument(name) for name in names)
        entries = []
        for name, size in zip(names, self._redis.numbers(commands, len(names)), strict=True):
            if size is None:
                continue  # gone since the server named it
            text = name.decode("utf-8", "surrogateescape")
            reason = "not a key of LMCache"
            if lmcache.parse_key(text):
                reason = "a value without header, as LMCache's resp:// connector stores it"
            entries.append(Entry(text, "foreign", size, reason, has_header=False))
        return entries


def _decoded(raw: Any, sizes: list[int | None]) -> tuple[Header | None, str]:
    """Return the header, and what is wrong where it can't be read."""
    if None in sizes or not isinstance(raw, bytes):
        return None, "a half of it is no string"
    header = lmcache.parse_header(raw)
    return header, "" if header else f"its {sizes[1]} bytes of metadata are no header of LMCache"


def _is(name: bytes, suffix: bytes) -> bool:
    return name.endswith(suffix) and len(name) > len(suffix) and b"@" in name


def _is_there(ms: int | None) -> bool:
    return ms is not None and ms != _MISSING_MS


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def open_lmcache_redis(url: PoolUrl, **options: Any) -> LmcacheRedisPool:
    """Connect to a server; see ``kvpool.pool.open_pool``."""
    connection = Connection(url, **options)
    try:
        return LmcacheRedisPool(url, connection)
    except KvPoolError:
        connection.close()
        raise
