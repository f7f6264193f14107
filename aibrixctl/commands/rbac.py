"""``aibrixctl rbac print``."""

from typing import TYPE_CHECKING, Annotated

import typer

from aibrixctl.command import command
from aibrixctl.result import Result

if TYPE_CHECKING:
    from rich.console import Console


@command(
    "rbac print",
    examples=(
        ("aibrixctl rbac print --for 'diagnose fleet'", "what an observer needs"),
        (
            "aibrixctl rbac print --namespace serving --account planner --for 'optimize plan' "
            "--for 'optimize apply'",
            "an account that plans and applies",
        ),
    ),
)
def print_(
    commands: Annotated[
        list[str] | None,
        typer.Option(
            "--for",
            metavar="COMMAND",
            help="Of this command, e.g. 'optimize apply'; all by default. Repeatable.",
        ),
    ] = None,
    namespace: Annotated[
        str,
        typer.Option(
            "--namespace", "-n", metavar="NAME", help="Where the account lives and works."
        ),
    ] = "default",
    all_namespaces: Annotated[
        bool,
        typer.Option(
            "--all-namespaces", "-A", help="Let it read in every namespace, for commands with -A."
        ),
    ] = False,
    account: Annotated[
        str, typer.Option("--account", metavar="NAME", help="Name of the service account.")
    ] = "aibrixctl",
) -> Result:
    """Print the service account, roles and bindings that commands need, and no more.

    The manifests go to stdout, for `kubectl apply -f -`. Commands that start Jobs also get the
    account of those Jobs, which may write ConfigMaps and nothing else.
    """
    from cluster.rights import manifests, needs_of

    needs = needs_of(commands or ())
    if all_namespaces:
        needs = {name: need.everywhere() for name, need in needs.items()}
    made = manifests(needs.values(), namespace=namespace, account=account)

    def view(console: "Console", wide: bool) -> None:
        import yaml

        console.out(f"# for: {', '.join(needs)}")
        console.out(yaml.safe_dump_all(made, sort_keys=False), end="")

    rows = [
        {
            "command": name,
            "group": right.kind.group,
            "resource": right.resource,
            "verbs": list(right.verbs),
            "scope": "cluster" if right.cluster_wide else right.within or namespace,
        }
        for name, need in needs.items()
        for right in need.rights
    ]
    return Result(
        {"commands": list(needs), "manifests": made}, rows=rows, record="right", view=view
    )
