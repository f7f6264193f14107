"""Errors of the profiler, under the project's root error.

ToolError
└── ProfilerError          a probe, a table or an engine failed
    ├── ProfilerUsageError       bad input
    ├── EngineUnreachableError   the engine did not answer or refused access
    └── ShardLostError           one of several clients was gone before the load began
"""

from accelerators.errors import ToolError, UnreachableError, UsageError


class ProfilerError(ToolError):
    """A measurement, a table or an engine failed."""


class ProfilerUsageError(ProfilerError, UsageError):
    """The input of a measurement is wrong."""

    kind = "usage"


class EngineUnreachableError(ProfilerError, UnreachableError):
    """An engine did not answer, or refused access."""

    kind = "unreachable"


class ShardLostError(ProfilerError):
    """One of several clients of a load was gone before it began; nothing was measured."""
