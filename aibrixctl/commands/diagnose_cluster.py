"""``aibrixctl diagnose cluster``: every accelerator node, and what follows from it."""

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, cast

import typer

from aibrixctl import choices, kube_options
from aibrixctl.command import command, session
from aibrixctl.diagnose_options import ChosenChecks, Since, SkippedChecks, Timeout
from aibrixctl.result import Result
from aibrixctl.signals import StopFlag, interruptible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from accelerators.errors import ToolError
    from aibrixctl.node_view import Scan, Work
    from cluster.api import Api
    from diagnose.nodes.changes import Marked
    from diagnose.nodes.mark import How, Policy
    from diagnose.nodes.pods import PodOptions
    from diagnose.nodes.report import NodeReport

_HOWS = ("condition", "taint", "cordon")


@command(
    "diagnose cluster",
    examples=(
        ("aibrixctl diagnose cluster", "every accelerator node, without changing any"),
        (
            "aibrixctl diagnose cluster --apply cordon --max-unavailable 1 --dry-run",
            "what would be told to the cluster, and which node would be closed",
        ),
        ("aibrixctl diagnose cluster --undo", "take back all that was changed on the nodes"),
    ),
)
def cluster(
    nodes: Annotated[
        str,
        typer.Option(
            "--nodes",
            metavar="SELECTOR",
            help="Only those of the accelerator nodes whose labels match.",
        ),
    ] = "",
    apply: Annotated[
        str | None,
        typer.Option(
            "--apply",
            metavar="condition|taint|cordon",
            help="Tell the cluster: the AcceleratorHealthy condition and Events on each node; "
            "taint and cordon also keep new pods off nodes with fatal faults.",
            autocompletion=choices.one_of(*_HOWS),
        ),
    ] = None,
    max_unavailable: Annotated[
        str | None,
        typer.Option(
            "--max-unavailable",
            metavar="N|P%",
            help="Most accelerator nodes out of service at once, those included that are already; "
            "1 or 10% by default, whichever is more.",
        ),
    ] = None,
    return_healed: Annotated[
        bool,
        typer.Option(
            "--return-healed",
            help="With --apply: open again nodes that it closed and that are healthy now.",
        ),
    ] = False,
    undo: Annotated[
        bool,
        typer.Option(
            "--undo", help="Diagnose nothing; restore on the nodes what --apply has changed."
        ),
    ] = False,
    parallel: Annotated[
        int, typer.Option("--parallel", metavar="N", min=1, help="Most nodes at a time.")
    ] = 16,
    deadline: Annotated[
        str, typer.Option("--deadline", metavar="TIME", help="For each node to answer.")
    ] = "3m",
    image: kube_options.Image = kube_options.DEFAULT_IMAGE,
    service_account: kube_options.ServiceAccount = kube_options.DEFAULT_ACCOUNT,
    runtime_class: Annotated[
        str | None,
        typer.Option(
            "--runtime-class",
            metavar="NAME",
            help="RuntimeClass that gives containers the driver, where the default one does not; "
            "often nvidia.",
        ),
    ] = None,
    unprivileged: Annotated[
        bool,
        typer.Option(
            "--unprivileged",
            help="Run the pods as nobody: without the kernel log, and with the devices only that "
            "the runtime gives.",
        ),
    ] = False,
    checks: ChosenChecks = None,
    skip: SkippedChecks = None,
    timeout: Timeout = "10s",
    since: Since = None,
    dry_run: kube_options.DryRun = False,
    namespace: kube_options.Namespace = None,
    context: kube_options.Context = None,
    kubeconfig: kube_options.Kubeconfig = None,
) -> Result:
    """Diagnose the accelerators of every node of a cluster, by a Job on each.

    A node that does not answer is named with what kept it. Nothing is changed without --apply; what
    --apply changes is recorded on the node, and --undo restores just that, from any machine. A
    healed node's condition goes to True; it stays closed until --undo or --return-healed.

    Exit codes: 0 healthy, 10 faults found, 3 some nodes or checks gave no answer or some changes
    failed, 13 no accelerator nodes or no access.
    """
    from cluster.access import connect

    policy = _policy(apply, max_unavailable, return_healed=return_healed, undo=undo)
    pods = _pods(
        deadline, image, service_account, runtime_class, checks, skip, timeout, since,
        privileged=not unprivileged,
    )  # fmt: skip
    with (
        connect(kube_options.access(kubeconfig, context, namespace)) as api,
        interruptible() as stop,
    ):
        if undo:
            return _undo(api, nodes, stop, dry_run=dry_run)
        scan = _scan(api, nodes, pods, parallel, stop)
        work = _apply(api, scan.reports, policy, stop, dry_run=dry_run)
        from aibrixctl.node_view import result

        return result(scan, work, stop, policy=policy, dry_run=dry_run)


def _policy(
    apply: str | None, max_unavailable: str | None, *, return_healed: bool, undo: bool
) -> "Policy | None":
    """Return what may be changed; None for nothing."""
    from accelerators.errors import UsageError
    from diagnose.nodes.mark import Policy
    from diagnose.nodes.service import Limit, parse_limit

    if apply is not None and apply not in _HOWS:
        raise UsageError(
            "option.apply", f"--apply is {apply!r}; expected condition, taint or cordon"
        )
    if undo and apply:
        raise UsageError("option.conflict", "--undo and --apply exclude each other")
    limit = Limit() if max_unavailable is None else parse_limit(max_unavailable)
    if apply is None:
        if return_healed or max_unavailable is not None:
            raise UsageError(
                "option.apply",
                "--return-healed and --max-unavailable say how to change nodes; expected --apply",
            )
        return None
    return Policy(cast("How", apply), limit, return_healed)


def _pods(
    deadline: str,
    image: str,
    service_account: str,
    runtime_class: str | None,
    checks: str | None,
    skip: str | None,
    timeout: str,
    since: str | None,
    *,
    privileged: bool,
) -> "PodOptions":
    from accelerators.errors import UsageError
    from aibrixctl import quantities
    from aibrixctl.diagnose_options import options_of
    from diagnose.nodes.pods import PodOptions

    chosen = options_of(
        accelerator="auto", expect_gpus=None, expect=None, checks=checks, skip=skip,
        timeout=timeout, kernel_log=None, since=since, actions=None,
    )  # fmt: skip
    deadline_s = quantities.duration("--deadline", deadline)
    if deadline_s <= chosen.timeout_s:
        raise UsageError(
            "option.deadline",
            f"--deadline is {deadline}; expected more than --timeout, which is {timeout}",
        )
    words = ["--timeout", timeout]
    words += ["--checks", ",".join(sorted(chosen.checks))] if chosen.checks else []
    words += ["--since", since] if since else []
    return PodOptions(
        image,
        round(deadline_s),
        service_account,
        runtime_class,
        privileged,
        sorted(chosen.skip),
        words,
    )


def _scan(api: "Api", selector: str, pods: "PodOptions", parallel: int, stop: StopFlag) -> "Scan":
    from aibrixctl.node_view import Scan
    from cluster.errors import LeftBehindError
    from diagnose.errors import NoAcceleratorError
    from diagnose.nodes.node import read
    from diagnose.nodes.scan import scan

    found = list(read(api, selector))
    nodes = [node for node in found if node.families]
    if not nodes:
        where = f" with labels {selector}" if selector else ""
        by_labels = "--nodes selects by labels: kubernetes.io/hostname=NAME; " if selector else ""
        raise NoAcceleratorError(
            "diagnose.no_accelerator_nodes",
            f"no node{where} has NVIDIA or Ascend accelerators, by its capacity or its labels",
            hint=by_labels + "`kubectl describe nodes` shows what the device plugins registered",
            target=selector or None,
        )
    reporter, reports = session().reporter, []
    reporter.detail(f"{len(nodes)} nodes, at most {parallel} at a time")
    left_behind: ToolError | None = None
    reading = scan(api, nodes, pods, parallel=parallel, stop=stop, waiting=_tell_waiting)
    with reporter.progress("diagnosing", len(nodes)) as bar, closing(reading):
        try:
            for report in reading:
                reports.append(report)
                bar.update(len(reports), text=f"{report.node}: {report.verdict}")
        except LeftBehindError as error:
            left_behind = error
    reports.sort(key=lambda one: one.node)
    unsupported = tuple(node.name for node in found if not node.families)
    return Scan(tuple(nodes), tuple(reports), unsupported, left_behind)


def _tell_waiting(found: "Mapping[str, str]") -> None:
    for node, why in sorted(found.items()):
        session().reporter.say(f"waiting for {node}: {why}")


def _apply(
    api: "Api",
    reports: "Sequence[NodeReport]",
    policy: "Policy | None",
    stop: StopFlag,
    *,
    dry_run: bool,
) -> "Work":
    """Show what will be changed, as the server checks it, then change it."""
    from aibrixctl.node_view import Work
    from diagnose.nodes.mark import mark

    if policy is None:
        return Work()
    planned = _shown(mark(api, reports, policy, dry_run=True, stop=stop), dry_run=dry_run)
    if dry_run:
        return Work(planned)
    refused = tuple(one for one in planned if one.error and one.error.kind == "unreachable")
    if refused:
        return Work(refused, announced=_changing(planned))
    return Work(tuple(mark(api, reports, policy, stop=stop)), announced=_changing(planned))


def _undo(api: "Api", selector: str, stop: StopFlag, *, dry_run: bool) -> Result:
    from aibrixctl.node_view import Scan, Work, result
    from diagnose.nodes.undo import undo

    planned = _shown(undo(api, selector, dry_run=True, stop=stop), dry_run=dry_run)
    work = Work(planned)
    if not dry_run:
        work = Work(tuple(undo(api, selector, stop=stop)), announced=_changing(planned))
    return result(Scan(), work, stop, policy=None, dry_run=dry_run, undone=True)


def _shown(marked: "Iterator[Marked]", *, dry_run: bool) -> "tuple[Marked, ...]":
    planned = []
    for one in marked:
        for change in one.changes:
            session().reporter.say(f"{'would' if dry_run else 'will'} change {one.node}: {change}")
        planned.append(one)
    return tuple(planned)


def _changing(planned: "tuple[Marked, ...]") -> tuple[str, ...]:
    return tuple(one.node for one in planned if one.changes)
