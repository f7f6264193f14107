"""What an examination says: hazards, findings, and checks without a verdict."""

from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["info", "warning", "degraded", "fatal"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "degraded", "fatal")
"""``info`` is no fault; ``warning``: not what somebody meant; ``degraded``: it scales wrongly;
``fatal``: it does not scale at all."""


@dataclass(frozen=True)
class Hazard:
    """Something that keeps an autoscaler from moving as it should.

    Attributes:
        code: stable, such as ``AS-PROFILE-MISSING``.
        severity: of a finding.
        title: in a few words.
        meaning: what it is and what follows.
        remedy: what to do.
    """

    code: str
    severity: Severity
    title: str
    meaning: str
    remedy: str


@dataclass(frozen=True)
class Finding:
    """One hazard that is there, with a line of evidence for each place."""

    hazard: Hazard
    evidence: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**vars(self.hazard), "evidence": list(self.evidence)}


@dataclass(frozen=True)
class Unchecked:
    """A check without a verdict.

    Attributes:
        code: of its hazard.
        reason: why, as a sentence's end.
        applies: False where nobody asked for what it needs; then nothing is amiss.
    """

    code: str
    reason: str
    applies: bool


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
