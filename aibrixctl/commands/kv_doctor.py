"""``aibrixctl kv doctor``: every hazard of a pool, with what shows it and what to do."""

from typing import TYPE_CHECKING, Annotated

import typer

from aibrixctl.command import command, session
from aibrixctl.exit_codes import ExitCode
from aibrixctl.kv_options import CaFile, Insecure, PasswordFile, PoolArgument, ReadHeaders
from aibrixctl.result import Problem, Result, Status
from aibrixctl.signals import StopFlag, interruptible

if TYPE_CHECKING:
    from rich.console import Console

    from kvpool.doctor.finding import Report
    from kvpool.doctor.repair import Repaired
    from kvpool.pool import Pool


@command(
    "kv doctor",
    examples=(
        ("aibrixctl kv doctor lmcache+file:pool", "is this pool sound?"),
        (
            "aibrixctl kv doctor lmcache+file:pool --repair --dry-run",
            "which orphans would be removed",
        ),
        (
            "aibrixctl kv doctor aibrix+redis://127.0.0.1:6379/0 --no-probe",
            "AIBrix's slots and nodes, without connecting to the nodes",
        ),
    ),
)
def doctor(
    pool: PoolArgument,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="First remove lone halves and temporary files; only these."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="With --repair: show what would be removed.")
    ] = False,
    min_age: Annotated[
        str,
        typer.Option(
            "--min-age",
            metavar="TIME",
            help="Take a half for one that a writer is still at work on until it is so old.",
        ),
    ] = "5m",
    headers: ReadHeaders = False,
    probe: Annotated[
        bool, typer.Option("--probe/--no-probe", help="Connect to the nodes' addresses.")
    ] = True,
    probe_timeout: Annotated[
        str, typer.Option("--probe-timeout", metavar="TIME", help="For each node's address.")
    ] = "2s",
    watch: Annotated[
        str,
        typer.Option(
            "--watch",
            metavar="TIME",
            help="Watch placement metadata so long for a second cluster that writes it.",
        ),
    ] = "0s",
    drain_job: Annotated[
        str | None,
        typer.Option(
            "--drain-job", metavar="ID", help="See whether this drain of a Mooncake store moves."
        ),
    ] = None,
    stall_after: Annotated[
        str,
        typer.Option(
            "--stall-after", metavar="TIME", help="With --drain-job: it hangs after so long."
        ),
    ] = "30s",
    password_file: PasswordFile = None,
    ca_file: CaFile = None,
    insecure: Insecure = False,
) -> Result:
    """Examine a KV cache pool for hazards: what is wrong, what shows it, and what to do.

    The server is asked in small batches and values are not read, but for two blocks of each AIBrix
    conn_id that stores tokens. Exits 10 when something is wrong, 3 when a check could not run;
    what is only worth knowing leaves the exit code alone. -o wide also lists what was checked.
    """
    from aibrixctl import quantities
    from aibrixctl.kv_options import opened
    from kvpool.doctor.examine import examine
    from kvpool.doctor.survey import Options
    from kvpool.errors import KvPoolUsageError
    from kvpool.pool import require

    if dry_run and not repair:
        raise KvPoolUsageError(
            "kv.doctor.dry_run",
            "--dry-run says what --repair would remove; without it nothing is ever changed",
            hint="add --repair, or leave --dry-run out",
        )
    timeout_s = quantities.duration("--probe-timeout", probe_timeout)
    options = Options(
        depth="headers" if headers else "quiet",
        min_age_s=quantities.duration("--min-age", min_age),
        probe_timeout_s=timeout_s if probe else None,
        watch_s=quantities.duration("--watch", watch),
        drain_job=drain_job,
        stall_after_s=quantities.duration("--stall-after", stall_after),
    )
    repaired = None
    with (
        opened(pool, password_file=password_file, ca_file=ca_file, insecure=insecure) as place,
        interruptible() as stop,
    ):
        if repair:
            require(place, "scan", *(() if dry_run else ("delete",)))
            repaired = _repair(place, options.min_age_s, stop, dry_run=dry_run)
        with session().reporter.progress("examining") as bar:
            report = examine(
                place,
                options,
                stop=stop,
                progress=lambda seen: bar.update(seen, text=f"{seen:,} entries seen"),
            )
    return _result(pool, report, repaired, stop)


def _repair(place: "Pool", min_age_s: float, stop: StopFlag, *, dry_run: bool) -> "Repaired":
    from kvpool.doctor.repair import remove_orphans

    with session().reporter.progress("repairing") as bar:
        return remove_orphans(
            place,
            min_age_s,
            dry_run=dry_run,
            stop=stop,
            progress=lambda seen: bar.update(seen, text=f"{seen:,} entries seen"),
        )


def _result(url: str, report: "Report", repaired: "Repaired | None", stop: StopFlag) -> Result:
    document = {
        "url": url,
        **report.to_json(),
        "repaired": None if repaired is None else repaired.to_json(),
    }

    def view(console: "Console", wide: bool) -> None:
        from aibrixctl.kv_doctor_view import draw_report

        draw_report(console, url, report, repaired, wide=wide)

    status, code, errors = _verdict(url, report, stop)
    return Result(
        document,
        rows=document["findings"],
        record="finding",
        view=view,
        status=status,
        exit_code=code,
        errors=errors,
    )


def _verdict(
    url: str, report: "Report", stop: StopFlag
) -> tuple[Status, ExitCode, tuple[Problem, ...]]:
    """Return what the findings mean for a script: faults weigh more than open checks."""
    if not report.complete:
        stopped = Problem("interrupted", "stopped before the whole pool was examined", url)
        return "partial", stop.exit_code, (stopped,)
    problems = [
        Problem(
            "kv.doctor.unchecked",
            f"{', '.join(codes)} could not be checked: {reason}",
            url,
        )
        for reason, codes in _by_reason(report).items()
    ]
    if report.faults:
        return ("partial" if problems else "success"), ExitCode.FAULTS_FOUND, tuple(problems)
    if problems:
        return "partial", ExitCode.PARTIAL, tuple(problems)
    return "success", ExitCode.OK, ()


def _by_reason(report: "Report") -> dict[str, list[str]]:
    codes: dict[str, list[str]] = {}
    for check in report.undecided:
        codes.setdefault(check.reason, []).append(check.code)
    return codes
