"""The options that ``diagnose`` and ``diagnose watch`` share."""

from typing import TYPE_CHECKING, Annotated

import typer

from aibrixctl import choices

if TYPE_CHECKING:
    from diagnose.run import Options

ChosenAccelerator = Annotated[
    str,
    typer.Option(
        "--accelerator",
        metavar="auto|nvidia|ascend",
        help="auto takes what the PCI bus or a driver shows.",
        autocompletion=choices.one_of("auto", "nvidia", "ascend"),
    ),
]
ExpectGpus = Annotated[
    int | None,
    typer.Option(
        "--expect-gpus",
        min=0,
        metavar="N",
        help="How many accelerators there should be; else the PCI bus tells.",
    ),
]
Expect = Annotated[
    str | None,
    typer.Option(
        "--expect",
        metavar="TYPE",
        help="Which type they should be.",
        autocompletion=choices.accelerators,
    ),
]
ChosenChecks = Annotated[
    str | None,
    typer.Option(
        "--checks",
        metavar="NAME,…",
        help="Run only these; see diagnose list-checks.",
        autocompletion=choices.checks,
    ),
]
SkippedChecks = Annotated[
    str | None,
    typer.Option(
        "--skip", metavar="NAME,…", help="Leave these out.", autocompletion=choices.checks
    ),
]
Timeout = Annotated[
    str,
    typer.Option("--timeout", metavar="TIME", help="For all that a driver has to answer."),
]
KernelLog = Annotated[
    str | None,
    typer.Option(
        "--kernel-log", metavar="FILE", help="Read this, as dmesg prints it, and not the machine's."
    ),
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="Only the last TIME of the kernel log."),
]
Actions = Annotated[
    str | None,
    typer.Option(
        "--actions",
        metavar="FILE",
        help="Own severities and actions by code (TOML): [NV-XID-64] severity, action, …",
    ),
]


def options_of(
    *,
    accelerator: str,
    expect_gpus: int | None,
    expect: str | None,
    checks: str | None,
    skip: str | None,
    timeout: str,
    kernel_log: str | None,
    since: str | None,
    actions: str | None,
) -> "Options":
    """Return what the options ask for; raises UsageError for a value that can't be."""
    from pathlib import Path

    from accelerators.errors import UsageError
    from accelerators.names import resolve
    from aibrixctl import quantities
    from diagnose.explain import read_overrides
    from diagnose.run import Options, check_names

    if accelerator not in ("auto", "nvidia", "ascend"):
        raise UsageError(
            "option.accelerator",
            f"--accelerator is {accelerator!r}; expected auto, nvidia or ascend",
        )
    timeout_s = quantities.duration("--timeout", timeout)
    if timeout_s <= 0:
        raise UsageError("option.timeout", "--timeout is 0; expected more than 0")
    if kernel_log and since:
        raise UsageError(
            "option.conflict",
            "--since counts from now, and the times in a --kernel-log FILE from some boot",
            hint="leave out one of the two",
        )
    options = Options(
        accelerator=accelerator,  # type: ignore[arg-type]
        expect_count=expect_gpus,
        expect_type=resolve(expect).name if expect else None,
        checks=_names(checks),
        skip=_names(skip),
        timeout_s=timeout_s,
        kernel_log=Path(kernel_log) if kernel_log else None,
        since_s=quantities.duration("--since", since) if since else None,
        overrides=read_overrides(actions) if actions else {},
    )
    check_names(options)
    return options


def _names(text: str | None) -> frozenset[str]:
    return frozenset(name.strip() for name in (text or "").split(",") if name.strip())
