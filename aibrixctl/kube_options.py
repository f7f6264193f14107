"""The options of every command that reaches a cluster."""

from typing import TYPE_CHECKING, Annotated

import typer

from aibrixctl import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cluster.access import Access
    from cluster.api import Api

Kubeconfig = Annotated[
    str | None,
    typer.Option(
        "--kubeconfig",
        metavar="FILE",
        help="Kubeconfig; by default $KUBECONFIG, the pod's account or ~/.kube/config.",
    ),
]
Context = Annotated[
    str | None, typer.Option("--context", metavar="NAME", help="Context of the kubeconfig.")
]
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", metavar="NAME", help="Namespace, in place of the context's."),
]
LongNamespace = Annotated[
    str | None,
    typer.Option("--namespace", metavar="NAME", help="Namespace, in place of the context's."),
]
"""For commands whose ``-n`` is a dry run."""
AllNamespaces = Annotated[bool, typer.Option("--all-namespaces", "-A", help="In every namespace.")]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Let the server check it and show what would change."),
]
DEFAULT_IMAGE = f"aibrixctl:{__version__}"
DEFAULT_ACCOUNT = "aibrixctl-worker"
Image = Annotated[
    str, typer.Option("--image", metavar="IMAGE", help="Image of the pods, with this tool in it.")
]
ServiceAccount = Annotated[
    str,
    typer.Option(
        "--service-account",
        metavar="NAME",
        help="Account of the pods, which may read and write ConfigMaps there.",
    ),
]


def refuse_unused(given: "Mapping[str, object]", *, hint: str) -> None:
    """Refuse options that reach a cluster where nothing is in one: they would have no effect.

    Raises:
        UsageError: one is given.
    """
    from accelerators.errors import UsageError

    named = ", ".join(option for option, value in given.items() if value)
    if named:
        text = f"{named} is for what is in a cluster, and nothing here is"
        raise UsageError("option.no_cluster", text, hint=hint, target=named)


def access(
    kubeconfig: str | None = None, context: str | None = None, namespace: str | None = None
) -> "Access":
    """Return the way into the cluster that the options name."""
    from cluster.access import Access

    return Access(kubeconfig, context, namespace)


def scope(api: "Api", *, all_namespaces: bool) -> str:
    """Return where was looked, as the end of a sentence that says that nothing is there."""
    return "in any namespace" if all_namespaces else f"in namespace {api.namespace}"
