"""Carry a migration out: plan, lanes side by side, a second look at what changed, a report."""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from accelerators.errors import ToolError
from kvpool.errors import KvPoolError, KvPoolUsageError
from kvpool.lmcache import parse_key
from kvpool.migrate.changes import RedisChanges
from kvpool.migrate.ends import Access, End, check_pair, open_end, require_room
from kvpool.migrate.journal import OPEN, Fate, Item, Journal
from kvpool.migrate.lane import ConflictError, Counts, Lane, OnConflict, Rules, Verify
from kvpool.migrate.pace import Pace
from kvpool.migrate.plan import Plan, Planner, Selection
from kvpool.migrate.side import BATCH_BYTES, BATCH_ENTRIES, Look

PASSES: Final = 5
"""How often what changed meanwhile is gone through before the rest is reported."""
_TICK_S: Final = 0.25
_ROOM_EVERY_S: Final = 1.0
_PAGE: Final = 1024
_CHECK: Final = 256


@dataclass(frozen=True)
class Options:
    """How to migrate.

    Attributes:
        models: move only entries of these; empty: all.
        lanes: batches that are under way at once.
        bytes_per_s: limit on the rate; None: none.
        verify: which copies to read back and compare.
        on_conflict: what to do about another entry under the same key in the target.
        delete_source: remove entries whose copy was read back and compared.
        drop_expiry: copy entries that will vanish to a target that keeps no expiry.
    """

    models: tuple[str, ...] = ()
    lanes: int = 2
    bytes_per_s: float | None = None
    verify: Verify = "sample"
    on_conflict: OnConflict = "fail"
    delete_source: bool = False
    drop_expiry: bool = False


@dataclass(frozen=True)
class Progress:
    """How far a migration is; bytes are those of values and headers."""

    done_entries: int
    total_entries: int
    done_bytes: int
    total_bytes: int
    bytes_per_s: float

    @property
    def left_s(self) -> float | None:
        """Return the time left at the rate of late; None while nothing moves."""
        left = self.total_bytes - self.done_bytes
        return left / self.bytes_per_s if self.bytes_per_s > 0 else None


@dataclass
class Report:
    """What became of a migration.

    Attributes:
        source, target: their URLs.
        plan: what was planned, in this run or the one that is resumed.
        journal: where it is kept; None for a plan only.
        fates: entries of each fate (``kvpool.migrate.journal.Fate``).
        fate_bytes: bytes of each.
        examples: of entries that need attention: fate, key, and why.
        written_entries, written_bytes: copied by this run.
        verified_entries: of these, read back and compared.
        recopied_entries: copied again by this run, because they changed meanwhile.
        elapsed_s: of this run's copying.
        resumed: whether an earlier run was continued.
        stopped: whether it was asked to stop.
        error: what ended it early.
        warnings: what the caller should know.
    """

    source: str
    target: str
    plan: Plan
    journal: str | None = None
    fates: dict[Fate, int] = field(default_factory=dict)
    fate_bytes: dict[Fate, int] = field(default_factory=dict)
    examples: list[tuple[Fate, str, str]] = field(default_factory=list)
    written_entries: int = 0
    written_bytes: int = 0
    verified_entries: int = 0
    recopied_entries: int = 0
    elapsed_s: float = 0.0
    resumed: bool = False
    stopped: bool = False
    error: ToolError | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def open_entries(self) -> int:
        """Return how many entries are still to be copied."""
        return sum(self.fates.get(fate, 0) for fate in OPEN)

    @property
    def complete(self) -> bool:
        """Return whether every entry is in the target, but those that vanished or are kept."""
        bad: tuple[Fate, ...] = ("changing", "unfit")
        left = self.open_entries + sum(self.fates.get(fate, 0) for fate in bad)
        return not left and self.error is None and not self.stopped


class Migration:
    """A migration between two pools; a context manager that lets go of them.

    Args:
        source, target: URLs of the pools (``kvpool.url``).
        options: how to go about it.
        source_access, target_access: how to get in.
        create: make a target directory that is missing.
        at: called with the name of each step; for tests, which let it raise.
    """

    def __init__(
        self,
        source: str,
        target: str,
        options: Options,
        *,
        source_access: Access | None = None,
        target_access: Access | None = None,
        create: bool = True,
        at: Callable[[str], None] = lambda step: None,
    ):
        """Connect to both.

        Raises:
            KvPoolUsageError: the options contradict each other, or nothing can be moved between
                these pools.
            KvPoolError: a pool can't be opened, read or written.
        """
        if options.delete_source and options.verify != "full":
            raise KvPoolUsageError(
                "kv.migrate.unverified",
                f"the source may be deleted only after its copy was compared; --verify is "
                f"{options.verify}",
                hint="--verify full, or leave out --delete-source",
                target="--delete-source",
            )
        self.options = options
        self._at = at
        with contextlib.ExitStack() as opened:
            self._source = open_end(source, source_access or Access())
            opened.callback(self._source.close)
            self._target = open_end(target, target_access or Access(), create=create)
            opened.callback(self._target.close)
            check_pair(self._source, self._target)
            self._check_ends()
            self._opened = opened.pop_all()
        self.lost = threading.Event()

    def __enter__(self) -> "Migration":
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    @property
    def config(self) -> dict[str, Any]:
        """Return what a journal must agree on."""
        return {
            "source": str(self._source.url),
            "target": str(self._target.url),
            "models": sorted(self.options.models),
            "drop_expiry": self.options.drop_expiry,
        }

    def plan(
        self, stop: threading.Event, on_progress: Callable[[int], None] = lambda seen: None
    ) -> Report:
        """Return what ``run`` would do; changes nothing."""
        plan = self._planner().run(None, stop, on_progress)
        report = Report(str(self._source.url), str(self._target.url), plan)
        report.stopped = stop.is_set()
        return report

    def run(
        self,
        journal_path: Path,
        *,
        resume: bool,
        stop: threading.Event,
        on_plan: Callable[[int], None] = lambda seen: None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> Report:
        """Migrate, and return what became of it.

        What ends it early once entries move is in the report's ``error``; the journal then says
        what is left, and ``resume`` goes on from there.

        Raises:
            ConflictError: the plan finds other entries in the target, and ``on_conflict`` is
                ``fail``.
            KvPoolError: another migration is at work here; the target is too small; the journal
                can't be used; a pool went away before anything was copied.
        """
        with (
            Journal(journal_path, self.config, resume=resume) as journal,
            self._locks(),
            contextlib.closing(_Watch(self._source, journal)) as watch,
        ):
            self._source.tidy()
            self._target.tidy()
            plan = self._planned(journal, stop, on_plan)
            report = Report(str(self._source.url), str(self._target.url), plan)
            report.journal, report.resumed = str(journal.path), journal.resumed
            if not stop.is_set():
                _Work(self, journal, watch, stop, on_progress).do(report)
            report.stopped = stop.is_set()
            self._conclude(report, journal)
            return report

    def lane(self, journal: Journal, counts: Counts, pace: Pace, stop: threading.Event) -> Lane:
        """Open the sessions of one more lane."""
        durable = self.options.delete_source
        source = self._source.side()
        try:
            target = self._target.side(durable=durable)
        except BaseException:
            source.close()
            raise
        rules = Rules(
            self.options.verify,
            self.options.on_conflict,
            self.options.delete_source,
            self._why_unfit,
        )
        return Lane(source, target, journal, rules, counts, pace, stop, self._at)

    @property
    def source(self) -> End:
        """Return the end that entries come from."""
        return self._source

    @property
    def target(self) -> End:
        """Return the end that entries go to."""
        return self._target

    def _planner(self) -> Planner:
        return Planner(
            self._source,
            self._target,
            Selection(self.options.models),
            drop_expiry=self.options.drop_expiry,
        )

    def _planned(
        self, journal: Journal, stop: threading.Event, on_plan: Callable[[int], None]
    ) -> Plan:
        """Return the plan that the journal holds, or make one and check it."""
        if journal.resumed:
            return Plan.from_json(journal.noted("plan"))
        plan = self._planner().run(journal, stop, on_plan)
        if stop.is_set():
            return plan
        if plan.conflicts and self.options.on_conflict == "fail":
            raise ConflictError(
                "kv.migrate.conflict",
                f"the target has other entries under {plan.conflicts} of {plan.entries} keys, "
                f"such as {plan.conflict_examples[0]}",
                hint="--on-conflict skip leaves them, overwrite replaces them",
                target=str(self._target.url),
            )
        require_room(self._target, plan.needed_bytes)
        journal.note("plan", plan.to_json())
        journal.note("planned", True)
        self._at("planned")
        return plan

    def _why_unfit(self, key: str, look: Look) -> str:
        loses = look.expires and not self._target.keeps_expiry and not self.options.drop_expiry
        lost = "it will vanish at a set time, and the target keeps none"
        return lost if loses else self._target.why_unfit(key, look)

    def _check_ends(self) -> None:
        why = self._source.why_no_source(delete=self.options.delete_source)
        if why:
            raise KvPoolError("kv.migrate.source", f"{self._source.url} can't be the source: {why}")
        why = self._target.why_no_target()
        if why:
            raise KvPoolError("kv.migrate.target", f"{self._target.url} can't be the target: {why}")

    @contextlib.contextmanager
    def _locks(self) -> Iterator[None]:
        """Hold both pools; a source that can't be written, and need not be, is left unlocked."""
        with contextlib.ExitStack() as held:
            held.enter_context(self._target.lock(self.lost))
            try:
                held.enter_context(self._source.lock(self.lost))
            except KvPoolError as error:
                if self.options.delete_source or error.code == "kv.migrate.busy":
                    raise
            yield

    def _conclude(self, report: Report, journal: Journal) -> None:
        totals = journal.totals()
        report.fates = {fate: count for fate, (count, _) in totals.items()}
        report.fate_bytes = {fate: size for fate, (_, size) in totals.items()}
        for fate in ("kept", "changing", "unfit"):
            report.examples += [(fate, *row) for row in journal.notes(fate, 5)]
        if not report.open_entries and not report.stopped and report.error is None:
            journal.note("finished", True)


class _Watch:
    """Finds entries that changed at the source after they were copied, or are new there."""

    def __init__(self, source: End, journal: Journal):
        self._source, self._journal = source, journal
        self._changes: RedisChanges | None = source.changes()
        self._unsettled: set[str] = set()

    @property
    def blind(self) -> bool:
        """True where changes after an entry's copy can't be seen."""
        return self._changes is not None and not self._changes.watching

    def close(self) -> None:
        if self._changes is not None:
            self._changes.close()

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
        with contextlib.closing(self._source.side()) as side:
            while rows := self._journal.copied(after, _CHECK):
                looks = side.look([key for _, key, _ in rows])
                side.leave()
                changed = [
                    number
                    for (number, _, stamp), look in zip(rows, looks, strict=True)
                    if look is not None and look.version != stamp
                ]
                self._journal.reopen(changed)
                reopened += len(changed)
                after = rows[-1][0]
        return reopened

    def find_new(self, selection: Selection) -> int:
        """Plan entries of a directory that were written since it was listed."""
        if self._changes is not None:
            return 0
        found = 0
        for batch in self._source.pool.scan():
            whole = [e for e in batch if e.state == "whole" and selection.takes(e.model)]
            known = self._journal.fates([entry.key for entry in whole])
            fresh = [entry for entry in whole if entry.key not in known]
            self._journal.add((e.key, e.bytes, "pending", "") for e in fresh)
            found += len(fresh)
        return found

    def _reopen(self, keys: list[str]) -> int:
        """Reopen those of some touched entries that are still there."""
        known = self._journal.fates(keys)
        with contextlib.closing(self._source.side()) as side:
            looks = side.look(keys)
        there = {key: look for key, look in zip(keys, looks, strict=True) if look is not None}
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


_COPIED: Final = ("copied", "same", "moved")
_RETRIED: Final = ("gone", "kept")


def _is_selected(key: str, selection: Selection) -> bool:
    parts = parse_key(key)
    return parts is not None and selection.takes(parts.model)


class _Work:
    """The lanes of one run, and what is done beside them."""

    def __init__(
        self,
        migration: Migration,
        journal: Journal,
        watch: _Watch,
        stop: threading.Event,
        on_progress: Callable[[Progress], None],
    ):
        self._migration = migration
        self._options = migration.options
        self._journal = journal
        self._watch = watch
        self._selection = Selection(migration.options.models)
        self._stop = stop
        self._on_progress = on_progress
        self._halt = threading.Event()
        self._counts = Counts()
        self._pace = Pace(self._options.bytes_per_s)
        self._failures: list[BaseException] = []
        self._evicted = 0
        self._recent: deque[tuple[float, int]] = deque(maxlen=40)

    def do(self, report: Report) -> None:
        """Copy everything that is open, and what changes meanwhile; fill in the report."""
        start_s = time.monotonic()
        try:
            self._evicted = self._migration.target.room().evicted
            if self._journal.resumed:
                self._catch_up(report)
            for number in range(PASSES):
                self._pass()
                if self._stop.is_set() or not self._changed(last=number == PASSES - 1):
                    break
        except ToolError as error:
            report.error = error
        report.elapsed_s = time.monotonic() - start_s
        report.written_entries = self._counts.written_entries
        report.written_bytes = self._counts.written_bytes
        report.verified_entries = self._counts.verified_entries
        report.recopied_entries = self._counts.recopied_entries
        if self._watch.blind:
            report.warnings.append(
                "this Redis does not tell which keys change (CLIENT TRACKING, Redis 6): an entry "
                "that was written after its copy is not noticed"
            )

    def _catch_up(self, report: Report) -> None:
        """See what changed while no run was watching."""
        if self._options.verify == "full":
            self._journal.reopen_copied()
        else:
            self._watch.compare()
            report.warnings.append(
                "entries copied before this run were compared by length and header only; "
                "--verify full reads them again"
            )

    def _changed(self, *, last: bool) -> int:
        """Reopen what changed at the source since it was copied; return how many entries."""
        changed = self._watch.poll(self._selection)
        if self._migration.source.url.is_local:
            changed += self._watch.compare() + self._watch.find_new(self._selection)
        if changed and last:
            self._journal.give_up()
        return changed

    def _pass(self) -> None:
        """Copy what is open now, in lanes side by side."""
        batches = _Batches(self._journal, self._batch_bytes())
        lanes: list[Lane] = []
        try:
            for _ in range(self._options.lanes):
                lane = self._migration.lane(self._journal, self._counts, self._pace, self._stop)
                lanes.append(lane)  # noqa: PERF401 - those that are open are closed below
            threads = [
                threading.Thread(target=self._drive, args=(lane, batches), name=f"lane-{number}")
                for number, lane in enumerate(lanes)
            ]
            for thread in threads:
                thread.start()
            try:
                self._attend(threads)
            except BaseException:
                self._halt.set()
                raise
            finally:
                for thread in threads:
                    thread.join()
        finally:
            for lane in lanes:
                lane.close()
        if self._failures:
            raise self._failures[0]

    def _batch_bytes(self) -> int:
        """Return a batch's size: a quarter of a second's worth where the rate is limited."""
        rate = self._options.bytes_per_s
        return BATCH_BYTES // 2 if rate is None else max(1, min(BATCH_BYTES // 2, int(rate / 4)))

    def _drive(self, lane: Lane, batches: "_Batches") -> None:
        """Copy batch after batch, until there are none or somebody fails."""
        try:
            while not (self._stop.is_set() or self._halt.is_set()):
                batch = batches.next()
                if not batch:
                    return
                lane.copy(batch)
        except BaseException as error:
            self._failures.append(error)
            self._halt.set()

    def _attend(self, threads: Iterable[threading.Thread]) -> None:
        """Until the lanes end: report progress, take in changes, see that there is room."""
        totals = self._journal.totals()
        total_entries = sum(count for count, _ in totals.values())
        total_bytes = sum(size for _, size in totals.values())
        open_bytes = sum(totals[fate][1] for fate in OPEN if fate in totals)
        open_entries = sum(totals[fate][0] for fate in OPEN if fate in totals)
        with self._counts.lock:
            self._counts.settled_bytes = total_bytes - open_bytes
            self._counts.settled_entries = total_entries - open_entries
        room_s = time.monotonic()
        for thread in threads:
            while thread.is_alive():
                thread.join(_TICK_S)
                self._watch.poll(self._selection)
                self._on_progress(self._progress(total_entries, total_bytes))
                if time.monotonic() - room_s > _ROOM_EVERY_S:
                    room_s = time.monotonic()
                    self._check_room()

    def _check_room(self) -> None:
        if self._migration.lost.is_set():
            raise KvPoolError(
                "kv.migrate.lock_lost",
                "the lock on a pool was lost: this process was stopped for too long, or the "
                "server is gone",
                hint="--resume continues",
            )
        room = require_room(self._migration.target, BATCH_BYTES)
        if room.evicted > self._evicted:
            raise KvPoolError(
                "kv.target.evicts",
                f"{self._migration.target.url} threw out {room.evicted - self._evicted} entries "
                f"meanwhile to make room ({room.limit})",
                hint="give it more memory, then --resume --verify full",
                target=str(self._migration.target.url),
            )

    def _progress(self, total_entries: int, total_bytes: int) -> Progress:
        now_s = time.monotonic()
        with self._counts.lock:
            done_bytes, done_entries = self._counts.settled_bytes, self._counts.settled_entries
        self._recent.append((now_s, done_bytes))
        first_s, first_bytes = self._recent[0]
        rate = (done_bytes - first_bytes) / (now_s - first_s) if now_s > first_s else 0.0
        return Progress(done_entries, total_entries, done_bytes, total_bytes, rate)


class _Batches:
    """Hands out what is open in a journal, batch by batch, to several threads."""

    def __init__(self, journal: Journal, most_bytes: int):
        self._journal = journal
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._page: deque[tuple[int, Item]] = deque()
        self._position = (-1, 0)

    def next(self) -> list[Item]:
        """Return the next batch; empty when there is none."""
        with self._lock:
            batch: list[Item] = []
            size = 0
            while len(batch) < BATCH_ENTRIES:
                if not self._page:
                    self._page.extend(self._journal.open_items(self._position, _PAGE))
                if not self._page:
                    break
                later, item = self._page[0]
                if batch and size + item.bytes > self._most_bytes:
                    break
                self._page.popleft()
                self._position = (later, item.number)
                batch.append(item)
                size += item.bytes
            return batch
