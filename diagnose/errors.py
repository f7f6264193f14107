"""Errors of diagnose, under the project's root error.

ToolError
└── DiagnoseError           a diagnosis could not be made
    ├── DiagnoseUsageError      bad input: an unknown check, code or actions file
    ├── NoAcceleratorError      there is nothing to check
    └── StoppedError            the caller asked to stop before there was a result
"""

from accelerators.errors import ToolError, UnreachableError, UsageError


class DiagnoseError(ToolError):
    """A diagnosis could not be made."""


class DiagnoseUsageError(DiagnoseError, UsageError):
    """The input of a diagnosis is wrong."""

    kind = "usage"


class NoAcceleratorError(DiagnoseError, UnreachableError):
    """The machine shows no accelerator at all, and nothing checked is not healthy."""

    kind = "unreachable"


class StoppedError(DiagnoseError):
    """Whoever asked for a diagnosis asked it to stop, and there is no result."""
