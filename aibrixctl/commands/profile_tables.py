"""``aibrixctl profile show | compare | export | import | push``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aibrixctl.choices import one_of
from aibrixctl.command import command
from aibrixctl.exit_codes import ExitCode
from aibrixctl.result import Problem, Result

if TYPE_CHECKING:
    from profiler.interop.aibrix import Exported
    from profiler.interop.aibrix_redis import PushPlan
    from profiler.interop.checks import Imported
    from profiler.table import ThroughputTable

_TABLES = typer.Argument(metavar="TABLE", help="Table files, or folders of *.table.json.")
_COST = typer.Option(
    "--cost", metavar="NAME=USD", help="Dollars per hour of a replica, over the table's own."
)
_ALLOW_MISSING = typer.Option(
    "--allow-missing", help="Write cells that were not measured as 0, which means never routed to."
)
_DEPLOYMENT = typer.Option(
    "--deployment",
    metavar="NAME",
    help="AIBrix's deployment, or namespace/deployment; the table's target by default.",
)


@command(
    "profile show",
    examples=(
        ("aibrixctl profile show profiles", "draw every table of a folder"),
        ("aibrixctl profile show profiles/a10.table.json -o wide", "with latencies per cell"),
    ),
)
def show_table(paths: Annotated[list[str], _TABLES]) -> Result:
    """Draw throughput tables: the highest request rate within the SLO per bucket.

    0 is infeasible, – not measured, ≥ a lower bound where the client was the bottleneck.
    """
    from profiler.interop import csvfile
    from profiler.table_files import load_all

    tables = load_all(paths)

    def view(console: Any, wide: bool) -> None:
        from aibrixctl.table_view import draw

        for number, table in enumerate(tables):
            if number:
                console.print()
            draw(console, table, wide=wide)

    return Result(
        {"tables": [table.to_json() for table in tables]},
        rows=[row for table in tables for row in csvfile.rows(table)],
        record="cell",
        view=view,
    )


@command(
    "profile compare",
    examples=(
        (
            "aibrixctl profile compare profiles/a10.table.json profiles/l20.table.json",
            "which is faster, which is cheaper per request",
        ),
    ),
)
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A table file.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another, of the same model and SLO.")],
) -> Result:
    """Compare two tables bucket by bucket: rates, and the cost of a request.

    Rates within the tolerances of both searches count as the same. Tables of different models,
    objectives or buckets are refused.
    """
    from profiler.compare import compare as compare_tables
    from profiler.table import load

    found = compare_tables(load(a), load(b))

    def view(console: Any, wide: bool) -> None:
        from aibrixctl.render import table_of
        from aibrixctl.table_view import draw_comparison

        draw_comparison(console, found)
        if wide:
            console.print(table_of([cell.to_json() for cell in found.cells]))

    return Result(
        found.to_json(),
        rows=[cell.to_json() for cell in found.cells],
        record="cell",
        view=view,
        warnings=_warnings("compare.unlike", found.warnings),
    )


@command(
    "profile export",
    examples=(
        (
            "aibrixctl profile export profiles/a10.table.json --to aibrix --out a10.json",
            "AIBrix's GPU profile",
        ),
        ("aibrixctl profile export profiles --to csv", "one line per cell on stdout"),
        ("aibrixctl profile export profiles --to melange --out gpu_info.json", "for Mélange"),
    ),
)
def export(
    paths: Annotated[list[str], _TABLES],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="aibrix|csv|melange",
            help="Format.",
            autocompletion=one_of("aibrix", "csv", "melange"),
        ),
    ],
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="File; stdout by default.")
    ] = None,
    deployment: Annotated[str | None, _DEPLOYMENT] = None,
    cost: Annotated[list[str] | None, _COST] = None,
    allow_missing: Annotated[bool, _ALLOW_MISSING] = False,
) -> Result:
    """Write tables for AIBrix, Mélange, or a spreadsheet.

    What a format can't say is told in warnings. No format can say that a cell was not measured:
    csv leaves it empty, the others refuse it without --allow-missing.
    """
    from accelerators.documents import dump_json, write_text
    from accelerators.errors import UsageError
    from profiler.interop import csvfile, melange
    from profiler.table_files import load_all, with_costs

    tables = with_costs(load_all(paths), cost or ())
    warnings: tuple[str, ...] = ()
    if to == "csv":
        document: dict[str, Any] | str = csvfile.to_csv(tables)
    elif to == "melange":
        exported = melange.to_gpu_info(tables, allow_missing=allow_missing)
        document, warnings = exported.document, exported.warnings
    elif to == "aibrix":
        if len(tables) > 1:
            raise UsageError(
                "export.several",
                f"AIBrix's profile holds one table; {len(tables)} were given",
                hint="export them one by one, or `profile push` all of them",
            )
        exported = _aibrix(tables[0], deployment, allow_missing)
        document, warnings = exported.document, exported.warnings
    else:
        raise UsageError(
            "export.format", f"no format {to!r}; expected aibrix, csv or melange", target="--to"
        )
    text = document if isinstance(document, str) else dump_json(document)
    if out is not None:
        write_text(out, text)

    def view(console: Any, wide: bool) -> None:
        console.out(text if out is None else f"wrote {out}\n", end="")

    files = [] if out is None else [out]
    return Result(
        {"format": to, "files": files, "documents": [] if out else [document]},
        rows=[row for table in tables for row in csvfile.rows(table)],
        record="cell",
        view=view,
        warnings=_warnings("export.lossy", warnings),
    )


def _aibrix(table: "ThroughputTable", deployment: str | None, allow_missing: bool) -> "Exported":
    from accelerators.documents import timestamp
    from profiler.interop.aibrix import to_profile

    return to_profile(
        table, created=timestamp(precise=True), deployment=deployment, allow_missing=allow_missing
    )


@command(
    "profile import",
    examples=(
        (
            "aibrixctl profile import aibrix-a10.json --model deepseek-coder-6.7b --out a10",
            "AIBrix's GPU profile",
        ),
        (
            "aibrixctl profile import bench.jsonl --target a10 --slo 'e2e_p99<=5s' --out a10b",
            "AIBrix's benchmark rows",
        ),
    ),
)
def import_(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="AIBrix's profile, or its benchmark JSON Lines.")
    ],
    out: Annotated[
        str, typer.Option("--out", metavar="DIR", help="Folder for NAME.table.json.")
    ] = ".",
    model: Annotated[
        str | None, typer.Option("--model", help="Model; AIBrix's profile does not name it.")
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", metavar="NAME", help="Name of the GPU type.")
    ] = None,
    slo: Annotated[
        list[str] | None,
        typer.Option("--slo", metavar="METRIC_STAT<=LIMIT", help="For benchmark rows. Repeatable."),
    ] = None,
    cost: Annotated[
        float | None, typer.Option("--cost", metavar="USD", help="Dollars per hour of a replica.")
    ] = None,
    accelerator: Annotated[
        str | None, typer.Option("--accelerator", metavar="NAME", help="Its accelerator type.")
    ] = None,
    gpus: Annotated[int, typer.Option("--gpus", min=1, help="GPUs per replica.")] = 1,
    seed: Annotated[
        int | None,
        typer.Option("--seed", help="Of the run to take, where benchmark rows hold several."),
    ] = None,
) -> Result:
    """Read another tool's measurements into a throughput table.

    AIBrix's profile keeps its own SLO. Its benchmark rows hold several rates, of which --slo
    picks the highest that meets it; rows of an earlier run in the same file are refused.
    """
    from dataclasses import replace

    from accelerators.documents import write_errors
    from accelerators.names import resolve
    from profiler.table import save
    from profiler.table_files import path_in
    from profiler.targets import check_name

    known = resolve(accelerator).name if accelerator else None
    form, found = _read(file, model, target, slo or [], known, gpus, seed)
    table = found.table
    table = replace(
        table,
        target=target or table.target,
        cost_usd_per_hour=table.cost_usd_per_hour if cost is None else cost,
    )
    path = path_in(out, check_name(table.target))
    with write_errors(out):
        Path(out).mkdir(parents=True, exist_ok=True)
    save(table, path)

    def view(console: Any, wide: bool) -> None:
        from aibrixctl.table_view import draw

        draw(console, table, wide=wide)
        console.print(f"wrote {path}")

    return Result(
        {"format": form, "files": [str(path)], "tables": [table.to_json()]},
        rows=[{"file": str(path), "target": table.target, "cells": len(table.cells)}],
        view=view,
        warnings=_warnings("import.lossy", found.warnings),
    )


def _read(
    file: str,
    model: str | None,
    target: str | None,
    slo: list[str],
    accelerator: str | None,
    gpus: int,
    seed: int | None,
) -> tuple[str, "Imported"]:
    from accelerators.documents import read_json, read_text
    from accelerators.errors import UsageError
    from profiler.interop import aibrix, aibrix_benchmark
    from profiler.slo import parse_slos

    text = read_text(file)
    if aibrix_benchmark.is_benchmark(text):
        found = aibrix_benchmark.from_benchmark(
            text,
            file,
            parse_slos(slo),
            target=target or Path(file).stem,
            accelerator=accelerator,
            gpus=gpus,
            seed=seed,
        )
        return "aibrix-benchmark", found
    if model is None:
        raise UsageError(
            "import.model",
            f"{file} does not name its model",
            hint="give it with --model, as the other tables name it",
            target="--model",
        )
    if slo:
        raise UsageError(
            "import.slo", f"{file} has its own SLO; --slo is for benchmark rows", target="--slo"
        )
    document = read_json(file)
    return "aibrix-profile", aibrix.from_profile(
        document, file, model=model, accelerator=accelerator, gpus=gpus
    )


@command(
    "profile push",
    examples=(
        (
            "aibrixctl profile push redis://127.0.0.1:6379/0 profiles/a10.table.json --dry-run",
            "what would change, and what AIBrix would make of it",
        ),
    ),
)
def push(
    url: Annotated[
        str, typer.Argument(metavar="redis://[USER@]HOST[:PORT][/DB]", help="rediss:// for TLS.")
    ],
    paths: Annotated[list[str], _TABLES],
    model: Annotated[
        str | None,
        typer.Option("--model", help="AIBrix's name of the model; the table's by default."),
    ] = None,
    deployment: Annotated[str | None, _DEPLOYMENT] = None,
    cost: Annotated[list[str] | None, _COST] = None,
    password_file: Annotated[
        str | None,
        typer.Option(
            "--password-file",
            metavar="FILE",
            help="File with the Redis password; - is standard input.",
        ),
    ] = None,
    allow_missing: Annotated[bool, _ALLOW_MISSING] = False,
    force: Annotated[bool, typer.Option("--force", help="Push in spite of refusals.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Show what would change; write nothing.")
    ] = False,
) -> Result:
    """Publish tables where AIBrix reads GPU profiles: aibrix:profile_MODEL_DEPLOYMENT.

    Refused without --force: a profile that is older than the one there, and buckets other than
    those of the model's other profiles, which AIBrix would skip. The password also comes from
    AIBRIXCTL_REDIS_PASSWORD.
    """
    import os

    from accelerators.errors import UsageError
    from aibrixctl.config import SECRET
    from aibrixctl.secret import hide, read_secret
    from profiler.interop import aibrix_redis
    from profiler.table_files import load_all, with_costs

    tables = with_costs(load_all(paths), cost or ())
    if deployment and len(tables) > 1:
        raise UsageError(
            "push.several", f"one --deployment for {len(tables)} tables", target="--deployment"
        )
    exports = [_aibrix(table, deployment, allow_missing) for table in tables]
    password = read_secret("--password-file", password_file) or os.environ.get(SECRET)
    hide(password or "")
    with aibrix_redis.connected(url, password) as client:
        plans = aibrix_redis.plan_pushes(
            client,
            [
                (exported.document, model or table.model)
                for exported, table in zip(exports, tables, strict=True)
            ],
        )
        refused = [reason for plan in plans for reason in plan.refusals]
        pushed = not dry_run and (force or not refused)
        for plan in plans if pushed else ():
            aibrix_redis.push(client, plan)
    return _push_result(plans, exports, dry_run=dry_run, pushed=pushed)


def _push_result(
    plans: list["PushPlan"], exports: list["Exported"], *, dry_run: bool, pushed: bool
) -> Result:
    refused = [reason for plan in plans for reason in plan.refusals]

    def view(console: Any, wide: bool) -> None:
        for plan in plans:
            action = plan.to_json()["action"]
            console.print(f"{'pushed' if pushed else f'would {action}'} {plan.key}", style="bold")
            for line in plan.changes or ("no change but the time",):
                console.print(f"  {line}")

    failed = bool(refused) and not pushed and not dry_run
    warnings = [line for exported in exports for line in exported.warnings]
    warnings += [line for plan in plans for line in plan.warnings]
    return Result(
        {
            "dry_run": dry_run,
            "pushed": pushed,
            "profiles": [plan.to_json() for plan in plans],
        },
        rows=[
            {"key": plan.key, "action": plan.to_json()["action"], "changes": list(plan.changes)}
            for plan in plans
        ],
        record="profile",
        view=view,
        status="error" if failed else "success",
        exit_code=ExitCode.FAILURE if failed else ExitCode.OK,
        errors=tuple(
            Problem("push.refused", reason, hint="--force pushes all the same")
            for reason in (refused if failed else ())
        ),
        warnings=(
            *_warnings("push.refused", [] if failed else refused),
            *_warnings("push.aibrix", warnings),
        ),
    )


def _warnings(code: str, texts: Any) -> tuple[Problem, ...]:
    return tuple(Problem(code, text) for text in texts)
