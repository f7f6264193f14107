"""Errors of a cluster, under the project's root error.

ToolError
└── ClusterError                 the API server refused or failed
    ├── ClusterUsageError        bad input: a kubeconfig, a name, an object
    ├── NotFoundError            there is no such object, or no such resource type
    ├── ConflictError            the object is another one than was read, or another's field
    ├── LeftBehindError          what a command had made could not be removed
    ├── ExpiredError             the list or watch is too old to go on (410)
    └── ClusterUnreachableError  nothing answers
        └── ForbiddenError       access refused; the message names the verb and the resource
"""

from accelerators.errors import ToolError, UnreachableError, UsageError


class ClusterError(ToolError):
    """The API server refused a request, or failed."""


class ClusterUsageError(ClusterError, UsageError):
    """What was asked of the cluster is malformed."""

    kind = "usage"


class NotFoundError(ClusterError):
    """There is no such object, or the cluster does not know its type."""


class ConflictError(ClusterError):
    """The object has changed since it was read, exists already, or a field has another owner."""


class LeftBehindError(ClusterError):
    """What was made could not be removed; the message names it, the hint says how."""


class ExpiredError(ClusterError):
    """The version that a list or watch goes on from is no longer kept."""


class ClusterUnreachableError(ClusterError, UnreachableError):
    """No API server answers, or it refuses to know us."""

    kind = "unreachable"


class ForbiddenError(ClusterUnreachableError):
    """RBAC refuses a verb on a resource."""
