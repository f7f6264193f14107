"""``aibrixctl optimize schedule``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aibrixctl.command import command, session
from aibrixctl.exit_codes import ExitCode
from aibrixctl.plan_cluster import Deployments
from aibrixctl.plan_options import (
    PROFILES,
    Available,
    Budget,
    Cost,
    Gap,
    Headroom,
    Maximum,
    Minimum,
    WorkloadFormat,
    limits_of,
    out_of_range_of,
)
from aibrixctl.redis_access import Model, PasswordFile
from aibrixctl.result import Problem as Message
from aibrixctl.result import Result
from aibrixctl.signals import interruptible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from optimizer.from_tables import Source
    from optimizer.limits import Limits
    from optimizer.problem import Problem
    from optimizer.schedule.schedule import Schedule

_DEAREST_USD = 1_000_000.0


@command(
    "optimize schedule",
    examples=(
        (
            "aibrixctl optimize schedule --profiles profiles --workload trace.csv",
            "replicas per hour, five minutes of each start paid for",
        ),
        (
            "aibrixctl optimize schedule --profiles profiles --workload trace.csv "
            "--startup 10m --headroom 20% --namespace serving --manifest autoscalers.yaml",
            "as PodAutoscalers that start replicas ten minutes ahead",
        ),
    ),
)
def schedule(
    profiles: Annotated[list[str], PROFILES],
    workload: Annotated[str, typer.Option("--workload", metavar="FILE", help="Trace.")],
    workload_format: WorkloadFormat = None,
    timezone: Annotated[
        str, typer.Option("--timezone", metavar="NAME", help="Whose hours, e.g. Europe/Berlin.")
    ] = "UTC",
    startup: Annotated[
        str,
        typer.Option(
            "--startup",
            metavar="TIME",
            help="A replica is ready so long after its start; it is started ahead, and paid for. "
            "The schedule's day or week at most.",
        ),
    ] = "5m",
    switch_cost: Annotated[
        float | None,
        typer.Option(
            "--switch-cost",
            metavar="USD",
            min=0.0,
            help="What starting and stopping a replica costs, in place of --startup's price.",
        ),
    ] = None,
    available: Available = None,
    minimum: Minimum = None,
    maximum: Maximum = None,
    headroom: Headroom = "0%",
    budget: Budget = None,
    cost: Cost = None,
    out_of_range: Annotated[
        str,
        typer.Option(
            "--out-of-range",
            metavar="refuse|extrapolate|drop",
            help="Requests beyond the largest bucket, as in `optimize plan`.",
        ),
    ] = "refuse",
    time_limit: Annotated[
        str,
        typer.Option(
            "--time-limit", metavar="TIME", help="For solving; the best schedule so far is kept."
        ),
    ] = "1m",
    gap: Gap = "0.1%",
    model: Model = None,
    password_file: PasswordFile = None,
    deployment: Deployments = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace",
            metavar="NAME",
            help="Of deployments that name none; else default, with a warning.",
        ),
    ] = None,
    manifest: Annotated[
        str | None,
        typer.Option(
            "--manifest",
            metavar="FILE",
            help="Write PodAutoscalers with schedules there, one per type, as YAML.",
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="Write the schedule there.")
    ] = None,
) -> Result:
    """Find the cheapest replicas for every hour, with what it costs to start them.

    Hours of the week for traces of a week or more, else of the day. An hour is planned for its
    busiest occurrence in the trace, at its mean rate; --headroom is for what goes beyond. Hours
    that the trace does not cover are planned like the busiest. All hours are decided together,
    in a ring: the last one of Sunday is followed by the first of Monday.

    A type is the Deployment that its table was measured on, else the one of its name, as in
    `optimize plan`; no cluster is asked whether it is there.

    In the PodAutoscalers every schedule fixes the replicas of its time, but for 0: that is
    minReplicas 0 and maxReplicas 1, since AIBrix wants a maximum above 0, so that one may start. A
    day's last minute is in none, since AIBrix takes no end after 23:59: there minReplicas holds,
    which is as many.

    Exit code 11: an hour has no plan within the limits; the message names what would help.
    """
    from accelerators import documents
    from accelerators.errors import ToolError, UsageError
    from aibrixctl import quantities
    from aibrixctl import schedule_manifest as manifests
    from aibrixctl.plan_cluster import assigned
    from aibrixctl.plan_inputs import RedisChoice, load_sources, of_one_model
    from aibrixctl.redis_access import is_redis, redis_password
    from cluster.objects import check_namespace
    from optimizer.schedule.schedule import make_schedule

    share = quantities.fraction("--gap", gap)
    limit_s = quantities.duration("--time-limit", time_limit)
    if share >= 1 or limit_s <= 0:
        raise UsageError("option.limit", "--gap is below 100% and --time-limit above 0")
    if is_redis(workload):
        raise UsageError(
            "option.workload",
            "live traces are kept for ten minutes, and a schedule needs a day or a week",
            hint="give a trace file",
        )
    startup_s = quantities.duration("--startup", startup)
    _check_switch_cost(switch_cost)
    named = assigned("--deployment", deployment)
    if namespace is not None:
        check_namespace(namespace)
    for path in filter(None, (out, manifest)):
        documents.check_target(path)
    choice = RedisChoice(model, None, redis_password(password_file))
    sources = load_sources(profiles, choice)
    of_one_model(choice, profiles, sources, workload)
    places, said = manifests.deployments(sources, named, namespace, written=manifest is not None)
    limits = limits_of(headroom, available, minimum, maximum, budget)
    problems, notes = _hours(
        sources, workload, workload_format, timezone, out_of_range, cost, limits
    )
    _check_startup(startup_s, len(problems))
    starts = {
        kind.name: kind.cost_usd_per_hour * startup_s / 3600 if switch_cost is None else switch_cost
        for kind in problems[0].types
    }
    session().reporter.detail(f"{len(problems)} hours, {len(problems[0].buckets)} buckets")
    with interruptible() as stop:
        try:
            found = make_schedule(
                problems,
                starts,
                timezone=timezone,
                notes=notes,
                limit_s=limit_s,
                gap=share,
                stop=stop,
            )
        except ToolError as error:
            if not stop.is_set():
                raise
            return Result(
                None, status="partial", exit_code=stop.exit_code, errors=(Message.of(error),)
            )
    scalers = manifests.scalers(found, places, startup_s)
    if out:
        documents.write_json(out, found.to_json())
    if manifest:
        documents.write_text(manifest, manifests.to_yaml(scalers))
    return _result(found, scalers, said, stop.exit_code if stop.is_set() else ExitCode.OK)


def _check_switch_cost(usd: float | None) -> None:
    from accelerators.errors import UsageError

    if usd is not None and not 0 <= usd < _DEAREST_USD:
        raise UsageError(
            "option.switch_cost",
            f"--switch-cost is {usd:g}; expected 0 or more, less than {_DEAREST_USD:,.0f} dollars",
            hint="a high cost keeps one fleet all the time, e.g. --switch-cost 1000",
            target="--switch-cost",
        )


def _check_startup(startup_s: float, hours: int) -> None:
    """Refuse a replica that would have to start before the cycle that it is for has begun."""
    from accelerators.errors import UsageError
    from accelerators.units import format_duration

    if startup_s > hours * 3600:
        raise UsageError(
            "option.startup",
            f"--startup is {format_duration(startup_s)}; expected {hours}h at most, the time after "
            "which the schedule begins again",
            hint="say how long one replica takes to be ready, e.g. --startup 10m",
            target="--startup",
        )


def _hours(
    sources: "Sequence[Source]",
    workload: str,
    workload_format: str | None,
    timezone: str,
    out_of_range: str,
    cost: list[str] | None,
    limits: "Limits",
) -> "tuple[Sequence[Problem], Sequence[str]]":
    from aibrixctl.assignments import numbers
    from optimizer.from_tables import build
    from optimizer.limits import apply
    from optimizer.schedule.hours import by_hour
    from optimizer.schedule.schedule import hourly_problems
    from optimizer.workload import read, read_requests

    beyond = out_of_range_of(out_of_range)
    traffic = by_hour(read_requests(workload, format_name=workload_format), workload, timezone)
    whole = build(
        sources,
        read(workload, format_name=workload_format),
        out_of_range=beyond,
        costs=numbers("--cost", cost),
    )
    table = sources[0].table
    ticks = (table.input_tokens, table.output_tokens)
    problems = hourly_problems(apply(whole, limits), traffic, ticks, beyond)
    return problems, [note for note in traffic.notes if note not in whole.warnings]


def _result(
    found: "Schedule",
    scalers: dict[str, dict[str, Any]],
    said: "Sequence[Message]",
    exit_code: int,
) -> Result:
    def view(console: "Console", wide: bool) -> None:
        from aibrixctl.schedule_view import draw

        draw(console, found, wide=wide)

    interrupted = exit_code != ExitCode.OK
    document = found.to_json()
    return Result(
        document | {"pod_autoscalers": scalers},
        rows=document["hours"],
        record="hour",
        view=view,
        status="partial" if interrupted else "success",
        exit_code=exit_code,
        warnings=(*(Message("schedule.note", text) for text in found.warnings), *said),
    )
