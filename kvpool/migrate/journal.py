"""The record of a migration: what was planned, and what became of every entry.

An SQLite file, because a pool has more entries than memory should hold, and any of them may have
to be copied again. Every step is committed before the next begins; write-ahead logging keeps the
file whole when the process is killed.
"""

import contextlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from accelerators.documents import timestamp, write_errors
from kvpool.errors import KvPoolError, KvPoolUsageError

VERSION: Final = 1
Fate = Literal[
    "pending", "writing", "stale", "copied", "same", "moved", "kept", "gone", "changing", "unfit"
]
"""What became of an entry. ``pending``: nothing yet. ``writing``: its copy was begun; whatever
stands in the target since may be ours. ``stale``: copied, and changed at the source since.
``copied``, ``moved`` (and removed from the source), ``same``: the target had it already. ``kept``:
the target has another under this key, which was left. ``gone``: vanished from the source first.
``changing``: changed again and again while it was copied. ``unfit``: the target can't hold it."""
OPEN: Final[tuple[Fate, ...]] = ("pending", "writing", "stale")
_OPEN_SQL: Final = "('pending', 'writing', 'stale')"

_SCHEMA: Final = f"""
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE entries (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    bytes INTEGER NOT NULL,
    fate TEXT NOT NULL,
    later INTEGER NOT NULL,
    stamp TEXT NOT NULL DEFAULT '',
    note TEXT NOT NULL DEFAULT ''
);
CREATE INDEX open_entries ON entries (later, id) WHERE fate IN {_OPEN_SQL};
"""


class Item(NamedTuple):
    """An entry that waits to be copied.

    Attributes:
        number: its place in the journal.
        key: in both pools.
        bytes: of value and header, as planned.
        ours: whether what stands under its key in the target may be an earlier copy of it.
    """

    number: int
    key: str
    bytes: int
    ours: bool


class Arrived(NamedTuple):
    """An entry that the target had when it was settled."""

    number: int
    key: str
    fate: Fate


class Settled(NamedTuple):
    """What became of an item; ``stamp`` tells its version at the source."""

    number: int
    fate: Fate
    stamp: str = ""
    note: str = ""


class Journal:
    """An open journal; a context manager. Safe to use from several threads.

    Attributes:
        path: of the file.
        resumed: whether it holds the plan of an earlier run.
    """

    def __init__(self, path: str | os.PathLike[str], config: dict[str, Any], *, resume: bool):
        """Open a journal, or begin one.

        A finished journal, and one whose plan was never finished, are begun anew: there is
        nothing in them to lose.

        Args:
            path: of the file; its folder is made.
            config: what the plan depends on.
            resume: continue what the journal holds.

        Raises:
            KvPoolUsageError: it holds an unfinished run and ``resume`` is False, or there is none
                to resume, or one of another configuration, or the file is damaged.
            KvPoolError: another process has it open.
            ToolError: it can't be written.
        """
        self.path = Path(path)
        self._lock = threading.Lock()
        existed = self.path.exists()
        if resume and not existed:
            raise KvPoolUsageError(
                "kv.journal.missing",
                f"there is nothing to resume: no journal at {self.path}",
                hint="name the journal with --journal, or leave out --resume",
                target=str(self.path),
            )
        with write_errors(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._errors():
            self._database = sqlite3.connect(self.path, timeout=0, check_same_thread=False)
        try:
            with self._errors():
                self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
                self._database.execute("PRAGMA journal_mode = WAL")
                self._database.execute("PRAGMA synchronous = NORMAL")
                self._database.execute("PRAGMA cache_size = -8192")
                self._database.execute("BEGIN IMMEDIATE")
                self._database.commit()
                self.resumed = self._start(config, resume)
        except BaseException:
            self._database.close()
            raise

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def add(self, entries: Iterable[tuple[str, int, Fate, str]], *, later: bool = True) -> None:
        """Plan entries: key, bytes, fate, note. One that is planned already stays as it is.

        Args:
            entries: to add.
            later: after those that were added with False.
        """
        rows = [(_blob(key), size, fate, note, later) for key, size, fate, note in entries]
        with self._step() as database:
            database.executemany(
                "INSERT OR IGNORE INTO entries (key, bytes, fate, note, later) "
                "VALUES (?, ?, ?, ?, ?)",
                rows,
            )

    def note(self, name: str, value: Any) -> None:
        """Keep a fact about the migration."""
        with self._step() as database:
            database.execute(
                "INSERT OR REPLACE INTO about VALUES (?, ?)", (name, json.dumps(value))
            )

    def noted(self, name: str) -> Any:
        """Return a fact that was noted; None without."""
        with self._step() as database:
            row = database.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def open_items(self, after: tuple[int, int], limit: int) -> list[tuple[int, Item]]:
        """Return up to ``limit`` open items behind a position, each with its ``later``."""
        with self._step() as database:
            rows = database.execute(
                "SELECT later, id, key, bytes, fate FROM entries "
                f"WHERE fate IN {_OPEN_SQL} AND (later, id) > (?, ?) "
                "ORDER BY later, id LIMIT ?",
                (*after, limit),
            ).fetchall()
        return [
            (later, Item(number, _text(key), size, fate != "pending"))
            for later, number, key, size, fate in rows
        ]

    def begin(self, numbers: Sequence[int], settled: Iterable[Settled] = ()) -> None:
        """Note that items are about to be written to the target, and what became of others."""
        with self._step() as database:
            _settle(database, settled)
            which, values = _those(numbers)
            database.execute(f"UPDATE entries SET fate = 'writing' WHERE {which}", values)

    def settle(self, settled: Iterable[Settled]) -> None:
        """Note what became of items."""
        with self._step() as database:
            _settle(database, settled)

    def copied(self, after: int, limit: int) -> list[tuple[int, str, str]]:
        """Return number, key and stamp of entries whose copy stands in the target."""
        with self._step() as database:
            rows = database.execute(
                "SELECT id, key, stamp FROM entries WHERE fate IN ('copied', 'same') AND id > ? "
                "ORDER BY id LIMIT ?",
                (after, limit),
            ).fetchall()
        return [(number, _text(key), stamp) for number, key, stamp in rows]

    def arrived(self, after: int, limit: int) -> list[Arrived]:
        """Return entries that the target had when they were settled."""
        with self._step() as database:
            rows = database.execute(
                "SELECT id, key, fate FROM entries WHERE fate IN ('copied', 'same', 'moved') "
                "AND id > ? ORDER BY id LIMIT ?",
                (after, limit),
            ).fetchall()
        return [Arrived(number, _text(key), fate) for number, key, fate in rows]

    def reopen(self, numbers: Sequence[int], *, ours: bool = True) -> None:
        """Have entries copied again; ``ours``: what the target has under their key is our copy."""
        with self._step() as database:
            which, values = _those(numbers)
            fate = "stale" if ours else "pending"
            database.execute(f"UPDATE entries SET fate = ? WHERE {which}", (fate, *values))

    def reopen_copied(self) -> None:
        """Have all that was copied, and still stands in the source, compared again."""
        with self._step() as database:
            database.execute("UPDATE entries SET fate = 'stale' WHERE fate IN ('copied', 'same')")

    def give_up(self) -> None:
        """Settle what is open as changing too often."""
        with self._step() as database:
            database.execute(f"UPDATE entries SET fate = 'changing' WHERE fate IN {_OPEN_SQL}")

    def fates(self, keys: Sequence[str]) -> dict[str, tuple[int, Fate]]:
        """Return number and fate of those of the keys that are in the journal."""
        found: dict[str, tuple[int, Fate]] = {}
        with self._step() as database:
            for key in keys:
                row = database.execute(
                    "SELECT id, fate FROM entries WHERE key = ?", (_blob(key),)
                ).fetchone()
                if row:
                    found[key] = row
        return found

    def totals(self) -> dict[Fate, tuple[int, int]]:
        """Return entries and bytes of every fate that occurs."""
        with self._step() as database:
            rows = database.execute(
                "SELECT fate, COUNT(*), SUM(bytes) FROM entries GROUP BY fate"
            ).fetchall()
        return {fate: (count, size) for fate, count, size in rows}

    def notes(self, fate: Fate, limit: int) -> list[tuple[str, str]]:
        """Return the first keys of a fate, each with its note."""
        with self._step() as database:
            rows = database.execute(
                "SELECT key, note FROM entries WHERE fate = ? ORDER BY id LIMIT ?", (fate, limit)
            ).fetchall()
        return [(_text(key), note) for key, note in rows]

    @contextlib.contextmanager
    def _step(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._errors(), self._database:
            yield self._database

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise self._operational(error) from error
        except sqlite3.DatabaseError as error:
            raise self._damaged(str(error)) from error

    def _operational(self, error: sqlite3.OperationalError) -> KvPoolError:
        text = str(error)
        if "locked" in text:
            return KvPoolError(
                "kv.journal.busy",
                f"another migration is writing {self.path}",
                hint="wait for it, or stop it with SIGINT; --resume then continues",
                target=str(self.path),
            )
        code = "file.disk_full" if "full" in text else "file.unwritable"
        return KvPoolError(
            code, f"cannot write the journal {self.path}: {text}", target=str(self.path)
        )

    def _damaged(self, why: str) -> KvPoolUsageError:
        return KvPoolUsageError(
            "kv.journal.damaged",
            f"{self.path} is no journal of a migration, or damaged: {why}",
            hint="start anew with another --journal and without --resume: entries that reached "
            "the target are recognised there and not copied again",
            target=str(self.path),
        )

    def _start(self, config: dict[str, Any], resume: bool) -> bool:
        """Check what the file holds; return whether there is something to continue."""
        tables = {
            row[0] for row in self._database.execute("SELECT name FROM sqlite_master").fetchall()
        }
        if not tables:
            self._create(config)
            return False
        if not {"about", "entries"} <= tables:
            raise self._damaged("it holds other tables")
        verdict = self._database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise self._damaged(verdict)
        about = {name: json.loads(v) for name, v in self._database.execute("SELECT * FROM about")}
        if about.get("version") != VERSION:
            raise self._damaged(f"version {about.get('version')}; expected {VERSION}")
        if not resume:
            self._refuse_unfinished(about)
            self._database.executescript("DROP TABLE entries; DROP TABLE about;")
            self._create(config)
            return False
        self._compare(about["config"], config)
        if not about.get("planned"):
            self._database.executescript("DROP TABLE entries; DROP TABLE about;")
            self._create(config)
            return False
        return True

    def _create(self, config: dict[str, Any]) -> None:
        self._database.executescript(f"BEGIN;{_SCHEMA}")
        facts = {"version": VERSION, "config": config, "created": timestamp(), "planned": False}
        self._database.executemany(
            "INSERT INTO about VALUES (?, ?)",
            [(name, json.dumps(value)) for name, value in facts.items()],
        )
        self._database.commit()

    def _refuse_unfinished(self, about: dict[str, Any]) -> None:
        if about.get("planned") and not about.get("finished"):
            raise KvPoolUsageError(
                "kv.journal.exists",
                f"{self.path} holds a migration that was cut short",
                hint="--resume continues it; to start anew, name another --journal or remove it",
                target=str(self.path),
            )

    def _compare(self, before: dict[str, Any], now: dict[str, Any]) -> None:
        changed = [
            f"{name}: {json.dumps(before.get(name))} then, {json.dumps(now.get(name))} now"
            for name in sorted(before.keys() | now.keys())
            if before.get(name) != now.get(name)
        ]
        if changed:
            raise KvPoolUsageError(
                "kv.journal.config",
                f"{self.path} is of another migration: {'; '.join(changed)}",
                hint="resume with the same pools and filters, or name another --journal",
                target=str(self.path),
            )


def _settle(database: sqlite3.Connection, settled: Iterable[Settled]) -> None:
    # Most of a batch fares alike, and one statement for all is much cheaper than one for each.
    alike: dict[tuple[Fate, str, str], list[int]] = {}
    for number, fate, stamp, note in settled:
        alike.setdefault((fate, stamp, note), []).append(number)
    for what, numbers in alike.items():
        which, values = _those(numbers)
        database.execute(
            f"UPDATE entries SET fate = ?, stamp = ?, note = ? WHERE {which}", (*what, *values)
        )


def _those(numbers: Sequence[int]) -> tuple[str, tuple[int, ...]]:
    """Return a condition for entries of these numbers, and its values.

    A batch most often is a range, for which SQLite has the statement prepared.
    """
    if numbers and numbers[-1] - numbers[0] == len(numbers) - 1 and sorted(numbers) == [*numbers]:
        return "id BETWEEN ? AND ?", (numbers[0], numbers[-1])
    return f"id IN ({','.join(map(str, numbers))})", ()


def _blob(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def _text(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")
