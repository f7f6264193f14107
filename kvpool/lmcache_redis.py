"""LMCache's entries in Redis or Valkey: two string keys for each, data first, then the header.

A scan asks only for what leaves the store as it was: SCAN in batches, idle time and memory of each
key, and expiry where any key has one; Redis answers these without counting them as use. Headers are
read where the server can be told the same of reads (``CLIENT NO-TOUCH``, Redis 7.2), or where the
caller wants them all the same. Values are never read, and KEYS is never sent.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from kvpool import lmcache
from kvpool.entry import Entry, Header, PoolFacts, Value
from kvpool.errors import KvPoolError, UnsupportedError
from kvpool.pool import BATCH, Closing, Depth, Removal, Verb
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
_GETRANGE = opening(b"GETRANGE", more=3)
_WHOLE_HEADER = argument(b"0") + argument(b"%d" % lmcache.MOST_HEADER_BYTES)
_MISSING_MS = -2
"""Answer to PTTL and PEXPIRETIME for a key that isn't there; -1 is a key without expiry."""


class _Look(NamedTuple):
    """What the server says of the two keys of an entry; see ``kvpool.entry.Entry``."""

    idle_s: int | None
    expiry_ms: list[int | None]
    has_data: bool
    has_header: bool
    size: int
    value_bytes: int | None = None
    header: Header | None = None
    damage: str = ""


class LmcacheRedisPool(Closing):
    """See ``kvpool.pool.Pool``."""

    def __init__(self, url: PoolUrl, connection: Connection):
        """Look at the server behind a connection, which then belongs to the pool.

        Raises:
            UnsupportedError: it is a node of a Redis Cluster.
        """
        self.url = url
        self.limits: Mapping[Verb, str] = {}
        self._redis = connection
        quiet = connection.pipeline([command("CLIENT", "NO-TOUCH", "ON")], 1)[0]
        self.reads_are_quiet = not isinstance(quiet, RefusalError)
        info = parse_info(connection.call("INFO"))
        if info.get("cluster_enabled") == "1":
            raise UnsupportedError(
                "kv.redis.cluster",
                f"{url.place} is a node of a Redis Cluster, where the halves of an entry may be "
                "on different nodes",
                hint="pools of LMCache's redis:// are single servers; a cluster can't be looked at",
                target=str(url),
            )
        self._has_expiretime = int(str(info.get("redis_version", "0")).split(".")[0]) >= 7

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

    def remove_orphan(self, key: str, *, min_age_s: float, dry_run: bool = False) -> Removal:
        """Remove a lone half; see ``kvpool.pool.RemovesOrphans``.

        The server drops the removal where either key was written since they were looked at. A
        header without data can be of no writer at work: they write the data first.
        """
        name = _bytes(key)
        data, header = name + _DATA, name + _HEADER
        self._redis.call("WATCH", data, header)
        questions = (
            _OBJECT_IDLETIME + argument(data),
            _MEMORY_USAGE + argument(data),
            _MEMORY_USAGE + argument(header),
        )
        idle_s, data_bytes, header_bytes = self._redis.numbers(questions, 3)
        verdict: Removal = "removed"
        if (data_bytes is None) == (header_bytes is None):
            verdict = "changed"
        elif self._redis.call("TYPE", header if data_bytes is None else data) != "string":
            verdict = "foreign"
        elif data_bytes is not None and idle_s is None:
            verdict = "unknown_age"
        elif data_bytes is not None and idle_s is not None and idle_s < min_age_s:
            verdict = "young"
        if verdict != "removed" or dry_run:
            self._redis.call("UNWATCH")
            return verdict
        removal = (command("MULTI"), command("UNLINK", data, header), command("EXEC"))
        done = self._redis.pipeline(removal, 3)[-1]
        if isinstance(done, RefusalError):
            raise self._redis.refused(done)
        return "removed" if done and done[0] == 1 else "changed"

    def _entries(self, names: list[bytes], *, headers: bool) -> list[Entry]:
        """Return what stands behind some keys; each entry once, for its header or lone data."""
        stems: dict[bytes, None] = {}
        data: list[bytes] = []
        foreign: list[bytes] = []
        for name in names:
            if _is(name, _HEADER):
                stems[name[: -len(_HEADER)]] = None
            elif _is(name, _DATA):
                data.append(name[: -len(_DATA)])
            else:
                foreign.append(name)
        lone = [stem for stem in data if stem not in stems]
        return [
            *self._halves(list(stems), headers=headers),
            # Lone data has no header to read, and asking for its length may count as use, which
            # would hide for how long it has been alone.
            *self._halves(self._without_header(lone), headers=headers and self.reads_are_quiet),
            *self._foreign(foreign),
        ]

    def _without_header(self, stems: list[bytes]) -> list[bytes]:
        # Unlike EXISTS, this does not count for the server's hit rate.
        commands = (_MEMORY_USAGE + argument(stem + _HEADER) for stem in stems)
        sizes = self._redis.numbers(commands, len(stems))
        return [stem for stem, size in zip(stems, sizes, strict=True) if size is None]

    def _halves(self, stems: list[bytes], *, headers: bool) -> list[Entry]:
        """Return the entries of some keys without their suffix."""
        if not stems:
            return []
        looks = self._read(stems) if headers else self._weigh(stems)
        now_s = time.time()
        found = (
            lmcache.make_entry(
                stem.decode("utf-8", "surrogateescape"),
                size=look.size,
                value_bytes=look.value_bytes,
                header=look.header,
                damage=look.damage,
                has_data=look.has_data,
                has_header=look.has_header,
                accessed_s=None if look.idle_s is None else now_s - look.idle_s,
                expires_s=self._earliest(look.expiry_ms, now_s),
            )
            for stem, look in zip(stems, looks, strict=True)
            if look.has_data or look.has_header  # or it has gone since the server named it
        )
        return [_fully_named(entry) for entry in found]

    def _weigh(self, stems: list[bytes]) -> list["_Look"]:
        """Ask for what leaves idle times alone, and for expiry only where some key has one."""
        expiry = self._expiry_command() if self._some_key_expires() else b""
        commands = []
        for stem in stems:
            data, header = argument(stem + _DATA), argument(stem + _HEADER)
            commands += [_OBJECT_IDLETIME, data, _MEMORY_USAGE, data, _MEMORY_USAGE, header]
            commands += [expiry, data, expiry, header] if expiry else []
        width = 5 if expiry else 3
        answers = self._redis.numbers(commands, width * len(stems))
        rows = (answers[start : start + width] for start in range(0, len(answers), width))
        return [
            _Look(
                idle_s=idle_s,
                expiry_ms=expiry_ms,
                has_data=data_bytes is not None,
                has_header=header_bytes is not None,
                size=(data_bytes or 0) + (header_bytes or 0),
            )
            for idle_s, data_bytes, header_bytes, *expiry_ms in rows
        ]

    def _read(self, stems: list[bytes]) -> list["_Look"]:
        """Ask for exact lengths and read the headers."""
        expiry = self._expiry_command()
        commands, ranges = [], []
        for stem in stems:
            data, header = argument(stem + _DATA), argument(stem + _HEADER)
            # First the idle time, which reading would reset.
            commands += [_OBJECT_IDLETIME, data, expiry, data, expiry, header]
            commands += [_STRLEN, data, _STRLEN, header]
            ranges += [_GETRANGE, header, _WHOLE_HEADER]
        answers = self._redis.numbers(commands, 5 * len(stems))
        looks = []
        for index, raw in enumerate(self._redis.pipeline(ranges, len(stems))):
            if isinstance(raw, RefusalError) and raw.word != "WRONGTYPE":
                raise self._redis.refused(raw)
            idle_s, data_ms, header_ms, *sizes = answers[5 * index : 5 * index + 5]
            has_data, has_header = data_ms != _MISSING_MS, header_ms != _MISSING_MS
            decoded, damage = _decoded(raw, sizes) if has_header else (None, "")
            look = _Look(
                idle_s=idle_s,
                expiry_ms=[data_ms, header_ms],
                has_data=has_data,
                has_header=has_header,
                size=(sizes[0] or 0) + (sizes[1] or 0),
                value_bytes=sizes[0] if has_data else None,
                header=decoded,
                damage=damage,
            )
            looks.append(look)
        return looks

    def _expiry_command(self) -> bytes:
        return _PEXPIRETIME if self._has_expiretime else _PTTL

    def _some_key_expires(self) -> bool:
        """Tell whether any key of the database has an expiry, by the server's own count."""
        keyspace = parse_info(self._redis.call("INFO", "keyspace"))
        counts = keyspace.get(f"db{self.url.database}", "")
        return "expires=0" not in counts.split(",")

    def _earliest(self, expiry_ms: Sequence[int | None], now_s: float) -> float | None:
        """Return when the first half vanishes."""
        times = [ms for ms in expiry_ms if ms is not None and ms >= 0]
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
            reason = lmcache.other_kind(text)
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


def _fully_named(entry: Entry) -> Entry:
    """Return an entry as it is, but a foreign one under its key on the server."""
    if entry.state != "foreign":
        return entry
    suffix = lmcache.HEADER_SUFFIX if entry.has_header else lmcache.DATA_SUFFIX
    return replace(entry, key=entry.key + suffix)


def _is(name: bytes, suffix: bytes) -> bool:
    return name.endswith(suffix) and b"@" in name


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
