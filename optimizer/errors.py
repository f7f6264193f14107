"""Errors of the optimizer, under the project's root error.

ToolError
└── OptimizerError
    ├── OptimizerUsageError   bad input
    └── InfeasibleError       no plan meets the limits
"""

from accelerators.errors import ToolError, UsageError


class OptimizerError(ToolError):
    """A workload, a problem or a plan failed."""


class OptimizerUsageError(OptimizerError, UsageError):
    """The input of a plan is wrong."""

    kind = "usage"


class InfeasibleError(OptimizerError):
    """No plan meets the limits; the message and hint name what would."""

    kind = "infeasible"
