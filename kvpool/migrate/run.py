"""Carry a migration out: plan, lanes side by side, a second look at what changed, a report."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from kvpool.errors import KvPoolError, KvPoolUsageError
from kvpool.migrate.ends import Access, check_pair, open_end, require_room
from kvpool.migrate.journal import Journal
from kvpool.migrate.lane import ConflictError, Counts, Lane, Rules
from kvpool.migrate.pace import Pace
from kvpool.migrate.plan import Plan, Planner
from kvpool.migrate.report import Options, Progress, Report
from kvpool.migrate.side import Look
from kvpool.migrate.watch import Watch
from kvpool.migrate.work import Work
from kvpool.selection import Selection


class Migration:
    """A migration between two pools; a context manager that lets go of them.

    Args:
        source, target: URLs of the pools (``kvpool.url``).
        options: how to go about it.
        source_access, target_access: how to get in.
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
            self._target = open_end(target, target_access or Access(), create=True)
            opened.callback(self._target.close)
            check_pair(self._source, self._target)
            self._check_ends()
            self._opened = opened.pop_all()
        self._lost = threading.Event()

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
            contextlib.closing(Watch(self._source, self._target, journal)) as watch,
        ):
            self._source.tidy()
            self._target.tidy()
            plan = self._planned(journal, stop, on_plan)
            report = Report(str(self._source.url), str(self._target.url), plan)
            report.journal, report.resumed = str(journal.path), journal.resumed
            if not stop.is_set():
                self._target.keep()
                Work(
                    self._source,
                    self._target,
                    self.options,
                    journal,
                    watch,
                    partial(self._lane, journal, stop),
                    stop,
                    self._lost,
                    on_progress,
                ).do(report)
            report.stopped = stop.is_set()
            self._conclude(report, journal)
            return report

    def _lane(self, journal: Journal, stop: threading.Event, counts: Counts, pace: Pace) -> Lane:
        durable = self.options.delete_source
        source = self._source.reader()
        try:
            target = self._target.writer(durable=durable)
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
                f"the target has other entries under {plan.conflicts:,} of {plan.entries:,} keys, "
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
            held.enter_context(self._target.lock(self._lost))
            try:
                held.enter_context(self._source.lock(self._lost))
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
