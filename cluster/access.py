"""The way into a cluster: a kubeconfig, or the service account of the pod we run in."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.errors import ClusterUnreachableError, ClusterUsageError
from cluster.objects import check_namespace
from cluster.transport import Limits, Transport

if TYPE_CHECKING:
    from cluster.api import Api

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_DEFAULT = "~/.kube/config"


@dataclass(frozen=True)
class Access:
    """Where the cluster is.

    Attributes:
        kubeconfig: file, or several joined by ``:``; by default $KUBECONFIG, else the service
            account of this pod, else ~/.kube/config.
        context: of the kubeconfig; its current one by default.
        namespace: in place of the context's.
    """

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None

    def with_namespace(self, namespace: str) -> "Access":
        """Return the way to the same cluster, into another namespace."""
        return replace(self, namespace=namespace)

    def options(self) -> tuple[str, ...]:
        """Return the options that reach the same cluster, for commands that we print."""
        named = (
            ("--kubeconfig", self.kubeconfig),
            ("--context", self.context),
            ("--namespace", self.namespace),
        )
        return tuple(word for option, value in named if value for word in (option, value))


@contextmanager
def connect(access: Access | None = None, limits: Limits | None = None) -> "Iterator[Api]":
    """Give the API of a cluster for the block.

    Args:
        access: where the cluster is.
        limits: how long to wait, and how often to try.

    Raises:
        ClusterUsageError: the kubeconfig can't be read or lacks the context, or nothing can be
            called like the namespace.
        ClusterUnreachableError: there is no cluster to speak to, or the way to sign in fails.
    """
    from cluster.api import Api

    access = access or Access()
    if access.namespace:
        check_namespace(access.namespace)
    configuration, namespace = _configuration(access)
    transport = Transport(configuration, limits or Limits())
    try:
        yield Api(transport, access.namespace or namespace)
    finally:
        transport.close()


def _configuration(access: Access) -> tuple[Any, str]:
    """Return the official client's configuration, and the namespace it comes with."""
    from kubernetes import client

    configuration = client.Configuration()
    if access.kubeconfig is None and "KUBECONFIG" not in os.environ and in_cluster():
        return configuration, _from_account(configuration)
    return configuration, _from_file(configuration, access)


def in_cluster() -> bool:
    """Return whether we run in a pod with a service account."""
    return "KUBERNETES_SERVICE_HOST" in os.environ and (_ACCOUNT / "token").is_file()


def _from_account(configuration: Any) -> str:
    from kubernetes.config import ConfigException, load_incluster_config

    try:
        load_incluster_config(client_configuration=configuration)
    except ConfigException as error:
        raise ClusterUnreachableError(
            "cluster.account", f"the pod's service account can't be used: {error}"
        ) from error
    name = _ACCOUNT / "namespace"
    return name.read_text().strip() if name.is_file() else "default"


def _from_file(configuration: Any, access: Access) -> str:
    import yaml
    from kubernetes.config import ConfigException, list_kube_config_contexts, load_kube_config

    named = access.kubeconfig or os.environ.get("KUBECONFIG") or _DEFAULT
    files = [Path(file).expanduser() for file in named.split(os.pathsep) if file]
    if not any(file.exists() for file in files):
        raise ClusterUsageError(
            "cluster.kubeconfig",
            f"there is no kubeconfig at {named}",
            hint="give one with --kubeconfig or KUBECONFIG, or run in a pod with an account",
            target=named,
        )
    joined = os.pathsep.join(map(str, files))
    try:
        contexts, current = list_kube_config_contexts(config_file=joined)
        known = {one["name"]: one["context"] for one in contexts}
        if access.context is not None and access.context not in known:
            raise ClusterUsageError(
                "cluster.context",
                f"{named} has no context {access.context!r}; it has {', '.join(sorted(known))}",
                target=access.context,
            )
        load_kube_config(
            config_file=joined, context=access.context, client_configuration=configuration
        )
    except ConfigException as error:
        raise ClusterUsageError(
            "cluster.kubeconfig", f"{named} can't be used: {error}", target=named
        ) from error
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        # What the client raises for a file that is no kubeconfig at all.
        raise ClusterUsageError(
            "cluster.kubeconfig",
            f"{named} is not a kubeconfig: {type(error).__name__}: {error}",
            target=named,
        ) from error
    chosen = known[access.context] if access.context else current["context"]
    return str(chosen.get("namespace") or "default")
