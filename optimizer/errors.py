"""Errors of the optimizer, under the project's root error.

ToolError
└── OptimizerError
    ├── OptimizerUsageError   bad input
    └── InfeasibleError       no plan meets the limits
"""

from collections.abc import Mapping
from typing import Any

from accelerators.errors import ToolError, UsageError


class OptimizerError(ToolError):
    """A workload, a problem or a plan failed."""


class OptimizerUsageError(OptimizerError, UsageError):
    """The input of a plan is wrong."""

    kind = "usage"


class InfeasibleError(OptimizerError):
    """No plan meets the limits; the message and hint name what would.

    Attributes:
        details: the same for programs: ``unserved`` buckets and ``relaxations``.
    """

    kind = "infeasible"

    def __init__(
        self,
        code: str,
        message: str,
        *,
        hint: str = "",
        target: str | None = None,
        details: Mapping[str, Any] | None = None,
    ):
        super().__init__(code, message, hint=hint, target=target)
        self.details: dict[str, Any] = dict(details or {})
