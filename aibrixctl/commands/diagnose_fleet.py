"""``aibrixctl diagnose fleet``: what serves models in a cluster, and what blocks it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aibrixctl import kube_options
from aibrixctl.command import command
from aibrixctl.exit_codes import ExitCode
from aibrixctl.result import Problem, Result

if TYPE_CHECKING:
    from rich.console import Console

    from diagnose.fleet.members import Member
    from diagnose.fleet.survey import Fleet, Surveyed

_MOST_MEMBERS = 10
"""Drawn of one workload, unless everything is asked for."""


@command(
    "diagnose fleet",
    examples=(
        ("aibrixctl diagnose fleet", "the namespace of the context"),
        ("aibrixctl diagnose fleet -A -o wide", "every namespace, with every member"),
    ),
)
def fleet(
    all_namespaces: kube_options.AllNamespaces = False,
    namespace: kube_options.Namespace = None,
    context: kube_options.Context = None,
    kubeconfig: kube_options.Kubeconfig = None,
) -> Result:
    """Show what serves models in a cluster: wanted, ready and updated, and what blocks it.

    StormService, RoleSet, PodSet, RayClusterFleet, RayClusterReplicaSet, ModelAdapter,
    PodAutoscaler, KVCache (whose pods are counted, for its status is never written), and
    Deployments with the label model.aibrix.ai/name. Of what is not whole, the members that are
    missing or not ready are named, where they run, and what is wrong with that node, the
    AcceleratorHealthy condition of `diagnose cluster --apply` first.

    Exit codes: 0 nothing is blocked, 10 something is, 13 no access.
    """
    from cluster.access import connect
    from cluster.api import ALL
    from diagnose.fleet.survey import survey

    with connect(kube_options.access(kubeconfig, context, namespace)) as api:
        found = survey(api, ALL if all_namespaces else None)
        where = kube_options.scope(api, all_namespaces=all_namespaces)
    blocked = found.blocked
    named = ", ".join(f"{one.kind} {one.namespace}/{one.name}" for one in blocked)
    text = f"{len(blocked)} of {len(found.workloads)} workloads are not whole: {named}"
    error = Problem("diagnose.blocked", text)
    return Result(
        {"workloads": [_json(one) for one in found.workloads], "notes": list(found.notes)},
        rows=[_json(one) for one in found.workloads],
        record="workload",
        view=lambda console, wide: _draw(console, found, where, wide=wide),
        exit_code=ExitCode.FAULTS_FOUND if blocked else ExitCode.OK,
        errors=(error,) if blocked else (),
        warnings=tuple(Problem("diagnose.not_looked_at", note) for note in found.notes),
    )


def _json(one: "Surveyed") -> dict[str, Any]:
    workload = one.workload
    return {
        "kind": workload.kind,
        "namespace": workload.namespace,
        "name": workload.name,
        "controlled": not one.top,
        "wanted": workload.wanted,
        "ready": workload.ready,
        "updated": workload.updated,
        "blocks": [vars(block) for block in workload.blocks],
        "members": [vars(member) for member in one.members],
    }


def _draw(console: "Console", found: "Fleet", where: str, *, wide: bool) -> None:
    from aibrixctl.render import table_of

    if not found.workloads:
        console.print(f"Nothing serves models {where}", soft_wrap=True)
        return
    console.print(table_of([_line(one) for one in found.workloads]))
    for one in found.workloads:
        if one.members and (one.top or wide):
            workload = one.workload
            console.print(f"\n{workload.kind} {workload.namespace}/{workload.name}", style="bold")
            shown = one.members if wide else one.members[:_MOST_MEMBERS]
            for line in _grouped(shown):
                console.print(f"  {line}", soft_wrap=True)
            if len(shown) < len(one.members):
                console.print(f"  and {len(one.members) - len(shown)} more (-o wide)")


def _line(one: "Surveyed") -> dict[str, Any]:
    workload = one.workload
    blocks = "; ".join(
        f"{block.condition} {block.reason}".strip() + f": {block.message}"
        for block in workload.blocks
    )
    return {
        "kind": workload.kind,
        "name": f"{workload.namespace}/{workload.name}",
        "wanted": workload.wanted,
        "ready": workload.ready,
        "updated": workload.updated,
        "blocked by": blocks or None,
    }


def _grouped(members: "tuple[Member, ...]") -> Iterator[str]:
    """Yield a line per member; members of which nothing is known but that they miss share one."""
    missing: dict[str, int] = {}
    for member in members:
        if member.state == "missing" and member.number is None:
            missing[member.group] = missing.get(member.group, 0) + 1
    for member in members:
        if member.state == "missing" and member.number is None:
            if member.group in missing:
                yield f"{member.group}: {missing.pop(member.group)} missing, without a pod"
            continue
        number = "" if member.number is None else f" {member.number}"
        place = f"pod {member.pod} on {member.node or 'no node'}" if member.pod else "no pod"
        why = f": {member.why}" if member.why else ""
        node = f"; node: {member.node_says}" if member.node_says else ""
        yield f"{member.group}{number} {member.state.upper()}: {place}{why}{node}"
