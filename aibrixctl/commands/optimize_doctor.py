"""``aibrixctl optimize doctor``: why an autoscaler does not move."""

from typing import TYPE_CHECKING, Annotated

import typer

from aibrixctl.command import command, session
from aibrixctl.doctor_verdict import verdict
from aibrixctl.kube_options import Context, Kubeconfig, Namespace
from aibrixctl.redis_access import PasswordFile
from aibrixctl.result import Result

if TYPE_CHECKING:
    from rich.console import Console

    from optimizer.doctor.facts import Facts
    from optimizer.doctor.finding import Report


@command(
    "optimize doctor",
    examples=(
        (
            "aibrixctl optimize doctor --model m --redis redis://127.0.0.1:6379/0",
            "why does the autoscaler of a model not move?",
        ),
        (
            "aibrixctl optimize doctor --redis redis://127.0.0.1:6379/0 --plan plan.json",
            "and does anything keep replicas that a plan does without?",
        ),
    ),
)
def doctor(
    model: Annotated[
        str | None,
        typer.Option("--model", help="By its label model.aibrix.ai/name; all of them by default."),
    ] = None,
    redis: Annotated[
        str | None,
        typer.Option(
            "--redis",
            metavar="redis://[USER@]HOST[:PORT][/DB]",
            help="AIBrix's Redis; in a pod its service by default.",
        ),
    ] = None,
    plan: Annotated[
        str | None,
        typer.Option("--plan", metavar="PLAN", help="To see what keeps replicas that it drops."),
    ] = None,
    stale_after: Annotated[
        str,
        typer.Option(
            "--stale-after", metavar="TIME", help="Age at which a record of traffic is old."
        ),
    ] = "2m",
    aibrix_namespace: Annotated[
        str,
        typer.Option("--aibrix-namespace", metavar="NAME", help="Where AIBrix itself runs."),
    ] = "aibrix-system",
    password_file: PasswordFile = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> Result:
    """Find out why an autoscaler does not move: each cause with what shows it and what helps.

    Looks at the deployments of a namespace and their autoscalers, at AIBrix's gateway and
    controller, and at traffic and profiles in Redis; changes nothing. The Redis password also
    comes from AIBRIXCTL_REDIS_PASSWORD. -o wide also lists what was checked.

    Exits 10 when something is wrong, 3 when a check could not run, as where Redis does not answer.
    """
    from dataclasses import replace

    from aibrixctl import quantities
    from aibrixctl.kube_options import access
    from cluster.access import connect
    from optimizer.doctor.examine import examine
    from optimizer.doctor.gather import read_cluster
    from optimizer.plan import load

    stale_s = quantities.duration("--stale-after", stale_after)
    planned = load(plan).replicas if plan else None
    with connect(access(kubeconfig, context, namespace)) as api:
        facts = read_cluster(api, model=model, system=aibrix_namespace)
        facts = replace(facts, planned=planned, stale_s=stale_s)
        facts = _with_redis(facts, redis, aibrix_namespace, password_file)
        place = f"{api.host}, namespace {api.namespace}"
    return _result(place, facts, examine(facts))


def _with_redis(facts: "Facts", url: str | None, system: str, password_file: str | None) -> "Facts":
    """Return the facts with what Redis holds, or with the reason why that is not known."""
    from dataclasses import replace

    from accelerators.errors import UnreachableError
    from aibrixctl.redis_access import open_redis, redis_password
    from cluster.access import in_cluster
    from optimizer.doctor.gather import read_redis
    from profiler.in_cluster.redis import NAME, PORT, RedisService

    password = redis_password(password_file)
    if url is None and in_cluster():
        url = RedisService(system, NAME, PORT).url
    if url is None:
        return replace(facts, missing={**facts.missing, "redis": "no --redis was given"})
    try:
        with open_redis(url, password) as client:
            return replace(facts, redis=read_redis(client))
    except UnreachableError as error:
        session().reporter.detail(error.hint)
        return replace(facts, missing={**facts.missing, "redis": error.message})


def _result(place: str, facts: "Facts", report: "Report") -> Result:
    document = {"place": place, "models": list(facts.models), **report.to_json()}

    def view(console: "Console", wide: bool) -> None:
        from aibrixctl.doctor_view import draw_checks, draw_finding, summary

        console.print(f"{place}: {', '.join(facts.models)}", style="bold", soft_wrap=True)
        for finding in report.findings:
            console.print()
            draw_finding(console, finding.hazard, finding.evidence)
        if report.findings:
            console.print()
        if wide:
            draw_checks(console, report)
        console.print(summary(report))

    status, code, errors = verdict(report, "doctor.unchecked")
    return Result(
        document,
        rows=document["findings"],
        record="finding",
        view=view,
        status=status,
        exit_code=code,
        errors=errors,
    )
