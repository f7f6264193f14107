"""``aibrixctl kv migrate``."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from aibrixctl.choices import one_of
from aibrixctl.command import command, session
from aibrixctl.exit_codes import ExitCode
from aibrixctl.kv_options import Models
from aibrixctl.redis_access import PasswordFile
from aibrixctl.result import Problem, Result
from aibrixctl.shared_options import CaFile, Insecure
from aibrixctl.signals import StopFlag, interruptible

if TYPE_CHECKING:
    from rich.console import Console

    from kvpool.migrate.ends import Access
    from kvpool.migrate.report import Options, Progress, Report

_VERIFY = ("full", "sample", "none")
_ON_CONFLICT = ("fail", "skip", "overwrite")
_SAY_EVERY_S = 1.0


@command(
    "kv migrate",
    examples=(
        (
            "aibrixctl kv migrate lmcache+file:pool lmcache+redis://127.0.0.1:6379/0 --dry-run",
            "what would be copied, and whether it fits",
        ),
        (
            "aibrixctl kv migrate lmcache+file:pool lmcache+redis://127.0.0.1:6379/0 "
            "--max-rate 200MiB/s",
            "copy it, without taking the whole network",
        ),
        (
            "aibrixctl kv migrate lmcache+file:pool lmcache+file:other --model 'demo/*' "
            "--delete-source",
            "move some models; each entry is compared before it is removed",
        ),
    ),
)
def migrate(
    source: Annotated[str, typer.Argument(metavar="SRC", help="URL of the pool to copy from.")],
    target: Annotated[
        str,
        typer.Argument(metavar="DST", help="URL of the pool to copy to; a directory is made."),
    ],
    model: Models = None,
    max_rate: Annotated[
        str | None,
        typer.Option("--max-rate", metavar="BYTES/s", help="At most so fast, e.g. 200MiB/s."),
    ] = None,
    concurrency: Annotated[
        int,
        typer.Option(
            "--concurrency",
            min=1,
            max=16,
            help="Batches under way at once; one is read while another is written.",
        ),
    ] = 3,
    verify: Annotated[
        str | None,
        typer.Option(
            "--verify",
            metavar="|".join(_VERIFY),
            help="Read copies back and compare: all, one batch in 16, or none. By default sample, "
            "and full with --delete-source.",
            autocompletion=one_of(*_VERIFY),
        ),
    ] = None,
    on_conflict: Annotated[
        str,
        typer.Option(
            "--on-conflict",
            metavar="|".join(_ON_CONFLICT),
            help="Where DST has something else under a key.",
            autocompletion=one_of(*_ON_CONFLICT),
        ),
    ] = "fail",
    delete_source: Annotated[
        bool,
        typer.Option(
            "--delete-source", help="Remove each entry from SRC once its copy was compared."
        ),
    ] = False,
    drop_expiry: Annotated[
        bool,
        typer.Option(
            "--drop-expiry", help="Copy entries that expire to a DST that keeps no expiry."
        ),
    ] = False,
    journal: Annotated[
        str | None,
        typer.Option(
            "--journal",
            metavar="FILE|DIR",
            help="Where to note what was done; by default in $XDG_STATE_HOME/aibrixctl.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue a migration that was cut short.")
    ] = False,
    password_file: PasswordFile = None,
    target_password_file: Annotated[
        str | None,
        typer.Option(
            "--target-password-file",
            metavar="FILE",
            help="File with the password of DST, where it is another.",
        ),
    ] = None,
    ca_file: CaFile = None,
    insecure: Insecure = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Plan only; write nothing.")
    ] = False,
) -> Result:
    """Copy or move the entries of a KV cache pool to another, within or across backends.

    Within LMCache (Redis, files) and within AIBrix (SHFS). Both halves of an entry appear together
    and expire when they did; writers may be active on both sides, and what changes meanwhile is
    copied again. Cut short at any moment, even by kill -9, --resume continues and loses nothing.
    Orphans and foreign keys stay where they are.

    Exit code 3: some entries were not copied; the result says which and why.
    """
    from kvpool.migrate.run import Migration

    options = _options(
        model, max_rate, concurrency, verify, on_conflict, delete_source, drop_expiry
    )
    accesses = _accesses(password_file, target_password_file, ca_file, insecure)
    with (
        interruptible() as stop,
        Migration(
            source,
            target,
            options,
            source_access=accesses[0],
            target_access=accesses[1],
        ) as migration,
    ):
        if dry_run:
            report = _plan(migration, stop)
        else:
            path = _journal_path(journal, migration.config)
            report = _run(migration, path, resume, stop)
    return _result(report, options, stop, dry_run=dry_run)


def _options(
    model: list[str] | None,
    max_rate: str | None,
    concurrency: int,
    verify: str | None,
    on_conflict: str,
    delete_source: bool,
    drop_expiry: bool,
) -> "Options":
    from aibrixctl import quantities
    from kvpool.migrate.lane import OnConflict, Verify
    from kvpool.migrate.report import Options

    chosen = verify or ("full" if delete_source else "sample")
    _check("--verify", chosen, get_args(Verify))
    _check("--on-conflict", on_conflict, get_args(OnConflict))
    return Options(
        models=tuple(model or ()),
        lanes=concurrency,
        bytes_per_s=None if max_rate is None else quantities.byte_rate("--max-rate", max_rate),
        verify=chosen,  # type: ignore[arg-type]
        on_conflict=on_conflict,  # type: ignore[arg-type]
        delete_source=delete_source,
        drop_expiry=drop_expiry,
    )


def _check(option: str, value: str, known: tuple[str, ...]) -> None:
    from accelerators.errors import UsageError

    if value not in known:
        raise UsageError(
            f"option.{option.strip('-').replace('-', '_')}",
            f"{option} is {value!r}; expected {', '.join(known[:-1])} or {known[-1]}",
            target=option,
        )


def _accesses(
    password_file: str | None,
    target_password_file: str | None,
    ca_file: str | None,
    insecure: bool,
) -> "tuple[Access, Access]":
    from aibrixctl.config import SECRET
    from aibrixctl.secret import hide, read_secret
    from kvpool.migrate.ends import Access

    here = read_secret("--password-file", password_file) or os.environ.get(SECRET)
    hide(here or "")
    there = read_secret("--target-password-file", target_password_file) or here
    return Access(here, ca_file, insecure), Access(there, ca_file, insecure)


def _journal_path(given: str | None, config: dict[str, Any]) -> Path:
    """Return where the journal is, which for the same two pools is the same place."""
    import hashlib

    pools = f"{config['source']} {config['target']}"
    name = f"kv-migrate-{hashlib.sha256(pools.encode()).hexdigest()[:16]}.journal"
    if given is None:
        home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        return Path(home) / "aibrixctl" / name
    path = Path(given)
    return path / name if path.is_dir() else path


def _plan(migration: Any, stop: StopFlag) -> "Report":
    with session().reporter.progress("planning") as bar:
        report: Report = migration.plan(
            stop, lambda seen: bar.update(seen, text=f"planning: {seen:,} entries seen")
        )
    return report


def _run(migration: Any, path: Path, resume: bool, stop: StopFlag) -> "Report":
    import time

    from accelerators.units import format_bytes, format_duration

    session().reporter.detail(f"journal: {path}")
    said_s = 0.0
    with session().reporter.progress("migrating") as bar:

        def on_progress(progress: "Progress") -> None:
            nonlocal said_s
            left = progress.left_s
            text = f"{format_bytes(progress.bytes_per_s)}/s"
            if left is not None:
                text += f", {format_duration(left)} left"
            due = time.monotonic() - said_s >= _SAY_EVERY_S
            if due:
                said_s = time.monotonic()
            bar.update(progress.done_bytes, progress.total_bytes, text if due else None)

        report: Report = migration.run(
            path,
            resume=resume,
            stop=stop,
            on_plan=lambda seen: bar.update(seen, text=f"planning: {seen:,} entries seen"),
            on_progress=on_progress,
        )
    return report


def _result(report: "Report", options: "Options", stop: StopFlag, *, dry_run: bool) -> Result:
    data = report.to_json() | {"dry_run": dry_run, "verify": options.verify}

    def view(console: "Console", wide: bool) -> None:
        from aibrixctl.kv_migrate_view import draw_plan, draw_report

        (draw_plan if dry_run else draw_report)(console, report)

    errors = _errors(report, dry_run=dry_run)
    code = ExitCode.OK
    if stop.is_set():
        code = stop.exit_code
    elif report.error is not None and report.error.kind == "unreachable":
        code = ExitCode.UNREACHABLE
    elif not dry_run and not report.complete:
        code = ExitCode.PARTIAL
    return Result(
        data,
        rows=[
            {"fate": fate, "entries": count, "bytes": report.fate_bytes.get(fate, 0)}
            for fate, count in sorted(report.fates.items())
        ]
        or [data["plan"]],
        record="plan" if dry_run else "fate",
        view=view,
        status="success" if code == ExitCode.OK else "partial",
        exit_code=code,
        errors=tuple(errors),
        warnings=tuple(_warnings(report, options, dry_run=dry_run)),
    )


def _errors(report: "Report", *, dry_run: bool) -> list[Problem]:
    errors = [] if report.error is None else [Problem.of(report.error)]
    hint = "" if dry_run else "the same command with --resume continues"
    if report.stopped or (report.error is not None and report.open_entries):
        what = f"stopped with {report.open_entries:,} of {report.plan.entries:,} entries to copy"
        if dry_run or not report.fates:
            what = "stopped before all entries were seen"
        errors.append(Problem("kv.migrate.stopped", what, report.journal, hint))
    for fate, about in (("changing", "kept changing"), ("unfit", "do not fit the target")):
        count = report.fates.get(fate, 0)  # type: ignore[call-overload]
        if count:
            key, why = next((key, why) for which, key, why in report.examples if which == fate)
            reason = f": {why}" if why else ""
            text = f"{count:,} entries {about} and were not copied, such as {key}{reason}"
            errors.append(Problem(f"kv.migrate.{fate}", text, key))
    return errors


def _warnings(report: "Report", options: "Options", *, dry_run: bool) -> list[Problem]:
    from accelerators.units import format_bytes

    plan = report.plan
    warnings = [Problem("kv.migrate.note", text) for text in report.warnings]
    if not dry_run:
        return warnings
    if plan.conflicts:
        what = {
            "fail": "this would be refused",
            "skip": "that would be left",
            "overwrite": "that would be replaced",
        }[options.on_conflict]
        text = f"DST has something else under {plan.conflicts:,} of {plan.entries:,} keys; {what}"
        warnings.append(Problem("kv.migrate.conflict", text, plan.conflict_examples[0]))
    if plan.free_bytes is not None and plan.needed_bytes > plan.free_bytes:
        lacks = format_bytes(plan.needed_bytes - plan.free_bytes)
        text = f"DST lacks {lacks} of room; this would be refused"
        warnings.append(Problem("kv.target.too_small", text, report.target))
    warnings += [
        Problem("kv.migrate.unfit", f"{count:,} entries do not fit: {why}")
        for why, count in sorted(plan.unfit.items())
    ]
    return warnings
