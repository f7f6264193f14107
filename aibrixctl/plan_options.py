"""Options of the commands that plan: tables, limits, and what to do beyond the largest bucket."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from optimizer.limits import Limits
    from optimizer.workload.model import OutOfRange

PROFILES = typer.Option(
    "--profiles",
    metavar="FILE|DIR|redis://…",
    help="Throughput table, folder of *.table.json, or AIBrix's Redis. Repeatable.",
)
WorkloadFormat = Annotated[
    str | None,
    typer.Option("--workload-format", metavar="NAME", help="Read the workload as this format."),
]
Available = Annotated[
    list[str] | None,
    typer.Option(
        "--available", metavar="NAME=GPUS,…", help="GPUs there are of a type or accelerator."
    ),
]
Minimum = Annotated[
    list[str] | None, typer.Option("--min", metavar="NAME=N,…", help="At least N replicas.")
]
Maximum = Annotated[
    list[str] | None, typer.Option("--max", metavar="NAME=N,…", help="At most N replicas.")
]
Headroom = Annotated[
    str,
    typer.Option(
        "--headroom", metavar="SHARE", help="Share of every replica's throughput to keep free."
    ),
]
Budget = Annotated[
    float | None, typer.Option("--budget", metavar="USD", help="Most dollars per hour.")
]
Cost = Annotated[
    list[str] | None,
    typer.Option("--cost", metavar="NAME=USD,…", help="Dollars per hour of one replica."),
]
Gap = Annotated[
    str,
    typer.Option(
        "--gap", metavar="SHARE", help="Stop when proven within this share of the cheapest."
    ),
]


def limits_of(
    headroom: str,
    available: list[str] | None,
    minimum: list[str] | None,
    maximum: list[str] | None,
    budget: float | None,
) -> "Limits":
    """Return the limits that the options of a plan set."""
    from aibrixctl import quantities
    from aibrixctl.assignments import whole_numbers
    from optimizer.limits import Limits

    return Limits(
        headroom=quantities.fraction("--headroom", headroom),
        available=whole_numbers("--available", available),
        minimum=whole_numbers("--min", minimum),
        maximum=whole_numbers("--max", maximum),
        budget_usd_per_hour=budget,
    )


def out_of_range_of(text: str) -> "OutOfRange":
    """Return what ``--out-of-range`` says. Raises UsageError for another word."""
    from accelerators.errors import UsageError

    match text:
        case "refuse" | "extrapolate" | "drop":
            return text
    raise UsageError(
        "option.out_of_range",
        f"--out-of-range is {text!r}; expected refuse, extrapolate or drop",
    )
