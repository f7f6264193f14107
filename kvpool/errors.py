"""Errors of the KV pool tools, under the project's root error.

ToolError
└── KvPoolError               a pool, an entry or a copy failed
    ├── KvPoolUsageError      bad input: a URL, a key, a filter
    ├── InUseError            some entries were left, for readers are at work on them
    ├── UnsupportedError      the backend can't do what was asked; the message says why
    └── PoolUnreachableError  the pool did not answer or refused access
"""

from collections.abc import Sequence

from accelerators.errors import ToolError, UnreachableError, UsageError


class KvPoolError(ToolError):
    """A pool, an entry or a copy failed."""


class KvPoolUsageError(KvPoolError, UsageError):
    """The input of a pool command is wrong."""

    kind = "usage"


class UnsupportedError(KvPoolUsageError):
    """The backend has no way to do this."""


class InUseError(KvPoolError):
    """Entries could not be removed, because readers are at work on them; the others are gone.

    Attributes:
        keys: of those that were left.
        removed: how many are gone.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        hint: str = "",
        target: str = "",
        keys: Sequence[str] = (),
        removed: int = 0,
    ):
        super().__init__(code, message, hint=hint, target=target)
        self.keys = tuple(keys)
        self.removed = removed


class PoolUnreachableError(KvPoolError, UnreachableError):
    """A pool did not answer, or refused access."""

    kind = "unreachable"
