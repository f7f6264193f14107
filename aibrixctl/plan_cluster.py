"""``optimize plan --current k8s``: read the cluster, and lay what it says on the problem."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from accelerators.errors import UsageError

if TYPE_CHECKING:
    from cluster.access import Access
    from optimizer.fleet.snapshot import Snapshot
    from optimizer.problem import Problem

KUBERNETES = "k8s"
Deployments = Annotated[
    list[str] | None,
    typer.Option(
        "--deployment",
        metavar="TYPE=[NAMESPACE/]NAME,…",
        help="What runs a type, where it is not named like the type. Repeatable.",
    ),
]


def from_cluster(current: list[str] | None) -> bool:
    """Return whether ``--current`` names the cluster; raises UsageError where it mixes both."""
    if KUBERNETES not in (current or ()):
        return False
    if current != [KUBERNETES]:
        raise UsageError(
            "option.current",
            f"--current {KUBERNETES} and --current NAME=N exclude each other",
            target="--current",
        )
    return True


def assigned(option: str, texts: list[str] | None) -> dict[str, str]:
    """Return the names that ``a10=default/llama-a10,l20=llama-l20`` and the like assign.

    Raises:
        UsageError: no ``=``, a side is empty, or one type twice.
    """
    found: dict[str, str] = {}
    for item in (item.strip() for text in texts or () for item in text.split(",")):
        name, _, value = (part.strip() for part in item.partition("="))
        if not name or not value or name in found:
            raise UsageError(
                "option.assignment",
                f"{option} {item!r} is not TYPE=NAME, or names a type again",
                hint=f"e.g. {option} l20=default/llama-l20",
                target=option,
            )
        found[name] = value
    return found


def read_cluster(
    problem: "Problem", access: "Access", named: Mapping[str, str], given: Mapping[str, int]
) -> "Snapshot":
    """Return what the cluster says about the types of a problem.

    Raises:
        UsageError: ``named`` knows other types, or workloads that are not there.
        ToolError: the cluster does not answer, or refuses.
    """
    from cluster.access import connect
    from optimizer.fleet.snapshot import read_snapshot
    from optimizer.fleet.workloads import measured_on
    from optimizer.problem import check_names

    check_names("--deployment", named, [kind.name for kind in problem.types])
    with connect(access) as api:
        return read_snapshot(
            api,
            problem.types,
            problem.model,
            named=named,
            measured=measured_on(problem.inputs),
            given=given,
        )


def noted(problem: "Problem", snapshot: "Snapshot") -> "Problem":
    """Return the problem with what was seen of the cluster among its inputs and warnings."""
    return replace(
        problem,
        inputs=problem.inputs | {"cluster": snapshot.to_json()},
        warnings=(*problem.warnings, *snapshot.notes()),
    )
