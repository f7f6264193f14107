"""What examinations speak of, whatever they look at: hazards, and checks without a verdict."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["info", "warning", "degraded", "fatal"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "degraded", "fatal")
"""``info`` is no fault and leaves the exit code alone; ``warning``: nothing is lost yet, but it is
not what somebody meant; ``degraded``: it works, and worse than it should; ``fatal``: it does not
work at all, or gives wrong answers."""


@dataclass(frozen=True)
class Hazard:
    """Something that goes wrong.

    Attributes:
        code: stable, such as ``KV-HALF-DATA``.
        severity: of a finding.
        title: in a few words.
        meaning: what it is, where it comes from and what follows.
        remedy: what to do.
    """

    code: str
    severity: Severity
    title: str
    meaning: str
    remedy: str


@dataclass(frozen=True)
class Unchecked:
    """A check that gave no verdict, and why.

    Attributes:
        code: of its hazard.
        reason: as a sentence's end.
        applies: False where there is no such thing here, or nobody asked for what it needs; then
            nothing is amiss.
    """

    code: str
    reason: str
    applies: bool
