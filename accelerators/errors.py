"""The root of every error that the tool raises on purpose.

    ToolError
    ├── accelerators.AcceleratorError
    ├── cluster.errors.ClusterError
    ├── profiler.errors.ProfilerError
    ├── optimizer.errors.OptimizerError
    └── kvpool.errors.KvPoolError

A library raises; only the command line turns an error into text and an exit code.
"""

from typing import ClassVar, Literal

Kind = Literal["failure", "usage", "partial", "infeasible", "slo_not_met", "unreachable"]


class ToolError(Exception):
    """An error that a user can act on.

    Attributes:
        code: stable dotted name for scripts, such as ``table.version``.
        message: what was found and what was expected.
        hint: what to do next; may be empty.
        target: the file, URL, option or cell that the error is about; may be None.
        kind: class of the error; the command line maps it to an exit code.
    """

    kind: ClassVar[Kind] = "failure"

    def __init__(self, code: str, message: str, *, hint: str = "", target: str | None = None):
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.target = target


class UsageError(ToolError):
    """The caller's input is wrong: a value, an option, a file's content."""

    kind = "usage"


class UnreachableError(ToolError):
    """A target did not answer or refused access."""

    kind = "unreachable"
