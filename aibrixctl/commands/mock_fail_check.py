"""``aibrixctl mock-fail check``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aibrixctl import choices
from aibrixctl.command import command, session
from aibrixctl.exit_codes import ExitCode
from aibrixctl.result import Problem, Result
from aibrixctl.signals import interruptible

if TYPE_CHECKING:
    from rich.console import Console

    from aibrixctl.round_trip import Trip
    from mockfail.scenario import Scenario


@command(
    "mock-fail check",
    examples=(
        ("aibrixctl mock-fail check gpu-lost-xid79 thermal-slowdown", "two scenarios"),
        ("aibrixctl mock-fail check 'xid-*' -o json", "all XIDs, for a script"),
    ),
)
def check(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME|FILE",
            help="Scenarios, also by pattern; all by default.",
            autocompletion=choices.scenarios,
        ),
    ] = None,
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="TIME", help="Of one diagnosis.")
    ] = "10s",
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", help="Diagnoses at a time; 0: one per core.")
    ] = 0,
) -> Result:
    """Prove the scenarios: each one injected, diagnosed, cleared and diagnosed again.

    A scenario passes when the diagnosis gives exactly the findings that it expects, on the right
    device, and none when it is cleared. All on simulated nodes; nothing of this machine is read.

    Exit code 10: a scenario did not pass.
    """
    import os

    from aibrixctl.quantities import duration
    from aibrixctl.round_trip import trips

    wanted = _wanted(names or [])
    many = workers or len(os.sched_getaffinity(0))
    timeout_s = duration("--timeout", timeout)
    done: list[Trip] = []
    with interruptible() as stop, session().reporter.progress("scenarios", len(wanted)) as progress:
        for outcome in trips(wanted, timeout_s, many, stop):
            done.append(outcome)
            progress.update(len(done), text=outcome.scenario)
    return _result(done, len(wanted), stop.exit_code)


def _wanted(names: list[str]) -> list["Scenario"]:
    from fnmatch import filter as matching

    from accelerators.errors import UsageError
    from mockfail.scenarios import load
    from mockfail.scenarios import names as known

    spread = [
        found for name in names for found in (matching(known(), name) if "*" in name else [name])
    ]
    if names and not spread:
        raise UsageError("mock.check", f"no scenario fits {', '.join(names)}")
    scenarios = [load(name) for name in dict.fromkeys(spread or known())]
    for scenario in scenarios:
        if scenario.expected is None:
            raise UsageError(
                "mock.check",
                f"{scenario.source} does not say what a diagnosis should find",
                hint="add [expect] with findings = [...]",
                target=scenario.source,
            )
    return scenarios


def _result(done: list["Trip"], wanted: int, stopped: ExitCode) -> Result:
    failed = [trip for trip in done if not trip.passed]
    rows = [trip.to_json() for trip in done]
    data = {"scenarios": rows, "passed": len(done) - len(failed), "failed": len(failed)}
    errors = []
    if failed:
        names = ", ".join(trip.scenario for trip in failed)
        text = f"{len(failed)} of {len(done)} scenarios failed: {names}"
        errors.append(Problem("mock.check", text))
    if cut := len(done) < wanted:
        text = f"stopped early: {len(done)} of {wanted} scenarios were checked"
        errors.append(Problem("mock.interrupted", text))

    def view(console: "Console", wide: bool) -> None:
        from aibrixctl.render import table_of

        if done:
            console.print(table_of([_row(trip) for trip in done]))
        console.print(f"{len(done) - len(failed)} of {len(done)} passed")

    return Result(
        data,
        rows=rows,
        record="scenario",
        view=view,
        status="partial" if cut else "success",
        exit_code=stopped if cut else ExitCode.FAULTS_FOUND if failed else ExitCode.OK,
        errors=tuple(errors),
    )


def _row(trip: "Trip") -> dict[str, Any]:
    wrong = [
        *([trip.problem] if trip.problem else []),
        *(f"missed {text}" for text in (trip.missed if not trip.problem else [])),
        *(f"extra {text}" for text in trip.extra),
        *(f"after clear {text}" for text in trip.after),
    ]
    return {
        "scenario": trip.scenario,
        "result": "pass" if trip.passed else "FAIL",
        "s": round(trip.elapsed_s, 1),
        "findings": "\n".join(wrong or trip.found) or None,
    }
