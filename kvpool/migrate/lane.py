"""Copy a batch of entries from one pool to the other: look, copy, check, remove, note.

The order is what keeps the promises: what is about to be written is noted first; an entry is
removed from the source only after its copy was read back and only if nobody touched it since it
was looked at; what became of it is noted last. Killed between any two of these, the next run
finds either the journal or the target telling it what was done.
"""

import ctypes
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from kvpool.errors import KvPoolError
from kvpool.migrate.journal import Fate, Item, Journal, Settled
from kvpool.migrate.pace import Pace
from kvpool.migrate.side import BATCH_BYTES, BUFFER_BYTES, Look, Piece, Side
from kvpool.migrate.wire import OutOfStepError

Verify = Literal["full", "sample", "none"]
OnConflict = Literal["fail", "skip", "overwrite"]

SAMPLE_ONE_IN: Final = 16
"""Batches, of which one is read back; every lane begins with it."""
_TRIES: Final = 4


class ConflictError(KvPoolError):
    """The target holds something else under a key, and the caller wants to hear of it."""


@dataclass(frozen=True)
class Rules:
    """What to do with each entry.

    Attributes:
        verify: which copies to read back and compare.
        on_conflict: what to do about another entry under the same key in the target.
        delete_source: remove entries whose copy was read back.
        why_unfit: tells why the target can't hold an entry, given its key and look; or "".
    """

    verify: Verify
    on_conflict: OnConflict
    delete_source: bool
    why_unfit: Callable[[str, Look], str]


@dataclass
class Counts:
    """What all lanes together have done, in bytes of value and header; guarded by ``lock``."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    settled_entries: int = 0
    settled_bytes: int = 0
    written_entries: int = 0
    written_bytes: int = 0
    verified_entries: int = 0
    recopied_entries: int = 0


class _Seen(NamedTuple):
    """An item with what both pools have under its key."""

    item: Item
    here: Look
    there: Look | None


class Lane:
    """One pair of sessions that copies batches; every thread has its own.

    Args:
        source, target: the sessions.
        journal: where the fate of every entry is noted.
        rules: what to do with each.
        counts: what is shown meanwhile.
        pace: the limit on the rate.
        stop: ends waiting for the pace.
        at: called with the name of each step that was just taken; tests let it raise.
    """

    def __init__(
        self,
        source: Side,
        target: Side,
        journal: Journal,
        rules: Rules,
        counts: Counts,
        pace: Pace,
        stop: threading.Event,
        at: Callable[[str], None],
    ):
        self._source, self._target = source, target
        self._journal = journal
        self._rules = rules
        self._counts = counts
        self._pace = pace
        self._stop = stop
        self._at = at
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._check_buffer = memoryview(bytearray(BUFFER_BYTES))
        self._batches = 0
        self._begun: set[int] = set()
        self._written: Counter[int] = Counter()
        self._unnoted: list[Settled] = []

    def copy(self, items: Sequence[Item]) -> None:
        """Copy a batch; what changes under way is copied again, entry by entry.

        Raises:
            ConflictError: the target holds another entry, and the rules say to stop.
            KvPoolError: a pool refused or went away; what was not settled stays open.
        """
        self._batches += 1
        self._begun, self._written = set(), Counter()
        if self._attempt(items):
            return
        for item in items:
            if not any(self._attempt([self._again(item)]) for _ in range(_TRIES)):
                self._settle([(Settled(item.number, "changing"), item.bytes)])
            with self._counts.lock:
                self._counts.recopied_entries += self._written[item.number] > 1

    def _again(self, item: Item) -> Item:
        """Return an item for another try, in which what this lane wrote is no conflict."""
        return item._replace(ours=item.ours or item.number in self._written)

    def note(self) -> None:
        """Write down what became of the last batch; else that is done with the next one's start.

        Where neither comes to pass, its entries count as begun, and are found in the target.
        """
        self._journal.settle(self._unnoted)
        self._unnoted = []

    def close(self) -> None:
        """End both sessions."""
        self._source.close()
        self._target.close()

    def _attempt(self, items: Sequence[Item]) -> bool:
        """Copy a batch once; False when something of it changed meanwhile."""
        # Waited for first: what changes between the look and the copy has to be copied again.
        planned = sum(item.bytes for item in items)
        self._pace.wait(planned, self._stop)
        keys = [item.key for item in items]
        self._source.ask(keys)
        self._target.ask(keys)
        here, there = self._source.told(), self._target.told()
        total = sum(look.value_bytes for look in here if look)
        if total > BATCH_BYTES and len(items) > 1:
            # Entries grew since they were planned.
            self._source.leave()
            self._target.abandon()
            middle = len(items) // 2
            return self._attempt(items[:middle]) and self._attempt(items[middle:])
        if total > planned:
            self._pace.wait(total - planned, self._stop)
        self._at("looked")
        try:
            return self._copy(items, here, there)
        except OutOfStepError:
            self._target.abandon()
            self._source.leave()
            return False

    def _copy(
        self, items: Sequence[Item], here: Sequence[Look | None], there: Sequence[Look | None]
    ) -> bool:
        settled: list[tuple[Settled, int]] = []
        fit: list[_Seen] = []
        for item, source_look, target_look in zip(items, here, there, strict=True):
            if source_look is None:
                settled.append((self._vanished(item, target_look), item.bytes))
            elif why := self._rules.why_unfit(item.key, source_look):
                settled.append((Settled(item.number, "unfit", note=why), item.bytes))
            else:
                fit.append(_Seen(item, self._without_expiry(source_look), target_look))
        same, kept, wanted = self._sort(fit)
        checked = self._write(wanted)
        if checked is None:
            self._source.leave()
            return False
        removed = [*same, *wanted] if self._rules.delete_source else []
        if not self._source.leave([seen.item.key for seen in removed]):
            return False
        self._at("left")
        settled += [(Settled(seen.item.number, "kept"), seen.item.bytes) for seen in kept]
        settled += [_settled(seen, self._fate(seen.item, "same")) for seen in same]
        settled += [_settled(seen, self._fate(seen.item, "copied")) for seen in wanted]
        self._settle(settled)
        self._count(wanted, checked)
        self._at("settled")
        return True

    def _fate(self, item: Item, fate: Fate) -> Fate:
        """Return what is said of an entry that is in the target: that it was copied, if by us."""
        if self._rules.delete_source:
            return "moved"
        return "copied" if item.ours or item.number in self._begun else fate

    def _vanished(self, item: Item, there: Look | None) -> Settled:
        """Return what became of an entry that the source no longer has."""
        if not item.ours or there is None:
            return Settled(item.number, "gone")
        return Settled(item.number, "moved" if self._rules.delete_source else "copied")

    def _without_expiry(self, look: Look) -> Look:
        if self._target.keeps_expiry or not look.expires:
            return look
        return Look(look.value_bytes, look.header, stamp=look.stamp)

    def _sort(self, fit: Sequence[_Seen]) -> tuple[list[_Seen], list[_Seen], list[_Seen]]:
        """Return what the target has already, what is left alone there, and what to write."""
        twins = [seen for seen in fit if seen.there and seen.there.describes_same(seen.here)]
        equal = self._equal_twins(twins)
        same: list[_Seen] = []
        kept: list[_Seen] = []
        wanted: list[_Seen] = []
        for seen in fit:
            overwrite = seen.item.ours or self._rules.on_conflict == "overwrite"
            if seen.there is None:
                wanted.append(seen)
            elif seen.item.number in equal:
                late = overwrite and not seen.there.expires_with(seen.here)
                (wanted if late else same).append(seen)
            elif overwrite:
                wanted.append(seen)
            elif self._rules.on_conflict == "skip":
                kept.append(seen)
            else:
                self._target.abandon()
                self._source.leave()
                raise _conflict(seen)
        return same, kept, wanted

    def _equal_twins(self, twins: Sequence[_Seen]) -> set[int]:
        """Return the numbers of those whose value is the same in both pools."""
        if not twins:
            return set()
        if _is_large(twins):
            return {twins[0].item.number} if self._large_equal(twins[0]) else set()
        pieces = [_whole(seen) for seen in twins]
        ours = self._source.fetch(pieces, self._buffer)
        theirs = self._target.fetch(pieces, self._check_buffer)
        return {
            seen.item.number
            for seen, a, b in zip(twins, ours, theirs, strict=True)
            if same_bytes(a, b)
        }

    def _write(self, wanted: Sequence[_Seen]) -> int | None:
        """Write what is wanted; return how many copies were read back, None on any change."""
        if not wanted:
            # What is there already has to be there still, if the source is to lose it.
            return 0 if self._target.leave() else None
        self._begun |= {seen.item.number for seen in wanted}
        self._journal.begin([seen.item.number for seen in wanted], self._unnoted)
        self._unnoted = []
        self._at("begun")
        values: dict[int, memoryview] = {}
        if _is_large(wanted):
            if not self._put_large(wanted[0]):
                self._target.abandon()
                return None
        else:
            framed = self._source.fetch([_whole(seen) for seen in wanted], self._buffer)
            self._at("read")
            for seen, value in zip(wanted, framed, strict=True):
                self._target.put(seen.item.key, seen.here, [value])
                values[seen.item.number] = value
        self._at("put")
        if not self._target.commit():
            return None
        self._written.update(seen.item.number for seen in wanted)
        self._at("committed")
        chosen = self._chosen(wanted)
        if not self._read_back(chosen, values):
            return None
        self._at("verified")
        return len(chosen)

    def _put_large(self, seen: _Seen) -> bool:
        """Pass a value on in pieces; False when it changed before the last of them was read."""

        def pieces() -> Iterator[memoryview]:
            for piece in _parts(seen):
                yield self._source.fetch([piece], self._buffer)[0]
                self._at("piece")

        self._target.put(seen.item.key, seen.here, pieces())
        unchanged = self._source.leave()
        again = self._source.look([seen.item.key])[0]
        return unchanged and again is not None and again.describes_same(seen.here)

    def _chosen(self, written: Sequence[_Seen]) -> list[_Seen]:
        """Return those whose copy is to be read back."""
        if self._rules.verify == "full":
            return list(written)
        if self._rules.verify == "none":
            return []
        # Whole batches: what costs is asking at all, not how much is asked for.
        return list(written) if self._batches % SAMPLE_ONE_IN == 1 else []

    def _read_back(self, chosen: Sequence[_Seen], values: dict[int, memoryview]) -> bool:
        """Return whether the target now has what was read from the source."""
        if not chosen:
            return True
        found = self._target.look([seen.item.key for seen in chosen])
        self._target.leave()
        for seen, look in zip(chosen, found, strict=True):
            if look is None or not look.describes_same(seen.here):
                return False
            if not look.expires_with(seen.here):
                return False
        if _is_large(chosen):
            return self._large_equal(chosen[0])
        theirs = self._target.fetch([_whole(seen) for seen in chosen], self._check_buffer)
        return all(
            same_bytes(values[seen.item.number], value)
            for seen, value in zip(chosen, theirs, strict=True)
        )

    def _large_equal(self, seen: _Seen) -> bool:
        return all(
            same_bytes(
                self._source.fetch([piece], self._buffer)[0],
                self._target.fetch([piece], self._check_buffer)[0],
            )
            for piece in _parts(seen)
        )

    def _count(self, written: Sequence[_Seen], verified: int) -> None:
        with self._counts.lock:
            self._counts.written_entries += len(written)
            self._counts.written_bytes += sum(_size(seen.here) for seen in written)
            self._counts.verified_entries += verified

    def _settle(self, settled: Sequence[tuple[Settled, int]]) -> None:
        self._unnoted += [one for one, _ in settled]
        with self._counts.lock:
            self._counts.settled_entries += len(settled)
            self._counts.settled_bytes += sum(size for _, size in settled)


def same_bytes(one: memoryview, other: memoryview) -> bool:
    """Return whether two writable buffers hold the same; as fast as memory is read."""
    # Python compares memoryviews byte by byte, and slices of them only after a copy.
    if len(one) != len(other):
        return False
    return not len(one) or not _memcmp(_address(one), _address(other), len(one))


_memcmp: Final = ctypes.CDLL(None).memcmp
_memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


def _address(view: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


def _is_large(batch: Sequence[_Seen]) -> bool:
    """Return whether a batch is one value that has to go in pieces."""
    return batch[0].here.value_bytes > BATCH_BYTES


def _whole(seen: _Seen) -> Piece:
    return Piece(seen.item.key, 0, seen.here.value_bytes)


def _parts(seen: _Seen) -> Iterator[Piece]:
    size = seen.here.value_bytes
    for offset in range(0, size, BATCH_BYTES):
        yield Piece(seen.item.key, offset, min(BATCH_BYTES, size - offset), whole=False)


def _size(look: Look) -> int:
    return look.value_bytes + len(look.header)


def _settled(seen: _Seen, fate: Fate) -> tuple[Settled, int]:
    return Settled(seen.item.number, fate, seen.here.version), seen.item.bytes


def _conflict(seen: _Seen) -> ConflictError:
    assert seen.there is not None
    here, there = seen.here, seen.there
    differs = (
        f"{there.value_bytes} bytes there, {here.value_bytes} here"
        if here.value_bytes != there.value_bytes
        else "another header"
        if here.header != there.header
        else "the same length, other contents"
    )
    return ConflictError(
        "kv.migrate.conflict",
        f"the target has another entry under {seen.item.key}: {differs}",
        hint="--resume with --on-conflict skip leaves such entries, overwrite replaces them",
        target=seen.item.key,
    )
