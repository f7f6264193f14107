"""What a migration would do: every entry of the source, looked at beside the target's."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from kvpool.entry import Entry
from kvpool.errors import KvPoolUsageError
from kvpool.migrate.ends import End
from kvpool.migrate.journal import Fate, Journal
from kvpool.migrate.locks import LOCK_KEY
from kvpool.migrate.side import Look, Side
from kvpool.selection import Selection

_EXAMPLES = 5


@dataclass
class Plan:
    """What a migration would do. Sizes are those of values and headers.

    Attributes:
        entries, bytes: what is to be moved.
        models: bytes of it per model, or per namespace where entries name no model.
        present_entries, present_bytes: of these, what the target has under the same key with the
            same length and header; whether it is the same is told by reading both.
        conflicts: of these, keys under which the target has something else.
        expiring: of these, entries that will vanish at a set time.
        unfit: reasons why the target can't hold an entry, and how many it concerns.
        left_out: entries of other models.
        orphans, undecodable, foreign: what stays where it is, being no whole entry.
        needed_bytes: room that the target must have; overwritten entries not counted.
        free_bytes: room that it has; None: unlimited or unknown.
        conflict_examples, unfit_examples: some of the keys.
    """

    entries: int = 0
    bytes: int = 0
    models: Counter[str] = field(default_factory=Counter)
    present_entries: int = 0
    present_bytes: int = 0
    conflicts: int = 0
    expiring: int = 0
    unfit: Counter[str] = field(default_factory=Counter)
    left_out: int = 0
    orphans: int = 0
    undecodable: int = 0
    foreign: int = 0
    needed_bytes: int = 0
    free_bytes: int | None = None
    conflict_examples: list[str] = field(default_factory=list)
    unfit_examples: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; the models and reasons sorted."""
        return {
            **vars(self),
            "models": dict(sorted(self.models.items())),
            "unfit": dict(sorted(self.unfit.items())),
            "conflict_examples": list(self.conflict_examples),
            "unfit_examples": list(self.unfit_examples),
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Plan":
        """Return the plan that ``to_json`` wrote."""
        counters = {name: Counter(document[name]) for name in ("models", "unfit")}
        return cls(**{**document, **counters})


class Planner:
    """Looks through a source, and plans entry by entry.

    Args:
        source, target: the ends.
        selection: which entries to move.
        drop_expiry: accept that a target keeps no expiry.
    """

    def __init__(self, source: End, target: End, selection: Selection, *, drop_expiry: bool):
        self._source, self._target = source, target
        self._selection = selection
        self._drop_expiry = drop_expiry

    def run(
        self,
        journal: Journal | None,
        stop: threading.Event,
        on_progress: Callable[[int], None] = lambda seen: None,
    ) -> Plan:
        """Return the plan, and note every entry in a journal.

        Args:
            journal: None for a plan that nobody will carry out.
            stop: ends planning early; the plan then covers a part.
            on_progress: is told how many entries were seen.

        Raises:
            KvPoolUsageError: entries will vanish by themselves, and the target can't keep that.
            KvPoolError: a pool went away or refused.
        """
        plan = Plan(free_bytes=self._target.room().free_bytes)
        here, there = self._source.reader(), self._target.writer()
        seen = 0
        try:
            for batch in self._source.pool.scan(depth="headers"):
                if stop.is_set():
                    break
                wanted = [entry for entry in batch if self._is_wanted(plan, entry)]
                rows = list(self._rows(plan, wanted, here, there))
                if journal is not None:
                    for first in (True, False):
                        part = [row[:4] for row in rows if row[4] is first]
                        journal.add(part, later=not first)
                seen += len(batch)
                on_progress(seen)
        finally:
            here.close()
            there.close()
        self._check_expiry(plan)
        return plan

    def _is_wanted(self, plan: Plan, entry: Entry) -> bool:
        """Count what is to stay; return whether an entry is to be moved."""
        match entry.state:
            case "foreign":
                plan.foreign += entry.key != LOCK_KEY
            case "orphan":
                plan.orphans += 1
            case "undecodable":
                plan.undecodable += 1
            case "whole":
                if self._selection.holds(entry, time.time()):
                    return True
                plan.left_out += 1
        return False

    def _rows(
        self, plan: Plan, wanted: Sequence[Entry], here: Side, there: Side
    ) -> Iterator[tuple[str, int, Fate, str, bool]]:
        """Yield key, bytes, fate, note, and whether the target has something under the key.

        Those come first when the plan is carried out, so that a conflict is met before anything
        was written.
        """
        if not wanted:
            return
        keys = [entry.key for entry in wanted]
        looks = [_look_of(entry) for entry in wanted]
        if None in looks:
            looks = here.look(keys)
            here.leave()
        others = there.look(keys)
        there.leave()
        for entry, look, other in zip(wanted, looks, others, strict=True):
            if look is None:
                continue  # gone since it was listed
            size = look.value_bytes + len(look.header)
            why = self._target.why_unfit(entry.key, look)
            if why:
                plan.unfit[why] += 1
                if len(plan.unfit_examples) < _EXAMPLES:
                    plan.unfit_examples.append(entry.key)
                yield entry.key, size, "unfit", why, False
                continue
            self._count(plan, entry, look, other, size)
            yield entry.key, size, "pending", "", other is not None

    def _count(self, plan: Plan, entry: Entry, look: Look, other: Look | None, size: int) -> None:
        plan.entries += 1
        plan.bytes += size
        plan.models[entry.model or entry.namespace or ""] += size
        plan.expiring += look.expires
        if other is None:
            plan.needed_bytes += self._target.footprint_bytes(entry.key, look)
        elif other.describes_same(look):
            plan.present_entries += 1
            plan.present_bytes += size
        else:
            plan.conflicts += 1
            if len(plan.conflict_examples) < _EXAMPLES:
                plan.conflict_examples.append(entry.key)

    def _check_expiry(self, plan: Plan) -> None:
        if plan.expiring and not self._target.keeps_expiry and not self._drop_expiry:
            raise KvPoolUsageError(
                "kv.migrate.expiry",
                f"{plan.expiring} of {plan.entries} entries will vanish at a set time, and "
                f"{self._target.url} keeps no such time",
                hint="--drop-expiry copies them for good",
                target=str(self._target.url),
            )


def _look_of(entry: Entry) -> Look | None:
    """Return what a scan already told of an entry; None where it told too little."""
    if entry.header is None or not entry.header.raw or entry.value_bytes is None:
        return None
    expires_ms = round((entry.expires_s or 0) * 1000)
    return Look(entry.value_bytes, entry.header.raw, expires_ms, expires_ms)
