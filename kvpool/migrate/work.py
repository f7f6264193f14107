"""The lanes of one run side by side, and what is done beside them."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from accelerators.errors import ToolError
from kvpool.errors import KvPoolError
from kvpool.migrate.ends import End, Room, require_room
from kvpool.migrate.journal import OPEN, Item, Journal
from kvpool.migrate.lane import Counts, Lane
from kvpool.migrate.pace import Pace
from kvpool.migrate.report import Options, Progress, Report
from kvpool.migrate.side import BATCH_BYTES
from kvpool.migrate.watch import Watch
from kvpool.selection import Selection

PASSES: Final = 5
"""How often what changed meanwhile is gone through before the rest is reported."""
_TICK_S: Final = 0.25
_ROOM_EVERY_S: Final = 1.0
_PAGE: Final = 1024


class Work:
    """One run over everything that is open in a journal.

    Args:
        source, target: the ends.
        options: how to go about it.
        journal: what is to be done.
        watch: of the source.
        open_lane: opens the sessions of one more lane.
        stop: ends it once the batches under way are done.
        lost: set when a lock was lost.
        on_progress: is told several times a second.
    """

    def __init__(
        self,
        source: End,
        target: End,
        options: Options,
        journal: Journal,
        watch: Watch,
        open_lane: Callable[[Counts, Pace], Lane],
        stop: threading.Event,
        lost: threading.Event,
        on_progress: Callable[[Progress], None],
    ):
        self._source, self._target = source, target
        self._options = options
        self._open_lane = open_lane
        self._lost = lost
        self._journal = journal
        self._watch = watch
        self._selection = Selection(options.models)
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
            self._evicted = self._target.room().evicted
            if self._journal.resumed:
                self._catch_up(report)
            for _ in range(PASSES):
                self._pass()
                if self._stop.is_set() or not self._reopened():
                    break
            else:
                self._journal.give_up()
            self._check_evicted(self._target.room())
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
        lost = self._watch.find_lost()
        if lost:
            report.warnings.append(
                f"{lost:,} entries that were removed from the source once their copy had been "
                f"compared are no longer in {self._target.url}: it came back without its data, or "
                "they expired or were evicted there"
            )
        self._watch.find_new(self._selection)
        if self._options.verify == "full":
            self._journal.reopen_copied()
        else:
            self._watch.compare()
            if not self._source.url.is_local:
                report.warnings.append(
                    "whether entries that were copied before this run changed since was told by "
                    "length and header only; --verify full reads them again"
                )

    def _reopened(self) -> bool:
        """Reopen what changed at the source since it was copied; return whether anything is."""
        self._watch.poll(self._selection)
        if self._source.url.is_local:
            self._watch.compare()
            self._watch.find_new(self._selection)
        return bool(self._journal.open_items((-1, 0), 1))

    def _pass(self) -> None:
        """Copy what is open now, in lanes side by side."""
        batches = _Batches(self._journal, self._batch_bytes(), self._options.batch_entries)
        lanes: list[Lane] = []
        try:
            for _ in range(self._options.lanes):
                lane = self._open_lane(self._counts, self._pace)
                lanes.append(lane)
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
        return BATCH_BYTES if rate is None else max(1, min(BATCH_BYTES, int(rate / 4)))

    def _drive(self, lane: Lane, batches: "_Batches") -> None:
        """Copy batch after batch, until there are none or somebody fails."""
        try:
            try:
                self._copy_all(lane, batches)
            finally:
                lane.note()
        except BaseException as error:
            self._failures.append(error)
            self._halt.set()

    def _copy_all(self, lane: Lane, batches: "_Batches") -> None:
        while not (self._stop.is_set() or self._halt.is_set()):
            batch = batches.next()
            if not batch:
                return
            lane.copy(batch)

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
        if self._lost.is_set():
            raise KvPoolError(
                "kv.migrate.lock_lost",
                "the lock on a pool was lost: this process was stopped for too long, or the "
                "server is gone",
                hint="--resume continues",
            )
        # What was lost is said before what would not fit.
        self._check_evicted(self._target.room())
        require_room(self._target, BATCH_BYTES)

    def _check_evicted(self, room: Room) -> None:
        if room.evicted > self._evicted:
            raise KvPoolError(
                "kv.target.evicts",
                f"{self._target.url} threw out {room.evicted - self._evicted} entries meanwhile "
                f"to make room ({room.limit})",
                hint="give it more memory; --resume copies again what it lost",
                target=str(self._target.url),
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

    def __init__(self, journal: Journal, most_bytes: int, most_entries: int):
        self._journal = journal
        self._most_bytes, self._most_entries = most_bytes, most_entries
        self._lock = threading.Lock()
        self._page: deque[tuple[int, Item]] = deque()
        self._position = (-1, 0)

    def next(self) -> list[Item]:
        """Return the next batch; empty when there is none."""
        with self._lock:
            batch: list[Item] = []
            size = 0
            while len(batch) < self._most_entries:
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
