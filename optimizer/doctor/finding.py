"""What an examination of autoscalers says: findings, and the report."""

from dataclasses import dataclass
from typing import Any

from accelerators.hazards import Hazard, Unchecked


@dataclass(frozen=True)
class Finding:
    """One hazard that is there, with a line of evidence for each place."""

    hazard: Hazard
    evidence: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**vars(self.hazard), "evidence": list(self.evidence)}


@dataclass(frozen=True)
class Report:
    """The outcome of one examination: findings, worst first, and the codes of other checks."""

    findings: tuple[Finding, ...]
    passed: tuple[str, ...]
    unchecked: tuple[Unchecked, ...]

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
            "findings": [finding.to_json() for finding in self.findings],
            "passed": list(self.passed),
            "unchecked": [vars(check) for check in self.unchecked],
        }
