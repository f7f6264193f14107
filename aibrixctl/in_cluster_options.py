"""Options of the commands that measure an engine in a cluster, and what they ask for together."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cluster.access import Access
    from profiler.in_cluster.jobs import JobOptions
    from profiler.in_cluster.targets import Via

PortForward = Annotated[
    bool,
    typer.Option(
        "--port-forward",
        help="Measure a k8s: target from here, through kubectl port-forward, in place of Jobs. Its "
        "latency is in the figures, and they say so.",
    ),
]
TokenSecret = Annotated[
    str | None,
    typer.Option(
        "--token-secret",
        metavar="NAME[/KEY]",
        help="Secret with the engine's API key, for Jobs.  [default key: token]",
    ),
]
StartTimeout = Annotated[
    str,
    typer.Option(
        "--start-timeout", metavar="TIME", help="Within which the pods of a load must be ready."
    ),
]
DEFAULT_START_TIMEOUT = "5m"


@dataclass(frozen=True)
class InCluster:
    """How to measure a target of a cluster.

    Attributes:
        access: the cluster.
        via: a Job or a port-forward.
        jobs: what the Jobs are like.
    """

    access: "Access"
    via: "Via"
    jobs: "JobOptions"


def in_cluster(
    access: "Access",
    *,
    port_forward: bool,
    image: str,
    service_account: str,
    token_secret: str | None,
    start_timeout: str,
    local_files: bool,
) -> InCluster:
    """Return what the options ask for.

    Args:
        access: the cluster.
        port_forward: measure from here.
        image: of the Jobs.
        service_account: of the Jobs.
        token_secret: with the engine's API key.
        start_timeout: within which the pods must be ready.
        local_files: a key or certificates were given as files of this machine.

    Raises:
        UsageError: a file of this machine is meant for pods.
    """
    from accelerators.errors import UsageError
    from aibrixctl.quantities import duration
    from profiler.in_cluster.jobs import JobOptions

    if local_files and not port_forward:
        raise UsageError(
            "k8s.local_file",
            "--token-file and --ca-file name files of this machine; the load comes from pods",
            hint="name a Secret of the engine's namespace with --token-secret",
        )
    options = JobOptions(
        image=image,
        service_account=service_account,
        start_timeout_s=duration("--start-timeout", start_timeout),
        token_secret=token_secret,
    )
    return InCluster(access, "port-forward" if port_forward else "job", options)
