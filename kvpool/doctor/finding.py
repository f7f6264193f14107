"""What an examination of a pool says: findings, and the report."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from accelerators.hazards import Hazard, Unchecked
from kvpool.entry import Entry

MOST_EXAMPLES = 5


@dataclass(frozen=True)
class Finding:
    """One hazard that is there, with what shows it.

    Attributes:
        hazard: which.
        evidence: a line each; examples where there are many.
        count: how many entries, slots or nodes it is about.
        bytes: what these occupy; None where that means nothing.
    """

    hazard: Hazard
    evidence: tuple[str, ...]
    count: int
    bytes: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            **vars(self.hazard),
            "evidence": list(self.evidence),
            "count": self.count,
            "bytes": self.bytes,
        }


@dataclass
class Sample:
    """How many entries something is about, what they occupy, and the first of them."""

    count: int = 0
    bytes: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, entry: Entry, why: str = "") -> None:
        """Count an entry."""
        self.count += 1
        self.bytes += entry.bytes
        if len(self.examples) < MOST_EXAMPLES:
            self.examples.append(f"{entry.key}: {why}" if why else entry.key)

    def lines(self) -> tuple[str, ...]:
        """Return the examples, and how many more there are."""
        more = self.count - len(self.examples)
        return (*self.examples, *([f"and {more:,} more"] if more else []))

    def finding(self, hazard: Hazard) -> Iterator[Finding]:
        """Yield the finding, where there is an entry."""
        if self.count:
            yield Finding(hazard, self.lines(), self.count, self.bytes)


@dataclass(frozen=True)
class Report:
    """The outcome of one examination.

    Attributes:
        findings: worst first.
        passed: codes of hazards that are not there.
        unchecked: checks without a verdict.
        scanned: entries of every state that were seen; None where the pool can't be listed.
        in_flight: halves and temporary files so young that a writer may be at work on them.
        complete: False where the scan was stopped.
        facts: what the pool says of itself.
    """

    findings: tuple[Finding, ...]
    passed: tuple[str, ...]
    unchecked: tuple[Unchecked, ...]
    scanned: int | None
    in_flight: int
    complete: bool
    facts: Mapping[str, Any]

    @property
    def faults(self) -> tuple[Finding, ...]:
        """Return the findings that are more than information."""
        return tuple(f for f in self.findings if f.hazard.severity != "info")

    @property
    def undecided(self) -> tuple[Unchecked, ...]:
        """Return the checks that should have given a verdict and could not."""
        return tuple(check for check in self.unchecked if check.applies)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "pool": dict(self.facts),
            "complete": self.complete,
            "scanned": self.scanned,
            "in_flight": self.in_flight,
            "findings": [finding.to_json() for finding in self.findings],
            "passed": list(self.passed),
            "unchecked": [vars(check) for check in self.unchecked],
        }
