"""Whether a namespace is there: the API server lists nothing in one that is not, without a word."""

from contextlib import suppress

from cluster.api import AllNamespaces, Api, Where
from cluster.errors import ForbiddenError
from cluster.kinds import NAMESPACE


def require_namespace(api: Api, namespace: Where = None) -> None:
    """Refuse a namespace that is not there, once nothing was found in it.

    An account that may not get namespaces is not told.

    Args:
        api: the cluster.
        namespace: one, ALL, or that of the connection.

    Raises:
        NotFoundError: there is no such namespace.
        ClusterError: the server fails.
    """
    if isinstance(namespace, AllNamespaces):
        return
    with suppress(ForbiddenError):
        api.get(NAMESPACE, namespace or api.namespace)
