"""``aibrixctl profile predict`` and ``aibrixctl profile serve-sim``."""

import threading
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aibrixctl import __version__, choices
from aibrixctl.command import command, session
from aibrixctl.result import Problem, Result
from aibrixctl.shared_options import OwnTypes
from aibrixctl.signals import interruptible

if TYPE_CHECKING:
    from rich.console import Console

    from profiler.sim.predict import Prediction
    from profiler.sim.replica import Replica

_ACCELERATOR = Annotated[
    str,
    typer.Option(
        "--accelerator",
        help="GPU or NPU type, by any usual name.",
        autocompletion=choices.accelerators,
    ),
]
_MODEL = Annotated[
    str,
    typer.Option(
        "--model",
        help="A known model, or a path to a Hugging Face config.json.",
        autocompletion=choices.models,
    ),
]
_GPUS = Annotated[int, typer.Option("--gpus", min=1, help="Accelerators, tensor parallel.")]


@command(
    "profile predict",
    examples=(
        (
            "aibrixctl profile predict --accelerator a100-80g-sxm --gpus 2 --model llama-2-70b "
            "--batch 8 --input-tokens 512 --output-tokens 128",
            "eight requests together on two GPUs",
        ),
        (
            "aibrixctl profile predict --accelerator a10 --model qwen2.5-7b --input-tokens 2048 "
            "--output-tokens 256 -o json",
            "one request, for a script",
        ),
    ),
)
def predict(
    accelerator: _ACCELERATOR,
    model: _MODEL,
    input_tokens: Annotated[
        int, typer.Option("--input-tokens", min=1, help="Tokens of each prompt.")
    ],
    output_tokens: Annotated[
        int, typer.Option("--output-tokens", min=1, help="Tokens of each answer.")
    ],
    gpus: _GPUS = 1,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Requests that run together.")] = 1,
    accelerators: OwnTypes = None,
) -> Result:
    """Predict prefill and decode times of a batch from data sheets; nothing is run.

    A roofline over the accelerator and the model's shape. The batch is alone on the replica and
    its prompts are computed together. decode_ms_per_token is the step at the middle of the
    answers. Errors against measured times: benchmarks/simulator.md.
    """
    from profiler.sim.predict import predict as predict_batch

    replica = _replica(accelerator, accelerators, model, gpus, must_fit=False)
    prediction = predict_batch(
        replica, batch=batch, input_tokens=input_tokens, output_tokens=output_tokens
    )
    warnings: tuple[Problem, ...] = ()
    if not prediction.fits:
        warnings = (
            Problem(
                "sim.does_not_fit",
                "the batch does not fit into memory; an engine would run fewer at a time",
                hint="lower --batch, or raise --gpus",
            ),
        )
    return Result(
        prediction.to_json(),
        view=lambda console, wide: _draw(prediction, console, wide=wide),
        warnings=warnings,
    )


def _replica(
    accelerator: str,
    own: str | None,
    model: str,
    gpus: int,
    **more: Any,
) -> "Replica":
    from accelerators.catalog import load_catalog
    from accelerators.names import resolve
    from profiler.sim.replica import make_replica

    return make_replica(
        resolve(accelerator, load_catalog(own)),
        model,
        gpus=gpus,
        **more,
    )


def _draw(prediction: "Prediction", console: "Console", *, wide: bool) -> None:
    from accelerators.units import format_bytes, format_duration
    from aibrixctl.render import table_of

    body = prediction.to_json()
    console.print(
        f"Predicted, not measured: {body['model']} on {body['gpus']} x {body['accelerator']}, "
        f"batch {body['batch']}, {body['input_tokens']} in, {body['output_tokens']} out",
        style="bold",
    )
    rows = []
    for phase, value in (
        ("prefill", prediction.prefill_ms),
        ("decode per token", prediction.decode_ms_per_token),
    ):
        key = phase.split()[0]
        row = {
            "phase": phase,
            "time": format_duration(value / 1e3),
            "bound by": body["bound"][key],
        }
        parts = {f"{name} ms": part for name, part in body["parts_ms"][key].items()}
        rows.append(row | (parts if wide else {}))
    console.print(table_of(rows))
    memory = body["memory_per_gpu_bytes"]
    shown = [f"{name} {format_bytes(memory[name])}" for name in ("weights", "kv_cache")]
    console.print(
        f"memory per GPU: {', '.join(shown).replace('_', ' ')}, "
        f"activations {format_bytes(memory['activations'])}, of {format_bytes(memory['total'])}"
        f"; {'fits' if body['fits'] else 'does not fit'}"
    )


@command(
    "profile serve-sim",
    examples=(
        (
            "aibrixctl profile serve-sim --accelerator a10 --model llama-2-7b --port 0 "
            "--duration 1s",
            "an A10 on a free port, for a second",
        ),
        (
            "aibrixctl profile serve-sim --accelerator l20 --model deepseek-coder-7b --port 0 "
            "--speed 10 --duration 1s",
            "an L20, ten times as fast as real",
        ),
        (
            "aibrixctl profile serve-sim --accelerator a10 --model llama-2-7b --port 0 "
            "--fault wedge@10s --duration 1s",
            "one that stands still after ten seconds, for `diagnose engine` to find",
        ),
    ),
)
def serve_sim(
    accelerator: _ACCELERATOR,
    model: _MODEL,
    gpus: _GPUS = 1,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")
    ] = 8000,
    speed: Annotated[
        float, typer.Option("--speed", min=0.001, help="How many times as fast as real.")
    ] = 1.0,
    served_model_name: Annotated[
        str | None, typer.Option("--served-model-name", help="Name in the API; --model if not set.")
    ] = None,
    max_model_len: Annotated[
        int | None, typer.Option("--max-model-len", min=1, help="Longest sequence, tokens.")
    ] = None,
    max_num_seqs: Annotated[
        int | None, typer.Option("--max-num-seqs", min=1, help="Requests that run at once.")
    ] = None,
    max_num_batched_tokens: Annotated[
        int | None,
        typer.Option("--max-num-batched-tokens", min=1, help="Tokens of one step."),
    ] = None,
    gpu_memory_utilization: Annotated[
        str,
        typer.Option(
            "--gpu-memory-utilization", metavar="SHARE", help="Share of memory the engine takes."
        ),
    ] = "0.9",
    api_key_file: Annotated[
        str | None,
        typer.Option(
            "--api-key-file", metavar="FILE", help="Ask clients for the key in this file."
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", help="Of the lengths of answers that end by themselves.")
    ] = 0,
    prefix_cache_hit_rate: Annotated[
        str,
        typer.Option(
            "--prefix-cache-hit-rate",
            metavar="SHARE",
            help="Share of every prompt that the prefix cache holds.",
        ),
    ] = "0",
    fault: Annotated[
        list[str] | None,
        typer.Option(
            "--fault",
            metavar="NAME[=VALUE][@AFTER][:FOR]",
            help="Have a fault; may be given more than once.",
        ),
    ] = None,
    duration: Annotated[
        str | None,
        typer.Option("--duration", metavar="TIME", help="Stop after this time; else on a signal."),
    ] = None,
    accelerators: OwnTypes = None,
) -> Result:
    """Serve a simulated engine over HTTP, with vLLM's API and metric names.

    /v1/completions, /v1/chat/completions, /v1/models, /tokenize, /health, /version, /metrics.
    Once connections are accepted, a line "serving … at URL" appears on stderr, with --quiet too.
    Limits that are not set are vLLM's defaults.

    Faults: wedge (the scheduler stands still, /health says 200), unhealthy (/health says 503),
    errors=SHARE (requests fail with 500), slow=FACTOR (every step), queue (one request runs at a
    time), preempt=SHARE (steps after which a request loses its blocks), kv-full=SHARE (of the KV
    cache, held by no request), cache-collapse (the prefix cache finds nothing). wedge@10s:5s
    begins ten seconds after the start and lasts five.

    Being stopped by SIGINT or SIGTERM is the normal
    end: the exit code is 0, and the result says what was served.
    """
    from aibrixctl import quantities
    from aibrixctl.secret import read_secret
    from profiler.sim.faults import parse_fault
    from profiler.sim.server import ServerConfig, serve

    replica = _replica(
        accelerator,
        accelerators,
        model,
        gpus,
        max_model_len=max_model_len,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        gpu_memory_utilization=quantities.fraction(
            "--gpu-memory-utilization", gpu_memory_utilization
        ),
    )
    config = ServerConfig(
        replica,
        served_model_name or model,
        host,
        port,
        speed,
        seed,
        read_secret("--api-key-file", api_key_file),
        __version__,
        quantities.fraction("--prefix-cache-hit-rate", prefix_cache_hit_rate),
        tuple(parse_fault(text) for text in fault or ()),
    )
    limit_s = None if duration is None else quantities.duration("--duration", duration)
    urls: list[str] = []

    def ready(url: str) -> None:
        urls.append(url)
        told = f", told to have {', '.join(fault)}," if fault else ""
        session().reporter.line(f"serving simulated {config.model} on {accelerator}{told} at {url}")

    with interruptible() as stop:
        timer = None if limit_s is None else threading.Timer(limit_s, stop.set)
        if timer is not None:
            timer.start()
        try:
            served = serve(config, stop, ready)
        finally:
            if timer is not None:
                timer.cancel()
    figures = {**vars(served), "worst_late_ms": round(served.worst_late_s * 1e3, 3)}
    del figures["worst_late_s"]
    return Result(
        {"url": urls[0], "model": config.model, "speed": speed, "faults": fault or [], **figures}
        | {"replica": replica.to_json()},
        rows=[{"url": urls[0], **figures}],
        record="served",
    )
