"""``aibrixctl demo``."""

import contextlib
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aibrixctl.command import command, session
from aibrixctl.exit_codes import ExitCode
from aibrixctl.result import Result

if TYPE_CHECKING:
    from rich.console import Console

_MODEL = "deepseek-coder-7b"
_RELEASE = (
    "AIBrix v0.2.0 reports for its like experiment, measured on real A10 and L20: about 10% less "
    "cost than L20 alone, at up to 20% more latency but within the SLO."
)
_DOCUMENTS = ("workload.csv", "profiles", "plan.json", "demo-report.html", "commands.sh")


@command(
    "demo",
    examples=(
        ("aibrixctl demo", "the whole line, in about half a minute"),
        ("aibrixctl demo --trace trace.csv --out my-demo", "with a real trace"),
    ),
)
def demo(
    out: Annotated[
        str, typer.Option("--out", metavar="DIR", help="Folder for every document.")
    ] = "demo-out",
    trace: Annotated[
        str | None,
        typer.Option("--trace", metavar="FILE", help="Plan for a real trace of any known format."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the workload and the simulator.")] = 0,
) -> Result:
    """Profile two simulated GPU types, plan the cheapest mix for a workload, write a report.

    DeepSeek-Coder-7B on A10 and L20 under a mixed conversation and text-to-SQL workload, as in
    the experiment of AIBrix v0.2.0. DIR gets every document, and commands.sh, which makes each
    of them again. No GPU is used: the tables come from the simulator, and say so.
    """
    from accelerators.documents import write_text

    if trace is not None:
        # A trace that can't be read ends the demo before it profiles anything.
        from optimizer.workload import read

        read(trace)
    folder = _prepare(Path(out))
    steps = _steps(None if trace is None else str(Path(trace).absolute()), seed)
    lines = [shlex.join(["aibrixctl", *words]) for _, words in steps]
    write_text(folder / "commands.sh", _script(lines))
    results: list[Result] = []
    with contextlib.chdir(folder):
        for (title, words), line in zip(steps, lines, strict=True):
            session().reporter.say(f"{title}\n  $ {line}")
            results.append(_run(words))
            if results[-1].exit_code != ExitCode.OK:
                return _stopped(results[-1], out, folder, lines)
        comparison = _compare(results[-2].data)
    return Result(
        _data(out, folder, lines, comparison, results[-2].data),
        rows=[comparison],
        record="comparison",
        view=lambda console, wide: _draw(console, wide, results, comparison, folder),
        warnings=tuple(w for result in results[-2:-1] for w in result.warnings),
    )


def _data(
    out: str,
    folder: Path,
    lines: list[str],
    comparison: dict[str, Any] | None = None,
    plan: dict[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "out": out,
        "commands": lines,
        "documents": [name for name in _DOCUMENTS if (folder / name).exists()],
        "comparison": comparison,
        "plan": plan,
    }


def _stopped(step: Result, out: str, folder: Path, lines: list[str]) -> Result:
    """Return the result of a demo that ended with one of its steps."""
    hint = "the same command starts the demo anew"
    return replace(
        step,
        data=_data(out, folder, lines),
        rows=None,
        errors=tuple(replace(error, hint=hint) for error in step.errors),
    )


def _run(words: list[str]) -> Result:
    from aibrixctl.app import call

    return call(words)


def _steps(trace: str | None, seed: int) -> list[tuple[str, list[str]]]:
    """Return what each step is for, and its command line in the demo's folder."""
    workload = trace or "workload.csv"
    profile = ["profile", "run", "--target", "a10=sim:a10", "--target", "l20=sim:l20"]
    profile += ["--model", _MODEL, "--input-tokens", "128,256,512,1024,2048,4096"]
    profile += ["--output-tokens", "32,64,128,256,512,1024"]
    profile += ["--slo", "ttft_p99<=2s", "--slo", "tpot_p99<=80ms"]
    profile += ["--seed", str(seed), "--out", "profiles"]
    plan = ["optimize", "plan", "--profiles", "profiles", "--workload", workload]
    plan += ["--out-of-range", "extrapolate", "--out", "plan.json"]
    report = ["optimize", "report", "plan.json", "--out", "demo-report.html"]
    report += ["--title", "DeepSeek-Coder-7B on A10 and L20"]
    report += ["--note", _RELEASE, "--note", _prices()]
    steps = [
        ("Profile both GPU types on the simulator.", profile),
        ("Plan the cheapest mix.", plan),
        ("Write the report.", report),
    ]
    if trace is None:
        synth = ["optimize", "workload", "synth", "--mix", "conversation=1,text-to-sql=1"]
        synth += ["--rate", "5", "--duration", "20m", "--max-input", "4096"]
        synth += ["--max-output", "1024", "--seed", str(seed), "--out", "workload.csv"]
        steps.insert(0, ("Make a mixed conversation and text-to-SQL workload.", synth))
    return steps


def _prices() -> str:
    """Return what the prices of the demo rest on, as a sentence."""
    from accelerators.catalog import load_catalog

    types = load_catalog()
    parts = [
        f"{types[name].title} ${types[name].price_usd_per_hour}/h "
        f"({types[name].price_basis}, {types[name].price_date})"
        for name in ("a10", "l20")
    ]
    return f"Prices: {'; '.join(parts)}. Give your own with --cost to profile run or plan."


def _script(lines: Sequence[str]) -> str:
    head = (
        "#!/bin/sh\n# Makes every document of this folder again; run it in an empty one.\nset -eu\n"
    )
    return head + "\n".join(lines) + "\n"


def _prepare(folder: Path) -> Path:
    """Make the folder, or clear an earlier demo out of it; anything else there is left alone.

    Raises:
        UsageError: the folder holds something else and no earlier demo.
    """
    import shutil

    from accelerators.documents import write_errors
    from accelerators.errors import UsageError

    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not (folder / "commands.sh").is_file():
            raise UsageError(
                "demo.folder",
                f"{folder} is not empty and holds no earlier demo",
                hint="give another folder with --out",
                target=str(folder),
            )
        for name in _DOCUMENTS:
            path = folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    return folder.absolute()


def _compare(document: dict[str, Any]) -> dict[str, Any]:
    """Return what the mix costs and how fast it is, against L20 alone.

    Latencies are those of the tables at the certified rates, averaged over requests; when L20
    can't serve the workload alone, its figures are None.
    """
    from optimizer import plan as plans
    from profiler import table as tables

    plan = plans.parse(document, "plan.json")
    alone = plan.savings.single["l20"]
    table = tables.load("profiles/l20.table.json")
    figures: dict[str, Any] = {
        "cost_usd_per_hour": plan.cost_usd_per_hour,
        "l20_alone_cost_usd_per_hour": alone.cost_usd_per_hour,
        "saving_share": alone.saving_share,
    }
    for metric in ("ttft", "tpot", "e2e"):
        mix = single = 0.0
        for route in plan.routing:
            assert route.input_tokens is not None and route.output_tokens is not None
            cell = table.cell(route.input_tokens, route.output_tokens)
            stats = cell.latency.get(metric)
            mix += route.requests_per_s * route.latency[f"{metric}_ms"]["mean"]
            single += route.requests_per_s * (stats.mean if stats else 0.0)
        served = alone.feasible
        figures[f"mean_{metric}_ms"] = round(mix / plan.request_rate, 3)
        figures[f"l20_alone_mean_{metric}_ms"] = (
            round(single / plan.request_rate, 3) if served else None
        )
    return figures


def _draw(
    console: "Console", wide: bool, results: Sequence[Result], found: dict[str, Any], folder: Path
) -> None:
    for result in results[:-1]:
        assert result.view is not None
        result.view(console, wide)
        console.print()
    console.print("Against L20 alone (all figures simulated)", style="bold")
    console.print(_comparison_table(found))
    console.print(_RELEASE)
    console.print(_prices())
    console.print()
    console.print(f"report:   {folder / 'demo-report.html'}")
    console.print(f"commands: {folder / 'commands.sh'}")


def _comparison_table(found: dict[str, Any]) -> Any:
    from aibrixctl.render import table_of

    rows = []
    for label, name, unit in (
        ("cost, $/h", "cost_usd_per_hour", ".2f"),
        ("TTFT mean, ms", "mean_ttft_ms", ".0f"),
        ("TPOT mean, ms", "mean_tpot_ms", ".1f"),
        ("E2E mean, ms", "mean_e2e_ms", ".0f"),
    ):
        mix, alone = found[name], found[f"l20_alone_{name}"]
        rows.append(
            {
                "": label,
                "mix": f"{mix:{unit}}",
                "L20 alone": "–" if alone is None else f"{alone:{unit}}",
                "difference": "–" if not alone else f"{mix / alone - 1:+.1%}",
            }
        )
    return table_of(rows)
