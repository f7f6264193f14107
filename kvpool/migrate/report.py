"""How to migrate, how far it is, and what became of it."""

from dataclasses import dataclass, field
from typing import Any

from accelerators.errors import ToolError
from kvpool.migrate.journal import OPEN, Fate
from kvpool.migrate.lane import OnConflict, Verify
from kvpool.migrate.plan import Plan
from kvpool.migrate.side import BATCH_ENTRIES


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
        batch_entries: most entries in a batch.
    """

    models: tuple[str, ...] = ()
    lanes: int = 3
    bytes_per_s: float | None = None
    verify: Verify = "sample"
    on_conflict: OnConflict = "fail"
    delete_source: bool = False
    drop_expiry: bool = False
    batch_entries: int = BATCH_ENTRIES


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

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, without the error."""
        rate = self.written_bytes / self.elapsed_s if self.elapsed_s else None
        return {
            "source": self.source,
            "target": self.target,
            "journal": self.journal,
            "complete": self.complete,
            "resumed": self.resumed,
            "plan": self.plan.to_json(),
            "entries": dict(sorted(self.fates.items())),
            "bytes": dict(sorted(self.fate_bytes.items())),
            "written_entries": self.written_entries,
            "written_bytes": self.written_bytes,
            "verified_entries": self.verified_entries,
            "recopied_entries": self.recopied_entries,
            "elapsed_s": round(self.elapsed_s, 3),
            "bytes_per_s": None if rate is None else round(rate),
            "examples": [
                {"fate": fate, "key": key, "reason": why} for fate, key, why in self.examples
            ],
        }
