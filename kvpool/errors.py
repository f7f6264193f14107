"""Errors of the KV pool tools, under the project's root error.

ToolError
└── KvPoolError               a pool, an entry or a copy failed
    ├── KvPoolUsageError      bad input: a URL, a key, a filter
    ├── UnsupportedError      the backend can't do what was asked; the message says why
    └── PoolUnreachableError  the pool did not answer or refused access
"""

from accelerators.errors import ToolError, UnreachableError, UsageError


class KvPoolError(ToolError):
    """A pool, an entry or a copy failed."""


class KvPoolUsageError(KvPoolError, UsageError):
    """The input of a pool command is wrong."""

    kind = "usage"


class UnsupportedError(KvPoolUsageError):
    """The backend has no way to do this."""


class PoolUnreachableError(KvPoolError, UnreachableError):
    """A pool did not answer, or refused access."""

    kind = "unreachable"
