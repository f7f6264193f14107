"""``aibrixctl profile load``."""

import math
import re
from typing import TYPE_CHECKING, Annotated

import typer

from aibrixctl.choices import one_of
from aibrixctl.command import command, session
from aibrixctl.in_cluster_options import (
    DEFAULT_START_TIMEOUT,
    PortForward,
    StartTimeout,
    TokenSecret,
)
from aibrixctl.kube_options import (
    DEFAULT_ACCOUNT,
    DEFAULT_IMAGE,
    Context,
    Image,
    Kubeconfig,
    Namespace,
    ServiceAccount,
)
from aibrixctl.result import Problem, Result, waiting_stopped
from aibrixctl.shared_options import (
    CaFile,
    Endpoint,
    Insecure,
    ReadyTimeout,
    Shards,
    TokenFile,
)
from aibrixctl.signals import StopFlag, interruptible

if TYPE_CHECKING:
    from aibrixctl.in_cluster_options import InCluster
    from aibrixctl.terminal import Progress as Bar
    from profiler.load import LoadConfig, LoadRun, Progress
    from profiler.slo import Slo


@command(
    "profile load",
    examples=(
        (
            "aibrixctl profile load --base-url http://127.0.0.1:8000 --model m --request-rate 20 "
            "--input-tokens 128 --output-tokens 16 --duration 2s --warmup 0s",
            "20 requests/s, Poisson arrivals",
        ),
        (
            "aibrixctl profile load --base-url http://127.0.0.1:8000 --model m "
            "--max-concurrency 4 --num-prompts 40 --input-tokens 64 --output-tokens 16 "
            "--warmup 0s --slo 'ttft_p99<=20s' -o json",
            "four requests in flight, with an objective (exit 12 when missed)",
        ),
        (
            "aibrixctl profile load --target k8s:deployment/l20 --shards 2 --request-rate 20 "
            "--input-tokens 128 --output-tokens 16 --duration 2s --warmup 0s",
            "from two pods, on one replica of a deployment",
        ),
    ),
)
def load(
    input_tokens: Annotated[
        int, typer.Option("--input-tokens", metavar="N", help="Tokens of every prompt.")
    ],
    output_tokens: Annotated[
        int, typer.Option("--output-tokens", metavar="N", help="Tokens of every answer.")
    ],
    base_url: Annotated[
        str | None,
        typer.Option("--base-url", metavar="URL", help="Server, e.g. http://127.0.0.1:8000."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="[NAME=]WHERE",
            help="In place of the URL: k8s:deployment/[NAMESPACE/]NAME or k8s:service/…, which is "
            "measured from inside the cluster.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="Name that the server knows; of a k8s: target by default its label's."
        ),
    ] = None,
    request_rate: Annotated[
        float | None,
        typer.Option("--request-rate", metavar="R", help="Requests/s of an open loop."),
    ] = None,
    max_concurrency: Annotated[
        int | None,
        typer.Option(
            "--max-concurrency",
            metavar="C",
            help="Requests in flight of a closed loop; beside a rate, a cap on them.",
        ),
    ] = None,
    duration: Annotated[
        str | None,
        typer.Option(
            "--duration", metavar="TIME", help="Length of the measured window.  [default: 30s]"
        ),
    ] = None,
    num_prompts: Annotated[
        int | None,
        typer.Option(
            "--num-prompts", metavar="K", help="Requests in the window; ends it if first."
        ),
    ] = None,
    warmup: Annotated[
        str, typer.Option("--warmup", metavar="TIME", help="Load before the window, not measured.")
    ] = "5s",
    seed: Annotated[int, typer.Option("--seed", help="Of prompts and arrivals.")] = 0,
    salt: Annotated[
        str | None,
        typer.Option(
            "--salt",
            metavar="TEXT",
            help="Of the prompts: a run with the same one and seed repeats them.  [default: new]",
        ),
    ] = None,
    arrival: Annotated[
        str | None,
        typer.Option(
            "--arrival",
            metavar="poisson|constant|gamma",
            help="Spread of arrivals.",
            autocompletion=one_of("poisson", "constant", "gamma"),
        ),
    ] = None,
    burstiness: Annotated[
        float,
        typer.Option(
            "--burstiness", help="Shape of gamma arrivals: 1 is Poisson, less is burstier."
        ),
    ] = 1.0,
    endpoint: Endpoint = "/v1/completions",
    slo: Annotated[
        list[str] | None,
        typer.Option(
            "--slo", metavar="METRIC_STAT<=LIMIT", help="E.g. ttft_p99<=2s. Repeatable; exit 12."
        ),
    ] = None,
    goodput: Annotated[
        list[str] | None,
        typer.Option(
            "--goodput",
            metavar="METRIC:MS",
            help="Limit for each request, e.g. ttft:200; counted, no verdict. Repeatable.",
        ),
    ] = None,
    shared_prefix_tokens: Annotated[
        int,
        typer.Option(
            "--shared-prefix-tokens", metavar="N", help="Head that all prompts share (cache hits)."
        ),
    ] = 0,
    ignore_eos: Annotated[
        bool,
        typer.Option(
            "--ignore-eos/--no-ignore-eos",
            help="Ask for exactly N output tokens; a shorter answer then fails.",
        ),
    ] = True,
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="TIME", help="Of a whole request.")
    ] = "10m",
    first_token_timeout: Annotated[
        str,
        typer.Option("--first-token-timeout", metavar="TIME", help="From send to the first token."),
    ] = "2m",
    stall_timeout: Annotated[
        str, typer.Option("--stall-timeout", metavar="TIME", help="Of silence within an answer.")
    ] = "1m",
    connect_timeout: Annotated[
        str, typer.Option("--connect-timeout", metavar="TIME", help="Of a connection.")
    ] = "10s",
    ready_timeout: ReadyTimeout = "0s",
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    insecure: Insecure = False,
    extra_body: Annotated[
        str | None,
        typer.Option("--extra-body", metavar="JSON", help="Fields added to every request."),
    ] = None,
    shards: Shards = 1,
    port_forward: PortForward = False,
    image: Image = DEFAULT_IMAGE,
    service_account: ServiceAccount = DEFAULT_ACCOUNT,
    token_secret: TokenSecret = None,
    start_timeout: StartTimeout = DEFAULT_START_TIMEOUT,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> Result:
    """Put one load on a streaming completions server and report its latency and throughput.

    TTFT: from a request's send to its first token with text; from schedule: from when it was
    due, so that a queue in the client can't hide. ITL: every gap between tokens, pooled;
    tokens of one event arrive together, with gaps of 0. TPOT: (E2E - TTFT) / (output tokens - 1)
    of a request. E2E: from send to the last token. Tokens are those of the server's usage.

    TTFT, TPOT and E2E are of requests due in the window, each followed to its end; rates and ITL
    of what happened within it. Failed requests are never retried; they count as infinitely late
    against an objective, and are left out of the latencies printed. goodput is requests/s that
    met every limit.

    Prompts differ from each other and from those of earlier runs in their first block, so a
    prefix cache does not help, and have the length asked for as the server counts it.

    --shards sends parts of one schedule from several processes that start at one agreed moment;
    the figures are read from all observations together. When a shard is lost under way, it is
    named and the result is partial: exit 3.

    A k8s: target is measured by Jobs in its namespace, one a shard. Of a deployment one replica is
    measured: a pod is asked directly where no Service leads to one alone.

    When a delay of the client itself could have moved a reported percentile by more than 5% (and
    0.5 ms), or it did not deliver the load, the result is not certified: exit 3.
    """
    from accelerators.errors import UsageError
    from aibrixctl.in_cluster_options import in_cluster
    from aibrixctl.kube_options import access, refuse_unused
    from aibrixctl.load_options import parse_arrival, parse_body, parse_goodput
    from aibrixctl.quantities import duration as seconds
    from aibrixctl.secret import read_secret
    from profiler.load import LoadConfig
    from profiler.slo import parse_slos

    slos = parse_slos(slo or ())
    where = _where(base_url, target)
    if model is None and not where.startswith("k8s:"):
        raise UsageError("load.model", "no model is given", hint="name it with --model")
    config = LoadConfig(
        base_url=where,
        model=model or "",
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        request_rate=request_rate,
        max_concurrency=max_concurrency,
        duration_s=None if duration is None else seconds("--duration", duration),
        num_prompts=num_prompts,
        warmup_s=seconds("--warmup", warmup),
        seed=seed,
        **({} if salt is None else {"salt": salt}),
        arrival=parse_arrival(arrival, burstiness),
        burstiness=burstiness,
        endpoint=endpoint,
        shared_prefix_tokens=shared_prefix_tokens,
        ignore_eos=ignore_eos,
        timeout_s=seconds("--timeout", timeout),
        first_token_timeout_s=seconds("--first-token-timeout", first_token_timeout),
        stall_timeout_s=seconds("--stall-timeout", stall_timeout),
        connect_timeout_s=seconds("--connect-timeout", connect_timeout),
        ready_timeout_s=seconds("--ready-timeout", ready_timeout),
        slos=(*slos, *parse_goodput(goodput or ())),
        token=read_secret("--token-file", token_file),
        ca_file=ca_file,
        insecure=insecure,
        extra_body=parse_body(extra_body),
    )
    if not where.startswith("k8s:"):
        refuse_unused(
            {
                "--port-forward": port_forward,
                "--token-secret": token_secret,
                "--namespace": namespace,
                "--context": context,
                "--kubeconfig": kubeconfig,
            },
            hint="name a target k8s:deployment/NAME or k8s:service/NAME",
        )
        with interruptible() as stop:
            return _run(config, slos, shards, stop)
    wanted = in_cluster(
        access(kubeconfig, context, namespace),
        port_forward=port_forward,
        image=image,
        service_account=service_account,
        token_secret=token_secret,
        start_timeout=start_timeout,
        local_files=token_file is not None or ca_file is not None,
    )
    with interruptible() as stop:
        return _run_in_cluster(config, slos, shards, wanted, stop)


def _where(base_url: str | None, target: str | None) -> str:
    """Return the URL or the target; a name before it is for symmetry with ``profile run``."""
    from accelerators.errors import UsageError

    if (base_url is None) == (target is None):
        raise UsageError(
            "load.target", "give either --base-url or --target", hint="e.g. k8s:deployment/foo"
        )
    where = base_url if target is None else re.sub(r"^[A-Za-z0-9._-]+=", "", target)
    return str(where)


def _run(config: "LoadConfig", slos: "tuple[Slo, ...]", shards: int, stop: StopFlag) -> Result:
    from aibrixctl.load_result import result_of
    from profiler.errors import EngineUnreachableError
    from profiler.load.shards import run_sharded

    with session().reporter.progress("load") as bar:
        try:
            run: LoadRun = run_sharded(
                config, shards, stop=stop, on_progress=lambda now: _show(bar, config, now)
            )
        except EngineUnreachableError:
            if not stop.is_set():
                raise
            return waiting_stopped(config.base_url, stop.exit_code)
    return result_of(config, run, slos, session().output, stop.exit_code)


def _run_in_cluster(
    config: "LoadConfig",
    slos: "tuple[Slo, ...]",
    shards: int,
    wanted: "InCluster",
    stop: StopFlag,
) -> Result:
    from dataclasses import replace

    from aibrixctl.load_result import result_of
    from cluster.errors import ClusterError
    from profiler.errors import EngineUnreachableError
    from profiler.in_cluster.place import parse_ref
    from profiler.in_cluster.targets import reach, served_model
    from profiler.probes import InterruptedProbeError

    ref, target = parse_ref(config.base_url), config.base_url
    with (
        session().reporter.progress("load") as bar,
        reach(wanted.access, ref, wanted.jobs, wanted.via) as reached,
    ):
        model = served_model(reached.place, config.model)
        config = replace(config, base_url=reached.url, model=model)
        try:
            reached.check(config, stop)
            run = reached.send(
                config,
                shards,
                stop=stop,
                on_progress=lambda now: _show(bar, config, now),
                waiting=lambda what: session().reporter.say(f"waiting for {what}"),
            )
        except InterruptedProbeError as error:
            return _stopped(target, stop, *map(str, error.args))
        except (ClusterError, EngineUnreachableError) as error:
            if not stop.is_set():
                raise
            return _stopped(target, stop, error.message, error.hint)
    return result_of(
        config, run, slos, session().output, stop.exit_code, measured=(target, reached.via)
    )


def _stopped(target: str, stop: StopFlag, *reasons: str) -> Result:
    """Return the result of a load that was stopped and left no figures."""
    text = f"stopped before {target} was measured"
    if any(reasons):
        text = f"stopped, and nothing measured of {target} came back: {'; '.join(reasons)}"
    problem = Problem("interrupted", text.rstrip("; "), target)
    return Result(None, status="error", exit_code=stop.exit_code, errors=(problem,))


def _show(bar: "Bar", config: "LoadConfig", now: "Progress") -> None:
    text = f"{now.completed} done, {now.failed} failed, {now.in_flight} in flight"
    if math.isfinite(config.window_s):
        bar.update(now.elapsed_s, config.warmup_s + config.window_s, text)
    else:
        bar.update(now.completed + now.failed, config.num_prompts, text)
