"""What ``profile load`` says of a run: data, records, verdict and the view for a person."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aibrixctl.exit_codes import ExitCode
from aibrixctl.result import Problem, Result, Status
from profiler.load import LoadConfig, LoadRun
from profiler.samples import Stats
from profiler.slo import Slo

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_ROWS = (
    ("ttft", "TTFT"),
    ("ttft_from_schedule", "TTFT from schedule"),
    ("itl", "ITL"),
    ("tpot", "TPOT"),
    ("e2e", "E2E"),
)
_STATS = ("mean", "p50", "p90", "p95", "p99")


def result_of(
    config: LoadConfig,
    run: LoadRun,
    slos: Sequence[Slo],
    output: str,
    stop_code: ExitCode,
    measured: tuple[str, str] | None = None,
) -> Result:
    """Return the result of a run.

    Args:
        config: what was asked for.
        run: what was measured.
        slos: objectives to judge.
        output: decides whether records of requests are made.
        stop_code: of the signal that ended it.
        measured: the target in a cluster and how it was reached; None for a URL.
    """
    data = _data(config, run, slos)
    target, via = measured or (None, None)
    data["engine"] |= {"target": target, "via": via}
    status, code, errors = _verdict(config, run, slos, stop_code)
    return Result(
        data,
        rows=_records(run, data, output),
        record="request",
        view=lambda console, wide: _view(console, config, run, slos),
        status=status,
        exit_code=code,
        errors=errors,
        warnings=_warnings(run),
    )


def _round(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _data(config: LoadConfig, run: LoadRun, slos: Sequence[Slo]) -> dict[str, Any]:
    missed = run.summary.violated(slos)
    return {
        **run.summary.to_json(),
        "complete": run.complete and not run.lost,
        "shards": run.shards,
        "lost_shards": [shard.to_json() for shard in run.lost],
        "engine": {
            "url": config.base_url,
            "model": config.model,
            "name": run.engine,
            "version": run.engine_version,
        },
        "load": {
            "endpoint": config.endpoint,
            "request_rate": config.request_rate,
            "max_concurrency": config.max_concurrency,
            "arrival": config.arrival if config.request_rate is not None else None,
            "burstiness": config.burstiness,
            "input_tokens": config.input_tokens,
            "output_tokens": config.output_tokens,
            "shared_prefix_tokens": config.shared_prefix_tokens,
            "ignore_eos": config.ignore_eos,
            "warmup_s": config.warmup_s,
            "seed": config.seed,
            "salt": config.salt,
        },
        "input_tokens_mean": _round(run.input_tokens_mean, 3),
        "output_tokens_mean": _round(run.output_tokens_mean, 3),
        "chunks": run.chunks,
        "messages": run.messages,
        "slos": [slo.to_json() | {"met": slo not in missed} for slo in slos],
    }


def _verdict(
    config: LoadConfig, run: LoadRun, slos: Sequence[Slo], stop_code: ExitCode
) -> tuple[Status, int, tuple[Problem, ...]]:
    """Return status, exit code and errors: stopped, lost, failed, not certified, SLO, fine."""
    summary, url = run.summary, config.base_url
    if not run.complete:
        problem = Problem("load.interrupted", "stopped early; what was measured is shown", url)
        return "partial", stop_code or ExitCode.PARTIAL, (problem,)
    if run.lost:
        return "partial", stop_code or ExitCode.PARTIAL, tuple(_lost(run, url))
    if not summary.completed:
        causes = ", ".join(f"{cause}: {n}" for cause, n in sorted(summary.by_cause.items()))
        message = f"none of {summary.offered} requests succeeded ({causes})"
        problem = Problem("load.all_failed", message, url, next(iter(run.messages.values()), ""))
        unreachable = set(summary.by_cause) == {"connect"}
        return "error", ExitCode.UNREACHABLE if unreachable else ExitCode.FAILURE, (problem,)
    if summary.client.bottleneck is not None:
        problem = Problem(
            "load.not_certified",
            f"the client was the bottleneck: {summary.client.bottleneck}",
            url,
        )
        return "partial", ExitCode.PARTIAL, (problem,)
    missed = summary.violated(slos)
    if missed:
        problem = Problem("load.slo", f"missed {', '.join(map(str, missed))}", url)
        return "error", ExitCode.SLO_NOT_MET, (problem,)
    return "success", ExitCode.OK, ()


def _lost(run: LoadRun, url: str) -> Iterator[Problem]:
    for shard in run.lost:
        yield Problem(
            "load.shard_lost",
            f"shard {shard.part} was lost under way: {shard.reason}; its requests are missing "
            "from the figures, and the engine had less load than asked for",
            url,
            "run the load again: its part can't be made up for alone",
        )


def _warnings(run: LoadRun) -> tuple[Problem, ...]:
    warnings = [Problem("load.note", note) for note in run.summary.notes]
    if run.summary.completed:
        for cause, count in sorted(run.summary.by_cause.items()):
            message = run.messages.get(cause, "")
            warnings.append(
                Problem("load.failures", f"{count} requests failed with {cause}: {message}", cause)
            )
    return tuple(warnings)


def _records(run: LoadRun, data: dict[str, Any], output: str) -> list[dict[str, Any]] | None:
    """Return one record a request for csv and jsonl; the latter has the figures after them."""
    if output not in ("csv", "jsonl"):
        return None
    s = run.samples
    tpot = np.where(
        s.output_tokens > 1,
        (s.last_token_s - s.first_token_s) / np.maximum(s.output_tokens - 1, 1),
        np.nan,
    )
    start, end = run.window
    columns = {
        "scheduled_s": s.scheduled_s.round(6).tolist(),
        "sent_s": s.sent_s.round(6).tolist(),
        "in_window": ((s.scheduled_s >= start) & (s.scheduled_s < end)).tolist(),
        "ttft_ms": ((s.first_token_s - s.sent_s) * 1e3).round(3).tolist(),
        "tpot_ms": (tpot * 1e3).round(3).tolist(),
        "e2e_ms": ((s.last_token_s - s.sent_s) * 1e3).round(3).tolist(),
        "input_tokens": s.input_tokens.tolist(),
        "output_tokens": s.output_tokens.tolist(),
        "error": list(s.errors),
    }
    rows = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    return [*rows, {"type": "figures", **data}] if output == "jsonl" else rows


def _view(console: "Console", config: LoadConfig, run: LoadRun, slos: Sequence[Slo]) -> None:
    summary = run.summary
    console.print(_head(config, run))
    console.print()
    console.print(_latencies(run))
    console.print()
    console.print(_figures(run))
    for slo in slos:
        stats = summary.attained.get(slo.metric)
        found = getattr(stats, slo.statistic) if stats is not None else float("nan")
        met = slo not in summary.violated(slos)
        style = "green" if met else "bold red"
        console.print(f"SLO {slo}: {'met' if met else 'missed'} ({found:,.4g} ms)", style=style)


def _head(config: LoadConfig, run: LoadRun) -> str:
    version = f" {run.engine_version}" if run.engine_version else ""
    if config.request_rate is None:
        pace = f"closed loop, {config.max_concurrency} in flight"
    else:
        cap = f", at most {config.max_concurrency} in flight" if config.max_concurrency else ""
        pace = f"open loop, {config.request_rate:g} requests/s ({config.arrival}){cap}"
    sizes = f"{config.input_tokens} in, {config.output_tokens} out"
    window = f"window {run.summary.window_s:.4g} s from {run.window[0]:.4g} s, seed {config.seed}"
    return (
        f"{config.model} at {config.base_url} (engine: {run.engine}{version})\n"
        f"{pace}; {sizes}; {window}"
    )


def _latencies(run: LoadRun) -> "RenderableType":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("LATENCY, MS")
    for name in _STATS:
        table.add_column(name.upper(), justify="right", min_width=8)
    for metric, label in _ROWS:
        stats = run.summary.latency.get(metric)
        values = (getattr(stats, name) if stats else None for name in _STATS)
        table.add_row(label, *("-" if value is None else f"{value:,.2f}" for value in values))
    return table


def _figures(run: LoadRun) -> "RenderableType":
    from rich.table import Table

    summary, client = run.summary, run.summary.client
    causes = ", ".join(f"{cause} {n}" for cause, n in sorted(summary.by_cause.items()))
    goodput = "" if summary.goodput is None else f", goodput {summary.goodput:.4g}"
    share = "-" if client.cpu_share is None else f"{client.cpu_share:.0%}"
    certified = "certified" if summary.certified else "NOT CERTIFIED"
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column()
    table.add_row(
        "requests",
        f"{summary.offered} offered, {summary.sent} sent, {summary.completed} completed, "
        f"{summary.failed} failed{f' ({causes})' if causes else ''}",
    )
    table.add_row(
        "requests/s",
        f"{summary.offered_request_rate:.4g} offered, {summary.sent_request_rate:.4g} sent, "
        f"{summary.request_rate:.4g} completed{goodput}",
    )
    table.add_row(
        "tokens/s",
        f"{summary.output_tokens_per_s:,.1f} output, {summary.total_tokens_per_s:,.1f} total",
    )
    table.add_row(
        "client",
        f"send lag p99 {_ms(client.send_lag_ms)}, loop lag p99 {_ms(client.loop_lag_ms)}, "
        f"CPU {share}: {certified}",
    )
    for shard in client.shards:
        sent, woke = shard.send_lag_ms, shard.loop_lag_ms
        table.add_row(
            f"shard {shard.shard}",
            f"{shard.requests} requests, send lag p99 {_ms(sent)}, loop lag p99 {_ms(woke)}, "
            f"CPU {shard.cpu_share:.0%}",
        )
    return table


def _ms(stats: Stats | None) -> str:
    return "-" if stats is None else f"{stats.p99:.2f} ms"
