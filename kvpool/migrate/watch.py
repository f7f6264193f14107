"""What happens at the source while entries are copied, and what happened while nobody looked."""

import time
from typing import Final

from kvpool.lmcache import make_entry
from kvpool.migrate.changes import RedisChanges
from kvpool.migrate.ends import End
from kvpool.migrate.journal import OPEN, Fate, Journal
from kvpool.migrate.side import Look, Side
from kvpool.selection import Selection

_CHECK: Final = 256
"""Entries that are looked at together."""


class Watch:
    """Finds entries that changed at the source after they were copied, or are new there."""

    def __init__(self, source: End, target: End, journal: Journal):
        self._source, self._target, self._journal = source, target, journal
        self._changes: RedisChanges | None = source.changes()
        self._unsettled: set[str] = set()
        self._side: Side | None = None

    @property
    def blind(self) -> bool:
        """True where changes after an entry's copy can't be seen."""
        return self._changes is not None and not self._changes.watching

    def close(self) -> None:
        """Stop watching."""
        for open_one in (self._changes, self._side):
            if open_one is not None:
                open_one.close()

    def poll(self, selection: Selection) -> int:
        """Reopen what the server says was touched; return how many entries."""
        if self._changes is None:
            return 0
        # What a lane had in hand when it was touched is looked at again once it is settled.
        touched = {key for key in self._changes.take() if _is_selected(key, selection)}
        keys = [*(touched | self._unsettled)]
        self._unsettled = set()
        return sum(self._reopen(keys[at : at + _CHECK]) for at in range(0, len(keys), _CHECK))

    def compare(self) -> int:
        """Reopen copied entries whose source looks otherwise than it did; return how many."""
        reopened, after = 0, 0
        while rows := self._journal.copied(after, _CHECK):
            looks = self._look([key for _, key, _ in rows])
            changed = [
                number
                for (number, _, stamp), look in zip(rows, looks, strict=True)
                if look is not None and look.version != stamp
            ]
            self._journal.reopen(changed)
            reopened += len(changed)
            after = rows[-1][0]
        return reopened

    def find_lost(self) -> int:
        """Reopen copies that the target no longer has; return how many it lost for good.

        A server that was started anew came back empty, or evicted them. What was removed from
        the source is not to be had again.
        """
        lost, after = 0, 0
        side = self._target.reader()
        try:
            while rows := self._journal.arrived(after, _CHECK):
                looks = side.look([row.key for row in rows])
                side.leave()
                missing = [row for row, look in zip(rows, looks, strict=True) if look is None]
                self._journal.reopen([r.number for r in missing if r.fate != "moved"], ours=False)
                lost += sum(row.fate == "moved" for row in missing)
                after = rows[-1].number
        finally:
            side.close()
        return lost

    def find_new(self, selection: Selection) -> int:
        """Plan entries that were written since the source was listed; return how many.

        One that was moved, or had vanished, and is back, counts as written.
        """
        found = 0
        for batch in self._source.pool.scan():
            whole = [e for e in batch if e.state == "whole" and selection.holds(e, time.time())]
            known = self._journal.fates([entry.key for entry in whole])
            fresh = [entry for entry in whole if entry.key not in known]
            self._journal.add((e.key, e.bytes, "pending", "") for e in fresh)
            back = {fate: [n for n, was in known.values() if was == fate] for fate in _ABSENT}
            self._journal.reopen(back["moved"])
            self._journal.reopen(back["gone"], ours=False)
            found += len(fresh) + sum(map(len, back.values()))
        return found

    def _reopen(self, keys: list[str]) -> int:
        """Reopen those of some touched entries that are still there."""
        known = self._journal.fates(keys)
        looks = zip(keys, self._look(keys), strict=True)
        there = {key: look for key, look in looks if look is not None}
        self._journal.add(
            (key, look.value_bytes + len(look.header), "pending", "")
            for key, look in there.items()
            if key not in known
        )
        fates = {key: known[key] for key in there if key in known}
        unsettled = {key for key, (_, fate) in fates.items() if fate in OPEN}
        self._unsettled |= unsettled
        copied = [number for number, fate in fates.values() if fate in _COPIED]
        self._journal.reopen(copied)
        retried = [number for number, fate in fates.values() if fate in _RETRIED]
        self._journal.reopen(retried, ours=False)
        return len(there) - len(unsettled)

    def _look(self, keys: list[str]) -> list[Look | None]:
        if self._side is None:
            self._side = self._source.reader()
        looks = self._side.look(keys)
        self._side.leave()
        return looks


_COPIED: Final = ("copied", "same", "moved")
_ABSENT: Final[tuple[Fate, ...]] = ("moved", "gone")
_RETRIED: Final = ("gone", "kept")


def _is_selected(key: str, selection: Selection) -> bool:
    entry = make_entry(key, size=0, value_bytes=None, header=None, damage="")
    return entry.state == "whole" and selection.holds(entry, time.time())
