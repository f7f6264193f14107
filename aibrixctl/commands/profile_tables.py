"""``aibrixctl profile show | compare | export | import``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aibrixctl.choices import one_of
from aibrixctl.command import command
from aibrixctl.result import Result
from aibrixctl.table_options import (
    ALLOW_MISSING,
    COST,
    DEPLOYMENT,
    TABLES,
    aibrix_profile,
    warnings_of,
)

if TYPE_CHECKING:
    from profiler.interop.checks import Imported


@command(
    "profile show",
    examples=(
        ("aibrixctl profile show profiles", "draw every table of a folder"),
        ("aibrixctl profile show profiles/a10.table.json -o wide", "with latencies per cell"),
    ),
)
def show_table(paths: Annotated[list[str], TABLES]) -> Result:
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
        warnings=warnings_of("compare.unlike", found.warnings),
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
    paths: Annotated[list[str], TABLES],
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
    deployment: Annotated[str | None, DEPLOYMENT] = None,
    cost: Annotated[list[str] | None, COST] = None,
    allow_missing: Annotated[bool, ALLOW_MISSING] = False,
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
        exported = aibrix_profile(tables[0], deployment, allow_missing)
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
        warnings=warnings_of("export.lossy", warnings),
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
        warnings=warnings_of("import.lossy", found.warnings),
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
