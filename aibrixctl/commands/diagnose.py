"""``aibrixctl diagnose``, ``diagnose explain`` and ``diagnose list-checks``."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from aibrixctl import choices
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
from aibrixctl.exit_codes import ExitCode
from aibrixctl.result import Problem, Result
from aibrixctl.signals import interruptible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from diagnose.explain import Explanation
    from diagnose.findings import Report
    from diagnose.run import Options

_EXIT = {
    "healthy": ExitCode.OK,
    "faults": ExitCode.FAULTS_FOUND,
    "unknown": ExitCode.PARTIAL,
    "no_access": ExitCode.UNREACHABLE,
}


@command(
    "diagnose",
    examples=(
        ("aibrixctl diagnose", "every accelerator of this machine"),
        (
            "aibrixctl diagnose --expect-gpus 8 --expect h100-sxm --skip kernel-log -o json",
            "as a gate before a node takes work",
        ),
        ("aibrixctl diagnose --checks ecc,row-remap,retired-pages -o wide", "memory only"),
    ),
)
def diagnose(
    accelerator: ChosenAccelerator = "auto",
    expect_gpus: ExpectGpus = None,
    expect: Expect = None,
    checks: ChosenChecks = None,
    skip: SkippedChecks = None,
    active: Annotated[
        str | None,
        typer.Option(
            "--active",
            metavar="quick|full",
            help="Also give the accelerators work, which they must have to themselves: correct "
            "results, speed, memory, links. Needs torch. About 10 s or 2 minutes per device.",
            autocompletion=choices.one_of("quick", "full"),
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            "--device",
            metavar="auto|cpu",
            help="For --active: cpu tries the correctness part without an accelerator.",
            autocompletion=choices.one_of("auto", "cpu"),
        ),
    ] = "auto",
    beside_others: Annotated[
        bool,
        typer.Option(
            "--beside-others",
            help="For --active: test devices that other processes use too. Both get slower.",
        ),
    ] = False,
    timeout: Timeout = "10s",
    kernel_log: KernelLog = None,
    since: Since = None,
    actions: Actions = None,
) -> Result:
    """Find what is wrong with the GPUs and NPUs of this machine, how bad it is and what to do.

    Drivers are read in processes that are ended at --timeout, so a driver that hangs is a finding.
    What could not be checked is never called healthy. Under `mock-fail` the mock is diagnosed, and
    the report says so.

    Exit codes: 0 healthy, 10 faults found (warning or worse), 3 some checks could not run, 13 no
    accelerator or no access to it.
    """
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
    _one_of("--active", active, (None, "quick", "full"))
    _one_of("--device", device, ("auto", "cpu"))
    if active is None:
        from diagnose.run import diagnose as observe

        return _result(observe(options))
    level = cast(Literal["quick", "full"], active)
    return _with_work(options, level, device, beside_others=beside_others)


def _one_of(option: str, value: str | None, known: tuple[str | None, ...]) -> None:
    if value not in known:
        from accelerators.errors import UsageError

        expected = " or ".join(name for name in known if name)
        raise UsageError("option.value", f"{option} is {value!r}; expected {expected}")


def _with_work(
    options: "Options", level: Literal["quick", "full"], device: str, *, beside_others: bool
) -> Result:
    """Diagnose, then run the active tests; on the CPU there need not be an accelerator."""
    from diagnose import active
    from diagnose.errors import NoAcceleratorError
    from diagnose.findings import Report
    from diagnose.run import diagnose as observe
    from diagnose.run import with_active

    try:
        report = observe(options)
    except NoAcceleratorError:
        if device != "cpu":
            raise
        report = Report()
    with interruptible() as stop:
        kind: Literal["auto", "cpu"] = "cpu" if device == "cpu" else "auto"
        session().reporter.detail(f"active tests, {level}")
        worked = active.run(
            level, kind, overrides=options.overrides, beside_others=beside_others, stop=stop
        )
    result = _result(with_active(report, worked))
    if stop.is_set():
        return Result(
            result.data, result.rows, "finding", result.view, "partial", stop.exit_code,
            result.errors, result.warnings,
        )  # fmt: skip
    return result


def _result(report: "Report") -> Result:
    from aibrixctl.diagnose_view import draw, to_json
    from diagnose.verdict import is_fault, verdict

    found = verdict(report)
    errors: tuple[Problem, ...] = ()
    if found == "faults":
        codes = [finding.code for finding in report.findings if is_fault(finding)]
        named = ", ".join(dict.fromkeys(codes))
        text = f"{len(codes)} fault{'s' if len(codes) > 1 else ''} found: {named}"
        errors = (Problem("diagnose.faults", text),)
    elif found == "no_access":
        hint = next(f.action for f in report.findings if is_fault(f))
        errors = (Problem("diagnose.no_access", "the driver refused access", hint=hint),)
    elif found == "unknown":
        number = sum(not each.skipped for each in report.unchecked)
        text = f"{number} check{'s' if number > 1 else ''} could not run: health is not known"
        errors = (Problem("diagnose.unchecked", text, hint="--skip leaves out checks by name"),)
    document = to_json(report)
    return Result(
        document,
        rows=document["findings"],
        record="finding",
        view=lambda console, wide: draw(console, report, wide=wide),
        status="partial" if found == "unknown" else "success",
        exit_code=_EXIT[found],
        errors=errors,
        warnings=_warnings(report),
    )


def _warnings(report: "Report") -> tuple[Problem, ...]:
    from accelerators import mocked
    from aibrixctl.active_view import CPU_ONLY, on_cpu

    warnings = []
    if report.simulated:
        mock = mocked.current()
        text = "this is a mock, not the machine's own state"
        where = str(mock.folder) if mock else None
        warnings.append(Problem("diagnose.simulated", text, target=where))
    if on_cpu(report.facts.get("active", {})):
        warnings.append(Problem("diagnose.cpu_only", CPU_ONLY))
    return tuple(warnings)


@command(
    "diagnose explain",
    examples=(
        ("aibrixctl diagnose explain NV-ROW-REMAP-PENDING", "a finding's code"),
        ("aibrixctl diagnose explain XID 79", "an XID of the kernel log"),
        ("aibrixctl diagnose explain 80E01801", "an Ascend fault code"),
    ),
)
def explain(
    code: Annotated[
        list[str],
        typer.Argument(
            metavar="CODE",
            help="A finding's code, an XID (79, XID 79), or an Ascend code.",
            autocompletion=choices.finding_codes,
        ),
    ],
    actions: Actions = None,
) -> Result:
    """Explain a code: what it means, how it is detected, what to do."""
    from diagnose.explain import explain as look_up
    from diagnose.explain import read_overrides

    found = look_up(" ".join(code), read_overrides(actions) if actions else {})
    return Result(found.to_json(), view=lambda console, wide: _draw_explanation(console, found))


def _draw_explanation(console: "Console", found: "Explanation") -> None:
    from rich.table import Table
    from rich.text import Text

    from aibrixctl.diagnose_view import STYLES

    console.print(f"{found.code}: {found.title}", style="bold")
    grid = Table.grid(padding=(0, 2))
    grid.add_row("Severity", Text(found.severity, STYLES[found.severity]))
    for label, text in (
        ("Meaning", found.meaning),
        ("Detected by", found.detected_by),
        ("What to do", found.action),
        ("Workload", "move it away first" if found.move_workload else "may stay"),
        ("Source", found.source),
    ):
        grid.add_row(label, Text(text))
    console.print(grid)


@command(
    "diagnose list-checks",
    examples=(
        ("aibrixctl diagnose list-checks", "names for --checks and --skip"),
        ("aibrixctl diagnose list-checks -o wide", "and what each reads and can find"),
    ),
)
def list_checks() -> Result:
    """List the checks: name, accelerator, what they ask, what they read, what they can find."""
    from diagnose.active import judge
    from diagnose.engine.checks import ABOUT, CHECK_OF
    from diagnose.families import FAMILIES

    rows: list[dict[str, Any]] = [
        {
            "check": check.name,
            "accelerator": family.name,
            "about": check.about,
            "reads": list(check.reads),
            "codes": list(check.codes),
        }
        for family in FAMILIES
        for check in family.checks
    ]
    rows += [_beside("any", name, about, judge.CHECKS) for name, about in judge.ABOUT.items()]
    rows += [_beside("engine", name, about, CHECK_OF) for name, about in ABOUT.items()]

    def view(console: "Console", wide: bool) -> None:
        from aibrixctl.render import table_of

        shown = ("check", "accelerator", "about", "codes", "reads")[: 5 if wide else 3]
        console.print(
            table_of(
                [
                    {
                        key: ", ".join(row[key]) if isinstance(row[key], list) else row[key]
                        for key in shown
                    }
                    for row in rows
                ]
            )
        )

    return Result({"checks": rows}, rows=rows, record="check", view=view)


def _beside(of: str, name: str, about: str, check_of: "Mapping[str, str]") -> dict[str, Any]:
    """Return the row of a check that --active or `diagnose engine` runs."""
    codes = [code for code, check in check_of.items() if check == name]
    return {"check": name, "accelerator": of, "about": about, "reads": [], "codes": codes}
