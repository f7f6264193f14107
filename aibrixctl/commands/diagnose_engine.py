"""``aibrixctl diagnose engine``."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from aibrixctl.command import command, session
from aibrixctl.diagnose_options import Actions
from aibrixctl.exit_codes import ExitCode
from aibrixctl.result import Problem, Result, Status
from aibrixctl.shared_options import CaFile, Insecure, TokenFile
from aibrixctl.signals import Interrupted, StopFlag, interruptible

if TYPE_CHECKING:
    from rich.console import Console

    from diagnose.findings import Report

Verdict = Literal["healthy", "faults", "unknown", "no_access"]
_EXIT: dict[Verdict, ExitCode] = {
    "healthy": ExitCode.OK,
    "faults": ExitCode.FAULTS_FOUND,
    "unknown": ExitCode.PARTIAL,
    "no_access": ExitCode.UNREACHABLE,
}


@command(
    "diagnose engine",
    examples=(
        ("aibrixctl diagnose engine http://127.0.0.1:8000", "a vLLM or SGLang server"),
        (
            "aibrixctl diagnose engine http://127.0.0.1:8000 --interval 500ms --samples 2 -o json",
            "in a second, for a script",
        ),
        (
            "aibrixctl diagnose engine http://127.0.0.1:8000 --no-canary --samples 2",
            "without sending a request of our own",
        ),
    ),
)
def engine(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="Of one server, not of a load balancer.")
    ],
    model: Annotated[
        str | None, typer.Option("--model", help="Name in the API; else the first one served.")
    ] = None,
    interval: Annotated[
        str, typer.Option("--interval", metavar="TIME", help="Between two looks at the metrics.")
    ] = "2s",
    samples: Annotated[
        int, typer.Option("--samples", min=2, help="How often to look at the metrics.")
    ] = 3,
    timeout: Annotated[
        str,
        typer.Option("--timeout", metavar="TIME", help="For each answer, and for the canary."),
    ] = "10s",
    no_canary: Annotated[
        bool, typer.Option("--no-canary", help="Send no request of our own.")
    ] = False,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    insecure: Insecure = False,
    actions: Actions = None,
) -> Result:
    """Find out whether a serving engine is well beneath its /health.

    Looks at /health and several times at /metrics (vLLM and SGLang), and sends one request of four
    tokens, the canary: an engine that is wedged says 200 and gives no token. Also finds KV-cache
    pressure, preemptions, queues that grow, errors, and a prefix cache that finds nothing any more.

    Exit codes: 0 healthy, 10 faults found, 3 some checks could not run, 13 unreachable or access
    refused.
    """
    from aibrixctl import quantities
    from aibrixctl.secret import read_secret
    from diagnose.engine import EngineConfig, diagnose_engine
    from diagnose.engine.exchange import parse_address
    from diagnose.errors import StoppedError
    from diagnose.explain import read_overrides

    config = EngineConfig(
        parse_address(url, ca_file=ca_file, insecure=insecure),
        model=model,
        token=read_secret("--token-file", token_file),
        interval_s=quantities.duration("--interval", interval),
        samples=samples,
        timeout_s=quantities.duration("--timeout", timeout),
        canary=not no_canary,
        overrides=read_overrides(actions) if actions else {},
    )
    with interruptible() as stop:
        session().reporter.detail(f"looking at {config.address.url} {samples} times")
        try:
            report = diagnose_engine(config, stop)
        except StoppedError as error:
            raise Interrupted(stop.exit_code) from error
    return _result(report, stop)


def _result(report: "Report", stop: StopFlag) -> Result:
    from aibrixctl.diagnose_view import to_json

    verdict = _verdict(report)
    document = {**to_json(report), "verdict": verdict}
    status: Status = {"unknown": "partial", "no_access": "error"}.get(verdict, "success")  # type: ignore[assignment]
    code, errors = _EXIT[verdict], _errors(report, verdict)
    if stop.is_set():
        problem = Problem("diagnose.interrupted", "stopped early; what was seen is shown")
        status, code, errors = "partial", stop.exit_code, (problem,)
    return Result(
        document,
        rows=document["findings"],
        record="finding",
        view=lambda console, wide: _draw(console, report, verdict, wide=wide),
        status=status,
        exit_code=code,
        errors=errors,
        warnings=_warnings(report),
    )


def _verdict(report: "Report") -> Verdict:
    from diagnose.verdict import verdict

    if any(finding.code == "ENGINE-UNREACHABLE" for finding in report.findings):
        return "no_access"
    found = verdict(report)
    if found == "unknown" and report.facts["engine"]["access_refused"]:
        return "no_access"
    return found


def _errors(report: "Report", verdict: Verdict) -> tuple[Problem, ...]:
    from diagnose.verdict import is_fault

    url = report.devices[0].name
    if verdict == "faults":
        codes = [finding.code for finding in report.findings if is_fault(finding)]
        text = f"{len(codes)} fault{'s' if len(codes) > 1 else ''} found: {', '.join(codes)}"
        return (Problem("diagnose.faults", text, url),)
    if verdict == "no_access":
        refused = report.facts["engine"]["access_refused"]
        if refused:
            hint = "give the API key with --token-file"
            return (Problem("engine.refused", f"refused: {', '.join(refused)}", url, hint),)
        error = report.findings[0].evidence["error"]
        return (Problem("engine.unreachable", f"{url} can't be reached: {error}", url),)
    if verdict == "unknown":
        names = dict.fromkeys(one.check for one in report.unchecked if not one.skipped)
        text = f"could not be checked: {', '.join(names)}"
        return (Problem("diagnose.unchecked", text, url),)
    return ()


def _warnings(report: "Report") -> tuple[Problem, ...]:
    if not report.simulated:
        return ()
    text = "this engine is simulated (profile serve-sim)"
    return (Problem("diagnose.simulated", text, report.devices[0].name),)


def _draw(console: "Console", report: "Report", verdict: Verdict, *, wide: bool) -> None:
    from aibrixctl.diagnose_view import draw_finding, draw_unchecked
    from aibrixctl.render import table_of
    from diagnose.verdict import is_fault

    facts = report.facts["engine"]
    faults = sum(map(is_fault, report.findings))
    text = {
        "healthy": f"Healthy: {report.passed} checks passed",
        "faults": f"{faults} fault{'s' if faults > 1 else ''} found",
        "unknown": "Not known: some checks could not run",
        "no_access": "No access to the engine",
    }[verdict]
    mark = "SIMULATED  " if report.simulated else ""
    style = "bold green" if verdict == "healthy" else "bold red"
    console.print(f"{mark}{facts['url']}  {text}", style=style)
    if facts["scrapes"]:
        console.print(table_of([_row(scrape, wide=wide) for scrape in facts["scrapes"]]))
    if (canary := facts["canary"]) is not None:
        console.print(_canary(canary))
    for finding in report.findings:
        console.print()
        draw_finding(console, replace(finding, device=report.devices[0]), wide=wide)
    draw_unchecked(console, report, wide=wide)


def _row(scrape: dict[str, Any], *, wide: bool) -> dict[str, Any]:
    usage = scrape["kv_cache_usage"]
    row = {
        "after": f"{scrape['after_s']:.1f} s",
        "running": round(scrape["running"]),
        "waiting": round(scrape["waiting"]),
        "KV cache": None if usage is None else f"{usage:.1%}",
        "tokens": scrape["progress"].get("generation_tokens_total"),
        "preemptions": scrape["preemptions"],
        "ended": scrape["ended"],
        "errors": scrape["errors"],
    }
    row = {key: int(v) if isinstance(v, float) else v for key, v in row.items()}
    more = ("ranks", "cache_queries", "cache_hits")
    return row | {name: scrape[name] for name in more} if wide else row


def _canary(canary: dict[str, Any]) -> str:
    if not canary["finished"]:
        return (
            f"Canary: {canary['tokens']} tokens, not finished after {canary['elapsed_ms']:.0f} ms"
        )
    first = canary["first_token_ms"]
    return (
        f"Canary: {canary['tokens']} tokens in {canary['elapsed_ms']:.0f} ms, the first after "
        f"{first:.0f} ms"
    )
