"""``aibrixctl optimize plan | show``."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from aibrixctl.command import command, session
from aibrixctl.exit_codes import ExitCode
from aibrixctl.kube_options import Context, Kubeconfig, Namespace
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
    from rich.console import Console

    from aibrixctl.plan_inputs import RedisChoice
    from optimizer.plan import Plan
    from optimizer.problem import Problem

_EXAMPLES = (
    (
        "aibrixctl optimize plan --profiles profiles --workload trace.csv --out plan.json",
        "the cheapest mix for a trace",
    ),
    (
        "aibrixctl optimize plan --profiles profiles --workload trace.csv --rate 40 "
        "--available a10=8,l20=4 --headroom 20% --current l20=6",
        "at 40 requests/s, with the GPUs there are, against what runs now",
    ),
    (
        "aibrixctl optimize plan --profiles profiles --workload trace.csv --current k8s "
        "--namespace serving --out plan.json",
        "with what runs in a cluster and the GPUs that are free there",
    ),
    (
        "aibrixctl optimize plan --profiles redis://127.0.0.1:6379/0 "
        "--workload redis://127.0.0.1:6379/0 --model m --window 5m",
        "AIBrix's own profiles, and what its gateway saw in five minutes",
    ),
    ("aibrixctl optimize plan --problem melange.json -o json", "a Mélange configuration as it is"),
)


@command("optimize plan", examples=_EXAMPLES)
def plan(
    more_profiles: Annotated[
        list[str] | None,
        typer.Argument(metavar="TABLE", help="More tables, as if each had --profiles."),
    ] = None,
    profiles: Annotated[list[str] | None, PROFILES] = None,
    problem: Annotated[
        str | None,
        typer.Option("--problem", metavar="FILE", help="Mélange configuration, in place of both."),
    ] = None,
    workload: Annotated[
        str | None,
        typer.Option(
            "--workload",
            metavar="FILE|redis://…",
            help="Trace or histogram, or the Redis of AIBrix's gateway.",
        ),
    ] = None,
    workload_format: WorkloadFormat = None,
    model: Model = None,
    window: Annotated[
        str | None,
        typer.Option("--window", metavar="TIME", help="Of live traffic; all that is kept else."),
    ] = None,
    password_file: PasswordFile = None,
    rate: Annotated[
        float | None, typer.Option("--rate", help="Requests/s, in place of the workload's own.")
    ] = None,
    available: Available = None,
    minimum: Minimum = None,
    maximum: Maximum = None,
    headroom: Headroom = "0%",
    slo: Annotated[
        list[str] | None,
        typer.Option(
            "--slo",
            metavar="METRIC_STAT<=LIMIT",
            help="Refuse tables that were measured under another SLO. Repeatable.",
        ),
    ] = None,
    budget: Budget = None,
    cost: Cost = None,
    current: Annotated[
        list[str] | None,
        typer.Option(
            "--current",
            metavar="NAME=N,…|k8s",
            help="Replicas that run now, to compare; k8s reads them, and the GPUs there are, from "
            "the cluster.",
        ),
    ] = None,
    deployment: Deployments = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    out_of_range: Annotated[
        str,
        typer.Option(
            "--out-of-range",
            metavar="refuse|extrapolate|drop",
            help="Requests beyond the largest bucket: refuse them, count them as larger work in "
            "the outermost bucket, or leave them out.",
        ),
    ] = "refuse",
    time_limit: Annotated[
        str,
        typer.Option(
            "--time-limit", metavar="TIME", help="For solving; the best plan so far is kept."
        ),
    ] = "30s",
    gap: Gap = "0.1%",
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="Write the plan there.")
    ] = None,
) -> Result:
    """Find the cheapest mix of GPUs that serves a workload within the SLO.

    Every request is counted in the smallest bucket that holds it. Buckets may be split between
    types; replicas are whole. The plan says which type serves which bucket, how busy each is,
    what the mix saves against single types, and how far from the cheapest possible it may be.

    With --current k8s a type is the Deployment that its table was measured on, else the one (or the
    StormService) of its name, and available are
    the GPUs that nodes of a type offer, less what pods of others request; nodes that are cordoned,
    not ready, or that `diagnose cluster` found sick (AcceleratorHealthy) do not count. --available
    wins over these.

    A workload redis://[USER@]HOST[:PORT][/DB] is what AIBrix's gateway saw in the last minutes,
    with AIBRIX_GPU_OPTIMIZER_TRACING_FLAG=true; profiles there are AIBrix's own. The password
    also comes from AIBRIXCTL_REDIS_PASSWORD.

    Exit code 11: no plan meets the limits; the message names what would.
    """
    from accelerators.errors import ToolError, UsageError
    from aibrixctl import quantities
    from aibrixctl.assignments import whole_numbers
    from aibrixctl.kube_options import access, refuse_unused
    from aibrixctl.plan_cluster import assigned, from_cluster, noted, read_cluster
    from aibrixctl.plan_cluster_view import cluster_lines
    from aibrixctl.plan_inputs import RedisChoice
    from aibrixctl.redis_access import redis_password
    from optimizer import plan as plans
    from optimizer.limits import apply
    from optimizer.planner import make_plan
    from optimizer.solver import Solver

    share = quantities.fraction("--gap", gap)
    if share >= 1:
        raise UsageError("option.gap", f"--gap is {gap}; expected less than 100%")
    limit_s = quantities.duration("--time-limit", time_limit)
    if limit_s <= 0:
        raise UsageError("option.time_limit", "--time-limit is 0; expected more than 0")
    from_k8s = from_cluster(current)
    named = assigned("--deployment", deployment)
    if not from_k8s:
        reach = {"--namespace": namespace, "--context": context, "--kubeconfig": kubeconfig}
        refuse_unused({"--deployment": named, **reach}, hint="add --current k8s")
    running = {} if from_k8s else whole_numbers("--current", current)
    limits = limits_of(headroom, available, minimum, maximum, budget)
    tables = [*(profiles or ()), *(more_profiles or ())]
    with Solver() as solver, interruptible() as stop:
        asked = _problem(
            problem,
            tables,
            workload,
            RedisChoice(model, window, redis_password(password_file)),
            workload_format,
            rate,
            out_of_range,
            cost,
            slo or [],
        )
        session().reporter.detail(f"{len(asked.buckets)} buckets, {len(asked.types)} GPU types")
        if from_k8s:
            where = access(kubeconfig, context, namespace)
            snapshot = read_cluster(asked, where, named, limits.available)
            asked, running = noted(asked, snapshot), snapshot.current
            limits = replace(limits, available=snapshot.available)
        limited = apply(asked, limits)
        try:
            found = make_plan(
                limited,
                current=running,
                limit_s=limit_s,
                gap=share,
                stop=stop,
                solver=solver,
            )
        except ToolError as error:
            if not stop.is_set():
                for line in cluster_lines(limited.inputs):
                    session().reporter.say(line)
                raise
            return Result(
                None, status="partial", exit_code=stop.exit_code, errors=(Message.of(error),)
            )
    if out:
        plans.save(found, out)
    return _result(found, stop.exit_code if stop.is_set() else ExitCode.OK, share)


def _problem(
    problem: str | None,
    tables: list[str],
    workload: str | None,
    choice: "RedisChoice",
    workload_format: str | None,
    rate: float | None,
    out_of_range: str,
    cost: list[str] | None,
    slo: list[str],
) -> "Problem":
    from accelerators.errors import UsageError
    from aibrixctl.assignments import numbers

    beyond = out_of_range_of(out_of_range)
    if problem is not None:
        given = [
            name
            for name, value in (
                ("--profiles", tables),
                ("--workload", workload),
                ("--cost", cost),
                ("--slo", slo),
            )
            if value
        ]
        if given:
            raise UsageError(
                "option.conflict", f"--problem holds all of it; leave out {', '.join(given)}"
            )
        from optimizer import melange

        return melange.load(problem, request_rate=rate)
    if not tables or workload is None:
        missing = "--profiles" if not tables else "--workload"
        raise UsageError(
            "option.missing",
            f"{missing} is missing",
            hint="give --profiles and --workload, or --problem",
        )
    from aibrixctl.plan_inputs import load_sources, load_workload, of_one_model
    from optimizer.from_tables import build
    from profiler.slo import parse_slos

    sources = load_sources(tables, choice)
    choice = of_one_model(choice, tables, sources, workload)
    return build(
        sources,
        load_workload(workload, choice, format_name=workload_format, request_rate=rate),
        out_of_range=beyond,
        costs=numbers("--cost", cost),
        expected_slos=parse_slos(slo),
    )


def _result(found: "Plan", exit_code: int, gap: float | None = None) -> Result:
    document = found.to_json()
    warnings = [Message("plan.note", text) for text in found.warnings]
    if gap is not None and found.solver_status != "optimal":
        warnings.append(
            Message(
                "plan.gap",
                f"stopped before the gap was proven: at most {found.gap:.2%} dearer than the "
                f"cheapest, {gap:.2%} was asked for",
                hint="give more time with --time-limit",
            )
        )

    def view(console: "Console", wide: bool) -> None:
        from aibrixctl.plan_view import draw

        draw(console, found, wide=wide)

    interrupted = exit_code != ExitCode.OK
    return Result(
        document,
        rows=document["routing"],
        record="route",
        view=view,
        status="partial" if interrupted else "success",
        exit_code=exit_code,
        warnings=tuple(warnings),
    )


@command(
    "optimize show",
    examples=(("aibrixctl optimize show plan.json", "draw a plan that was saved"),),
)
def show_plan(
    path: Annotated[str, typer.Argument(metavar="PLAN", help="File that `optimize plan` wrote.")],
) -> Result:
    """Draw a plan: the mix, its cost, what it saves, and which bucket goes where."""
    from optimizer.plan import load

    return _result(load(path), ExitCode.OK)
