"""Errors of a rollout.

OptimizerError
├── RefusedError   it was not begun: something speaks against it
├── ChangedError   an object is not as it was read; somebody else writes it
├── LateError      replicas were not ready in time
├── JournalError   the journal is of another run, damaged, or in use
└── StoppedError   a signal asked to stop; resumable
"""

from optimizer.errors import OptimizerError, OptimizerUsageError


class RefusedError(OptimizerError):
    """The rollout was not begun, because of what stands in the message."""


class ChangedError(OptimizerError):
    """An object is no longer what the plan, or the rollout, saw."""


class LateError(OptimizerError):
    """Replicas were not ready in time."""


class JournalError(OptimizerUsageError):
    """The journal can't be used for this."""


class StoppedError(OptimizerError):
    """A signal arrived between two steps."""
