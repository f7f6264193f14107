"""Errors of mock-fail, under the project's root error.

ToolError
└── MockError               an environment, the preload file or the native library failed
    └── MockUsageError      a scenario, a setting or a name is wrong
        └── ScenarioError   a scenario file; lists every problem with its line and key
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from accelerators.errors import ToolError, UsageError


class MockError(ToolError):
    """A mock could not be made, changed or removed."""


class MockUsageError(MockError, UsageError):
    """What a mock should do is wrong."""

    kind = "usage"


@dataclass(frozen=True)
class Mistake:
    """One mistake in a scenario: its line (0 where there is none), its key, what is wrong."""

    line: int
    key: str
    message: str


class ScenarioError(MockUsageError):
    """A scenario file is wrong; the message lists every mistake.

    Attributes:
        details: the same for programs.
    """

    def __init__(self, source: str, mistakes: Sequence[Mistake], *, hint: str = ""):
        lines = [_line(source, mistake) for mistake in mistakes]
        if len(lines) > 1:
            lines = [f"{source} has {len(lines)} mistakes", *(f"  {line}" for line in lines)]
        super().__init__("scenario.invalid", "\n".join(lines), hint=hint, target=source)
        self.details: dict[str, Any] = {"mistakes": [dict(vars(m)) for m in mistakes]}


def _line(source: str, mistake: Mistake) -> str:
    place = f"{source}:{mistake.line}" if mistake.line else source
    return (
        f"{place}: {mistake.key}: {mistake.message}"
        if mistake.key
        else f"{place}: {mistake.message}"
    )
