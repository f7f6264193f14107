"""``aibrixctl optimize workload show | synth``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aibrixctl.command import command
from aibrixctl.redis_access import Model, PasswordFile
from aibrixctl.result import Problem, Result

if TYPE_CHECKING:
    from rich.console import Console

    from optimizer.workload import Workload
    from optimizer.workload.synth import Part

_FORMAT = typer.Option("--format", metavar="NAME", help="Read as this format, not as it looks.")


@command(
    "optimize workload show",
    examples=(
        ("aibrixctl optimize workload show trace.csv", "draw sizes, rates and percentiles"),
        ("aibrixctl optimize workload show trace.csv -o csv", "the histogram for a spreadsheet"),
        (
            "aibrixctl optimize workload show redis://127.0.0.1:6379/0 --model m",
            "what AIBrix's gateway saw in the last minutes",
        ),
    ),
)
def show_workload(
    path: Annotated[
        str,
        typer.Argument(metavar="FILE|redis://…", help="Trace, histogram, or the gateway's Redis."),
    ],
    format_: Annotated[str | None, _FORMAT] = None,
    model: Model = None,
    window: Annotated[
        str | None,
        typer.Option("--window", metavar="TIME", help="Of live traffic; all that is kept else."),
    ] = None,
    password_file: PasswordFile = None,
    rate: Annotated[
        float | None, typer.Option("--rate", help="Requests/s, in place of the file's own.")
    ] = None,
    input_tokens: Annotated[
        str | None,
        typer.Option("--input-tokens", metavar="N,N,…", help="Bucket bounds; powers of 2 else."),
    ] = None,
    output_tokens: Annotated[
        str | None, typer.Option("--output-tokens", metavar="N,N,…", help="The same for output.")
    ] = None,
    save_histogram: Annotated[
        str | None,
        typer.Option(
            "--save-histogram",
            metavar="FILE",
            help="Also write the exact sizes as a histogram, which plans read like a trace.",
        ),
    ] = None,
) -> Result:
    """Draw a workload: sizes as a histogram, the rate over time, percentiles.

    Reads Azure's CSV (2023, 2024), BurstGPT's CSV, Mooncake's JSON Lines, AIBrix's workload files
    (v1, v2), and histogram documents; the format is found from the content. Traces may be packed
    with gzip. redis://[USER@]HOST[:PORT][/DB] reads what AIBrix's gateway saw, in every version
    of its request traces; slots without data are gaps, not zero traffic, and a size stands for
    the most tokens that the gateway writes so. The password also comes from
    AIBRIXCTL_REDIS_PASSWORD.
    """
    from aibrixctl.plan_inputs import RedisChoice, load_workload
    from aibrixctl.redis_access import redis_password
    from optimizer.workload.histogram import write_histogram

    choice = RedisChoice(model, window, redis_password(password_file))
    workload = load_workload(path, choice, format_name=format_, request_rate=rate)
    if save_histogram is not None:
        write_histogram(workload, save_histogram)
    ticks = (
        _ticks(input_tokens, workload.size_stats("input_tokens").max, "--input-tokens"),
        _ticks(output_tokens, workload.size_stats("output_tokens").max, "--output-tokens"),
    )
    data = workload.to_json() | {"histogram": _histogram(workload, *ticks)}

    def view(console: "Console", wide: bool) -> None:
        from aibrixctl.workload_view import draw

        draw(console, data)

    return Result(
        data,
        rows=data["histogram"]["buckets"],
        record="bucket",
        view=view,
        warnings=tuple(Problem("workload.note", note, path) for note in workload.notes),
    )


def _ticks(text: str | None, largest: int, option: str) -> list[int]:
    """Return bounds as given, or powers of 2 up to the largest size."""
    from accelerators.errors import UsageError

    if text is None:
        powers = [32]
        while powers[-1] < largest:
            powers.append(powers[-1] * 2)
        return powers
    try:
        ticks = [int(part) for part in text.split(",")]
    except ValueError:
        ticks = []
    if not ticks or ticks[0] < 1 or ticks != sorted(set(ticks)):
        raise UsageError(
            "option.ticks", f"{option} is {text!r}; expected ascending numbers such as 128,512,2048"
        )
    return ticks


def _histogram(workload: "Workload", inputs: list[int], outputs: list[int]) -> dict[str, Any]:
    import numpy as np

    inside = (workload.input_tokens <= inputs[-1]) & (workload.output_tokens <= outputs[-1])
    share = workload.count / workload.total
    grid = np.zeros((len(inputs), len(outputs)))
    rows = np.searchsorted(inputs, workload.input_tokens[inside])
    columns = np.searchsorted(outputs, workload.output_tokens[inside])
    np.add.at(grid, (rows, columns), share[inside])
    return {
        "input_tokens": inputs,
        "output_tokens": outputs,
        "outside_share": round(float(share[~inside].sum()), 9),
        "buckets": [
            {
                "input_tokens": i,
                "output_tokens": o,
                "share": round(float(grid[r, c]), 9),
                "requests_per_s": round(float(grid[r, c]) * workload.request_rate, 9),
            }
            for r, i in enumerate(inputs)
            for c, o in enumerate(outputs)
            if grid[r, c] > 0
        ],
    }


@command(
    "optimize workload synth",
    examples=(
        (
            "aibrixctl optimize workload synth --rate 10 --duration 5m --out trace.csv",
            "conversation and text-to-SQL, half each",
        ),
        (
            "aibrixctl optimize workload synth --mix conversation=3,code=1 --rate 20 "
            "--duration 60s --burstiness 0.5 --seed 7 --out trace.csv",
            "another mixture, in bursts",
        ),
        (
            "aibrixctl optimize workload synth --input-sizes lognormal:mean=512,cv=1.2,max=4096 "
            "--output-sizes gamma:mean=200,cv=0.8,max=1024 --rate 5 --duration 60s --out trace.csv",
            "own distributions",
        ),
    ),
)
def synth(
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="Trace to write.")],
    rate: Annotated[float, typer.Option("--rate", help="Mean requests/s.")],
    duration: Annotated[
        str, typer.Option("--duration", metavar="TIME", help="Length of the trace.")
    ] = "10m",
    mix: Annotated[
        list[str] | None,
        typer.Option(
            "--mix",
            metavar="PRESET=SHARE,…",
            help="Presets: conversation, code (both as Azure's 2023 traces), text-to-sql, "
            "summarisation. Half conversation, half text-to-sql by default.",
        ),
    ] = None,
    input_sizes: Annotated[
        str | None,
        typer.Option(
            "--input-sizes",
            metavar="DISTRIBUTION",
            help="Own input sizes, e.g. lognormal:mean=512,cv=1.2,min=1,max=4096; also gamma, "
            "uniform (min, max) and fixed (mean). Needs --output-sizes.",
        ),
    ] = None,
    output_sizes: Annotated[
        str | None,
        typer.Option("--output-sizes", metavar="DISTRIBUTION", help="Own output sizes."),
    ] = None,
    max_input: Annotated[
        int, typer.Option("--max-input", help="Clip a preset's input sizes.")
    ] = 16_384,
    max_output: Annotated[
        int, typer.Option("--max-output", help="Clip a preset's output sizes.")
    ] = 4096,
    burstiness: Annotated[
        float,
        typer.Option("--burstiness", help="Shape of the gaps: 1 is Poisson, less comes in bursts."),
    ] = 1.0,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same trace.")] = 0,
    format_: Annotated[
        str, typer.Option("--format", metavar="azure|mooncake", help="Format of the trace.")
    ] = "azure",
) -> Result:
    """Make a synthetic trace from documented distributions.

    Sizes are drawn per request and clipped; gaps between arrivals are gamma distributed with the
    shape --burstiness, as in `vllm bench serve`.
    """
    from aibrixctl import quantities
    from optimizer.workload import read
    from optimizer.workload import synth as synthesis

    parts = _parts(mix, input_sizes, output_sizes, max_input, max_output)
    requests = synthesis.draw(
        parts,
        request_rate=rate,
        duration_s=quantities.duration("--duration", duration),
        seed=seed,
        burstiness=burstiness,
    )
    synthesis.write(requests, out, format_)
    data = {"path": out, "seed": seed} | read(out).to_json()

    def view(console: "Console", wide: bool) -> None:
        from aibrixctl.workload_view import draw_summary

        console.print(f"wrote {out}")
        draw_summary(console, data)

    return Result(data, view=view)


def _parts(
    mix: list[str] | None,
    input_sizes: str | None,
    output_sizes: str | None,
    max_input: int,
    max_output: int,
) -> "tuple[Part, ...]":
    from accelerators.errors import UsageError
    from aibrixctl.assignments import numbers
    from optimizer.workload import synth as synthesis

    if input_sizes is None and output_sizes is None:
        shares = numbers("--mix", mix) or synthesis.MIXED
        return synthesis.preset(shares, max_input, max_output)
    if input_sizes is None or output_sizes is None or mix:
        raise UsageError(
            "option.conflict", "--input-sizes and --output-sizes go together, and without --mix"
        )
    sides = synthesis.parse_lengths(input_sizes), synthesis.parse_lengths(output_sizes)
    return (synthesis.Part(1.0, *sides),)
