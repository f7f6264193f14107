"""Diagnose the nodes of a cluster, a Job on each, and gather what they say."""

import secrets
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing

from cluster.api import Api
from cluster.jobs import JobSpec, run_all
from diagnose.nodes.node import Node
from diagnose.nodes.pods import PodOptions, job_for
from diagnose.nodes.report import NodeReport, parse, unanswered


def scan(
    api: Api,
    nodes: Sequence[Node],
    options: PodOptions,
    *,
    parallel: int = 16,
    stop: threading.Event | None = None,
    grace_s: float = 30.0,
    waiting: Callable[[Mapping[str, str]], None] = lambda _: None,
) -> Generator[NodeReport, None, None]:
    """Yield the report of each node as it comes; close it, and its Jobs go.

    Args:
        api: the cluster; the Jobs run in the connection's namespace.
        nodes: to diagnose; a node whose kubelet is silent gets no Job.
        options: of the pods.
        parallel: most Jobs at a time.
        stop: when set, no more is started or awaited; what has not answered is not reported.
        grace_s: past the deadline, for Kubernetes to end a Job by itself.
        waiting: told by node what its pod waits for, when that changes.

    Raises:
        ClusterError: Jobs can't be created or followed.
    """
    run = secrets.token_hex(4)
    by_job: dict[str, Node] = {}
    specs: list[JobSpec] = []
    for node in nodes:
        if node.silent is not None:
            yield unanswered(node, f"its kubelet does not report: {node.silent}")
            continue
        spec = job_for(node, run, options)
        by_job[spec.name] = node
        specs.append(spec)
    if not specs:
        return
    outcomes = run_all(
        api,
        specs,
        parallel=parallel,
        stop=stop,
        grace_s=grace_s,
        waiting=lambda found: waiting({by_job[job].name: why for job, why in found.items()}),
    )
    with closing(outcomes):
        for outcome in outcomes:
            node = by_job[outcome.name]
            if outcome.document is None:
                yield unanswered(node, outcome.failure or "no reason given")
            else:
                yield parse(node, outcome.document)
