"""Options of the mock-fail commands, and what they mean together."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from aibrixctl import choices

if TYPE_CHECKING:
    from mockfail.environment import Record
    from mockfail.plan import Plan

Scenarios = Annotated[
    list[str] | None,
    typer.Option(
        "--scenario",
        "-s",
        metavar="NAME|FILE",
        help="A built-in scenario (`mock-fail list`), or a TOML file. Repeatable.",
        autocompletion=choices.scenarios,
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="One reading: gpus.0.temperature_c=97, gpus.*.nvlinks.3.active=false, gpus.1.xid=79, "
        "npus.0.codes=80E01801, node.init_error=9. Repeatable.",
    ),
]
NodeSpec = Annotated[
    str | None,
    typer.Option(
        "--node",
        metavar="TYPExN",
        help="Simulate this node: h100x8, a10x4, a10x2,l4x2, 910bx8. Without it, the real devices "
        "where there are any, else the scenario's node.",
    ),
]
ModeName = Annotated[
    str,
    typer.Option(
        "--mode",
        metavar="auto|overlay|standalone",
        help="Lay the faults over the real devices, or simulate all.",
        autocompletion=choices.one_of("auto", "overlay", "standalone"),
    ),
]
OnDevice = Annotated[
    int | None,
    typer.Option(
        "--device", metavar="N", help="Move the scenarios' faults to this GPU or NPU.", min=0
    ),
]
Kmsg = Annotated[
    bool,
    typer.Option("--kmsg", help="Write XIDs to the machine's own kernel log too. Needs root."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", "-n", help="Say what would be done, and do nothing.")
]
Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="Name of the mock.", autocompletion=choices.mocks),
]


def planned(
    scenarios: list[str] | None,
    sets: list[str] | None,
    node: str | None,
    mode: str,
    device: int | None,
) -> "Plan":
    """Return the mock that the options ask for; raises UsageError for what is wrong with them."""
    from accelerators.errors import UsageError
    from mockfail import plan

    if mode not in ("auto", "overlay", "standalone"):
        raise UsageError("option.mode", f"--mode is {mode!r}; expected auto, overlay or standalone")
    wanted = plan.asked(scenarios or (), sets or (), device)
    chosen = cast(Literal["auto", "overlay", "standalone"], mode)
    return plan.plan(wanted, node, chosen)


def check_kmsg(wanted: bool) -> None:
    """Refuse --kmsg where the kernel log can't be written, before anything starts."""
    import os

    from accelerators.errors import UsageError
    from mockfail.kernel_log import KMSG

    if wanted and not os.access(KMSG, os.W_OK):
        raise UsageError(
            "option.kmsg", f"--kmsg: {KMSG} can't be written", hint="run as root, or leave it out"
        )


def summary(record: "Record") -> dict[str, Any]:
    """Return what every command says of a mock."""
    return {
        "name": record.name,
        "node": record.node,
        "mode": "overlay" if record.mode == "auto" else record.mode,
        "faults": [layer.name for layer in record.layers],
        "created": record.created,
    }


def words(plan: "Plan") -> str:
    """Return a plan in a line."""
    faults = ", ".join(layer.name for layer in plan.layers) or "healthy"
    where = f"simulated {plan.node}" if plan.mode == "standalone" else "over the real devices"
    return f"{faults}, {where}"
