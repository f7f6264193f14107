"""``aibrixctl profile run``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aibrixctl.command import command, session
from aibrixctl.exit_codes import ExitCode
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
    LongNamespace,
    ServiceAccount,
)
from aibrixctl.result import Problem, Result, waiting_stopped
from aibrixctl.shared_options import (
    CaFile,
    Endpoint,
    Insecure,
    OwnTypes,
    ReadyTimeout,
    Shards,
    TokenFile,
)
from aibrixctl.signals import StopFlag, interruptible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aibrixctl.cluster_targets import ClusterSender
    from profiler.run import ProfileRun, Step
    from profiler.run_config import ProfileConfig


@command(
    "profile run",
    examples=(
        (
            "aibrixctl profile run --target a10=sim:a10 --model deepseek-coder-6.7b "
            "--input-tokens 128,512 --output-tokens 32,128 --slo 'ttft_p99<=2s' "
            "--slo 'tpot_p99<=80ms' --out profiles",
            "simulate one A10, four buckets",
        ),
        (
            "aibrixctl profile run --target l20=http://127.0.0.1:8000 --cost l20=1.1 "
            "--model m --input-tokens 128 --output-tokens 32 --slo 'ttft_p99<=2s' "
            "--out profiles --dry-run",
            "what measuring a running engine would do",
        ),
        (
            "aibrixctl profile run --target l20=k8s:deployment/l20 --cost l20=1.1 "
            "--input-tokens 128 --output-tokens 32 --slo 'ttft_p99<=2s' --out profiles --dry-run",
            "an engine in a cluster, by Jobs beside it",
        ),
    ),
)
def run(
    target: Annotated[
        list[str],
        typer.Option(
            "--target",
            metavar="NAME=WHERE",
            help="What to profile: http://HOST:PORT, k8s:deployment/[NAMESPACE/]NAME, "
            "k8s:service/… or sim:ACCELERATOR[xGPUS]. Repeatable.",
        ),
    ],
    input_tokens: Annotated[
        str, typer.Option("--input-tokens", metavar="N,N,…", help="Bucket bounds of the prompts.")
    ],
    output_tokens: Annotated[
        str, typer.Option("--output-tokens", metavar="N,N,…", help="Bucket bounds of the answers.")
    ],
    slo: Annotated[
        list[str],
        typer.Option(
            "--slo",
            metavar="METRIC_STAT<=LIMIT",
            help="Objective: ttft, tpot, itl or e2e; mean, p50, p90, p95 or p99. Repeatable.",
        ),
    ],
    out: Annotated[
        str, typer.Option("--out", metavar="DIR", help="Folder for the tables and the journal.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Model served; for sim: a known shape, or a path to a config.json; for k8s: by "
            "default what its label says.",
        ),
    ] = None,
    cost: Annotated[
        list[str] | None,
        typer.Option(
            "--cost",
            metavar="NAME=USD,…",
            help="Dollars per hour of one replica; a simulated target has its list price.",
        ),
    ] = None,
    gpus: Annotated[
        list[str] | None,
        typer.Option(
            "--gpus", metavar="NAME=N", help="GPUs per replica of an engine; a pod says its own."
        ),
    ] = None,
    accelerators: OwnTypes = None,
    tolerance: Annotated[
        str,
        typer.Option(
            "--tolerance", metavar="SHARE", help="How close to the true limit the search goes."
        ),
    ] = "5%",
    seed: Annotated[int, typer.Option("--seed", help="Of prompts, arrivals and simulator.")] = 0,
    duration: Annotated[
        str,
        typer.Option(
            "--duration",
            metavar="TIME",
            help="Window of one probe of an engine; longer (10 times at most) where an "
            "objective's percentile needs more requests, or requests take long. Simulated "
            "probes need none.",
        ),
    ] = "30s",
    warmup: Annotated[
        str,
        typer.Option(
            "--warmup", metavar="TIME", help="Load before the window of a probe of an engine."
        ),
    ] = "5s",
    max_probes: Annotated[
        int, typer.Option("--max-probes", help="Probes after which the search in a cell stops.")
    ] = 40,
    endpoint: Endpoint = "/v1/completions",
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    insecure: Insecure = False,
    ready_timeout: ReadyTimeout = "0s",
    shards: Shards = 1,
    port_forward: PortForward = False,
    image: Image = DEFAULT_IMAGE,
    service_account: ServiceAccount = DEFAULT_ACCOUNT,
    token_secret: TokenSecret = None,
    start_timeout: StartTimeout = DEFAULT_START_TIMEOUT,
    namespace: LongNamespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run whose journal is in --out.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Show the cells and an estimate of the time.")
    ] = False,
) -> Result:
    """Find, for each target and bucket, the highest request rate that meets the SLO.

    A rate meets the SLO when every objective holds with failed requests counted as infinitely
    late, at most 1% of the requests failed, the backlog does not grow, and the client delivered
    the load. It is certified by two probes with different prompts and arrivals. 0 means that
    the SLO is missed even by requests that hardly ever overlap; cells where the client was the
    bottleneck are marked as lower bounds.

    A p99 rests on 100 requests at least, a p95 or lower on 20; on 500 and 200 in simulation.
    Fewer, at rates so low that --duration allows no more, are told in the cell's notes.

    A k8s: target is measured by Jobs in its namespace, --shards at a time. A probe that loses a
    shard is run once more; lost again, its cell is not measured: exit 3. A table is of one
    replica: where a Service leads to several pods, a pod of the deployment is asked directly.

    DIR gets NAME.table.json per target, and probes.jsonl with every probe as it ends.
    """
    from accelerators.catalog import load_catalog
    from accelerators.errors import UsageError
    from aibrixctl import quantities
    from aibrixctl.cluster_targets import reached
    from aibrixctl.in_cluster_options import in_cluster
    from aibrixctl.kube_options import access, refuse_unused
    from aibrixctl.secret import read_secret
    from profiler.run_config import EngineOptions, ProfileConfig, check, parse_sizes
    from profiler.slo import parse_slos
    from profiler.targets import parse_targets

    targets = parse_targets(
        target, costs=cost or (), gpus=gpus or (), types=load_catalog(accelerators)
    )
    if model is None and any(one.kind != "k8s" for one in targets):
        raise UsageError("profile.model", "no model is given", hint="name it with --model")
    config = ProfileConfig(
        model=model or "",
        targets=targets,
        input_tokens=parse_sizes(input_tokens, "--input-tokens"),
        output_tokens=parse_sizes(output_tokens, "--output-tokens"),
        slos=parse_slos(slo),
        tolerance=quantities.fraction("--tolerance", tolerance),
        seed=seed,
        duration_s=quantities.duration("--duration", duration),
        warmup_s=quantities.duration("--warmup", warmup),
        max_probes=max_probes,
        engine=EngineOptions(
            endpoint=endpoint,
            token=read_secret("--token-file", token_file),
            ca_file=ca_file,
            insecure=insecure,
            ready_timeout_s=quantities.duration("--ready-timeout", ready_timeout),
        ),
        shards=shards,
    )
    check(config)
    if all(one.kind != "k8s" for one in targets):
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
        return _do(config, out, resume, dry_run, {})
    wanted = in_cluster(
        access(kubeconfig, context, namespace),
        port_forward=port_forward,
        image=image,
        service_account=service_account,
        token_secret=token_secret,
        start_timeout=start_timeout,
        local_files=token_file is not None or ca_file is not None,
    )
    with reached(config, wanted, session().reporter.say) as (found, senders):
        return _do(found, out, resume, dry_run, senders)


def _do(
    config: "ProfileConfig",
    out: str,
    resume: bool,
    dry_run: bool,
    senders: "Mapping[str, ClusterSender]",
) -> Result:
    if dry_run:
        return _dry_run(config, out, senders)
    with interruptible() as stop:
        return _run(config, out, resume, stop, senders)


def _dry_run(config: "ProfileConfig", out: str, senders: "Mapping[str, ClusterSender]") -> Result:
    import threading

    from accelerators.units import format_duration
    from profiler.probes import prober_of
    from profiler.run_config import estimate_s

    by_name = {one.name: one for one in config.targets}
    for simulated in (t for t in config.targets if t.kind == "sim"):
        # An unknown model, or one that does not fit, is refused as the run itself would.
        prober_of(simulated, config, threading.Event())
    cells = [{"input_tokens": i, "output_tokens": o} for i, o in config.cells]
    for name, sender in senders.items():
        prober_of(by_name[name], config, threading.Event(), sender).check()
    targets = [
        t.to_json()
        | {"estimate_s": round(estimate_s(config, t), 1)}
        | ({"place": senders[t.name].to_json()} if t.name in senders else {})
        for t in config.targets
    ]
    total = sum(t["estimate_s"] for t in targets)

    def view(console: Any, wide: bool) -> None:
        from aibrixctl.render import table_of

        sizes = " ".join(f"{i}x{o}" for i, o in config.cells)
        console.print(f"{len(cells)} cells per target (input x output tokens): {sizes}")
        console.print(f"SLO: {'  '.join(map(str, config.slos))}")
        console.print(table_of([{k: t[k] for k in t if k != "place"} for t in targets]))
        for name, sender in senders.items():
            place = sender.reached.place
            console.print(
                f"{name}: {place.model or config.model} by {place.engine} at {place.url}, "
                f"measured by {'Jobs' if sender.reached.via == 'job' else 'port-forward'}"
            )
            for note in sender.reached.notes:
                console.print(f"note: {note}")
        console.print(f"about {format_duration(total)} in all; nothing was measured or written")

    data = {
        "dry_run": True,
        "out": out,
        "cells": cells,
        "targets": targets,
        "estimate_s": round(total, 1),
        "slos": [objective.to_json() for objective in config.slos],
    }
    rows = [t | cell for t in targets for cell in cells]
    return Result(data, rows=rows, record="cell", view=view)


def _run(
    config: "ProfileConfig",
    out: str,
    resume: bool,
    stop: StopFlag,
    senders: "Mapping[str, ClusterSender]",
) -> Result:
    from profiler.errors import EngineUnreachableError
    from profiler.run import run_profile

    with session().reporter.progress(
        "profile", total=len(config.targets) * len(config.cells)
    ) as bar:

        def on_step(step: "Step") -> None:
            bar.update(step.done, text=_step_text(step))

        try:
            found = run_profile(
                config,
                out,
                resume=resume,
                stop=stop,
                on_step=on_step,
                jobs=_usable_cores(),
                senders=senders,
            )
        except EngineUnreachableError as error:
            if not stop.is_set():
                raise
            return waiting_stopped(error.target, stop.exit_code)
    return _result(found, out, stop)


def _usable_cores() -> int:
    import os

    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _step_text(step: "Step") -> str:
    where = f"{step.target} {step.input_tokens}x{step.output_tokens}"
    if step.outcome is not None:
        rate = "one at a time" if step.rate is None else f"{step.rate:g} requests/s"
        reasons = f" ({', '.join(step.outcome.reasons)})" if step.outcome.reasons else ""
        return f"{where}: {rate} {step.outcome.verdict}{reasons}"
    cell = step.cell
    rate = "" if cell is None or not cell.max_request_rate else f" {cell.max_request_rate:.4g}/s"
    return f"{where}: {cell.status if cell else ''}{rate}"


def _result(found: "ProfileRun", out: str, stop: StopFlag) -> Result:
    from profiler.interop import csvfile

    complete = not found.interrupted and found.not_measured == 0
    limited = sum(cell.status == "client_limited" for t in found.tables for cell in t.cells)

    def view(console: Any, wide: bool) -> None:
        from aibrixctl.table_view import draw

        for table in found.tables:
            draw(console, table, wide=wide)
            console.print()
        for path in found.paths:
            console.print(f"wrote {path}")

    data = {
        "dry_run": False,
        "out": out,
        "complete": complete,
        "interrupted": found.interrupted,
        "probes": found.probes,
        "replayed_probes": found.replayed,
        "journal": str(found.journal),
        "files": [str(path) for path in found.paths],
        "tables": [table.to_json() for table in found.tables],
    }
    code = stop.exit_code if found.interrupted else ExitCode.OK if complete else ExitCode.PARTIAL
    return Result(
        data,
        rows=[row for table in found.tables for row in csvfile.rows(table)],
        record="cell",
        view=view,
        status="success" if complete and not limited else "partial",
        exit_code=ExitCode.PARTIAL if complete and limited else code,
        errors=_errors(found),
        warnings=_warnings(found, limited),
    )


def _errors(found: "ProfileRun") -> tuple[Problem, ...]:
    lost = [Problem.of(error) for error in found.lost.values()]
    if found.not_measured and not found.interrupted:
        first = next(
            cell for table in found.tables for cell in table.cells if cell.status == "not_measured"
        )
        lost.append(
            Problem(
                "profile.not_measured",
                f"{found.not_measured} cells were not measured; "
                f"{first.input_tokens}x{first.output_tokens}: {'; '.join(first.notes)}",
                hint="the same command with --resume tries them again",
            )
        )
    if found.interrupted:
        lost.append(
            Problem(
                "profile.interrupted",
                f"stopped with {found.not_measured} cells not measured",
                hint="the same command with --resume continues",
            )
        )
    return tuple(lost)


def _warnings(found: "ProfileRun", limited: int) -> tuple[Problem, ...]:
    warnings = [
        Problem("profile.note", f"{table.target}: {note}")
        for table in found.tables
        for note in table.provenance.notes
    ]
    simulated = [t.target for t in found.tables if t.provenance.source == "simulated"]
    if simulated:
        warnings.append(
            Problem("profile.simulated", f"simulated, not measured: {', '.join(simulated)}")
        )
    if limited:
        warnings.append(
            Problem(
                "profile.client_limited",
                f"in {limited} cells the load generator was the bottleneck: lower bounds",
                hint="run the client on its own machine, or with more CPU",
            )
        )
    return tuple(warnings)
