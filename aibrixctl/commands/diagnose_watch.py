"""``aibrixctl diagnose watch``."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aibrixctl.command import command, session
from aibrixctl.diagnose_options import (
    Actions,
    ChosenAccelerator,
    ChosenChecks,
    Expect,
    ExpectGpus,
    KernelLog,
    Since,
    SkippedChecks,
    Timeout,
    options_of,
)
from aibrixctl.result import Problem, Result
from aibrixctl.signals import interruptible
from aibrixctl.terminal import reader_watched

if TYPE_CHECKING:
    from diagnose.watch import Round


@command(
    "diagnose watch",
    examples=(
        ("aibrixctl diagnose watch --count 2 --interval 1s", "two rounds, a second apart"),
        (
            "aibrixctl diagnose watch --interval 1s --count 1 --textfile aibrixctl.prom",
            "and a file for node-exporter's textfile collector",
        ),
    ),
)
def watch(
    interval: Annotated[
        str, typer.Option("--interval", metavar="TIME", help="From one round's start to the next.")
    ] = "30s",
    textfile: Annotated[
        str | None,
        typer.Option(
            "--textfile",
            metavar="FILE",
            help="Write the state after each round there, in Prometheus' text form, atomically.",
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", min=1, metavar="N", help="Stop after so many rounds.")
    ] = None,
    accelerator: ChosenAccelerator = "auto",
    expect_gpus: ExpectGpus = None,
    expect: Expect = None,
    checks: ChosenChecks = None,
    skip: SkippedChecks = None,
    timeout: Timeout = "10s",
    kernel_log: KernelLog = None,
    since: Since = None,
    actions: Actions = None,
) -> Result:
    """Diagnose again and again, and print what changes, as JSON Lines.

    A line's type is finding_appeared, finding_changed, finding_cleared, device_appeared or
    device_lost; the last line is the summary. It goes on while a driver restarts or hangs, and
    what could not be checked meanwhile is not cleared. SIGINT and SIGTERM are the normal end: exit
    code 0.
    """
    from accelerators.errors import UsageError
    from aibrixctl import quantities
    from diagnose.verdict import verdict
    from diagnose.watch import rounds

    current = session()
    if current.output not in ("table", "jsonl") or current.output_file:
        raise UsageError(
            "option.conflict",
            "diagnose watch writes JSON Lines as they come, and to stdout only",
            hint="leave out -o and --output-file, and redirect stdout",
        )
    current.output = "jsonl"
    interval_s = quantities.duration("--interval", interval)
    options = options_of(
        accelerator=accelerator,
        expect_gpus=expect_gpus,
        expect=expect,
        checks=checks,
        skip=skip,
        timeout=timeout,
        kernel_log=kernel_log,
        since=since,
        actions=actions,
    )
    last: Round | None = None
    changes = 0
    with interruptible() as stop, reader_watched(stop):
        for last in rounds(options, interval_s, stop, count=count):
            changes += len(last.changes)
            _print(last)
            if textfile:
                _write(textfile, last)
    report = last.report if last else None
    summary: dict[str, Any] = {
        "rounds": last.number if last else 0,
        "changes": changes,
        "verdict": verdict(report) if report else None,
        "simulated": report is not None and report.simulated,
    }
    return Result(summary, warnings=_warnings(summary["simulated"]))


def _print(round_: "Round") -> None:
    """Print the changes at once, each with the time at which it was seen."""
    import json

    from accelerators.documents import timestamp, write_errors

    with write_errors("stdout"):
        for change in round_.changes:
            line = {**change.to_json(), "seen_at": timestamp(), "round": round_.number}
            sys.stdout.write(json.dumps(line, sort_keys=True, ensure_ascii=False) + "\n")
        sys.stdout.flush()


def _write(path: str, round_: "Round") -> None:
    """Write the text file; a disk that fills up later on does not end the watch."""
    import time

    from accelerators.documents import write_text
    from accelerators.errors import ToolError
    from diagnose.textfile import render

    try:
        write_text(path, render(round_.report, finished_at_s=time.time(), took_s=round_.took_s))
    except ToolError as error:
        if round_.number == 1:
            raise
        session().reporter.line(f"warning: {error.message}; the file is that of an earlier round")


def _warnings(simulated: bool) -> tuple[Problem, ...]:
    text = "this is a mock, not the machine's own state"
    return (Problem("diagnose.simulated", text),) if simulated else ()
