"""``aibrixctl profile push``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aibrixctl.command import command
from aibrixctl.exit_codes import ExitCode
from aibrixctl.kube_options import Context, Kubeconfig
from aibrixctl.redis_access import PasswordFile
from aibrixctl.result import Problem, Result
from aibrixctl.table_options import (
    ALLOW_MISSING,
    COST,
    DEPLOYMENT,
    aibrix_profile,
    warnings_of,
)

if TYPE_CHECKING:
    from profiler.interop.aibrix import Exported
    from profiler.interop.aibrix_redis import PushPlan
    from profiler.table import ThroughputTable


@command(
    "profile push",
    examples=(
        (
            "aibrixctl profile push redis://127.0.0.1:6379/0 profiles/a10.table.json --dry-run",
            "what would change, and what AIBrix would make of it",
        ),
        (
            "aibrixctl profile push --k8s profiles/a10.table.json",
            "to the Redis that the cluster's AIBrix reads",
        ),
    ),
)
def push(
    url: Annotated[
        str,
        typer.Argument(
            metavar="redis://[USER@]HOST[:PORT][/DB]",
            help="rediss:// for TLS. With --k8s there is none, and tables begin here.",
        ),
    ],
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="TABLE", help="Table files, or folders of *.table.json."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="AIBrix's name of the model; the table's by default."),
    ] = None,
    deployment: Annotated[str | None, DEPLOYMENT] = None,
    cost: Annotated[list[str] | None, COST] = None,
    password_file: PasswordFile = None,
    allow_missing: Annotated[bool, ALLOW_MISSING] = False,
    force: Annotated[bool, typer.Option("--force", help="Push in spite of refusals.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Show what would change; write nothing.")
    ] = False,
    k8s: Annotated[
        bool, typer.Option("--k8s", help="To the Redis of AIBrix in the cluster.")
    ] = False,
    redis_service: Annotated[
        str | None,
        typer.Option(
            "--redis-service",
            metavar="[NAMESPACE/]NAME",
            help="Service of that Redis.  [default: aibrix-system/aibrix-redis-master]",
        ),
    ] = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> Result:
    """Publish tables where AIBrix reads GPU profiles: aibrix:profile_MODEL_DEPLOYMENT.

    Refused without --force: a profile that is older than the one there, and buckets other than
    those of the model's other profiles, which AIBrix would skip. The password also comes from
    AIBRIXCTL_REDIS_PASSWORD.

    The table itself goes to aibrixctl:table_MODEL_DEPLOYMENT, where `optimize` finds what a
    profile can't say: accelerators, percentiles, and whether it was measured.

    --k8s finds the Redis by its Service and reaches it by that name within the cluster, or through
    kubectl port-forward from outside.
    """
    from accelerators.errors import UsageError
    from aibrixctl.kube_options import access, refuse_unused
    from aibrixctl.redis_access import is_redis, redis_password, redis_source
    from profiler.table_files import load_all, with_costs

    if not k8s:
        reach = {"--redis-service": redis_service, "--context": context, "--kubeconfig": kubeconfig}
        refuse_unused(reach, hint="add --k8s")
    elif is_redis(url):
        raise UsageError(
            "push.target", f"{redis_source(url)} and --k8s exclude each other", target="--k8s"
        )
    files = [url, *(paths or ())] if k8s else list(paths or ())
    if not files:
        raise UsageError("push.tables", "no table is given", hint="name files or folders")
    tables = with_costs(load_all(files), cost or ())
    if deployment and len(tables) > 1:
        raise UsageError(
            "push.several", f"one --deployment for {len(tables)} tables", target="--deployment"
        )
    exports = [aibrix_profile(table, deployment, allow_missing) for table in tables]
    password = redis_password(password_file)
    documents = [
        (exported.document, model or table.model, table)
        for exported, table in zip(exports, tables, strict=True)
    ]
    write = None if dry_run else force
    if not k8s:
        return _push(url, None, password, documents, exports, write)
    from profiler.in_cluster.redis import redis_url

    with redis_url(access(kubeconfig, context), redis_service) as (found, service):
        return _push(found, str(service), password, documents, exports, write)


def _push(
    url: str,
    service: str | None,
    password: str | None,
    documents: "list[tuple[dict[str, Any], str, ThroughputTable]]",
    exports: "list[Exported]",
    write: bool | None,
) -> Result:
    """Plan and write; ``write`` is None to write nothing, True in spite of refusals."""
    from aibrixctl.redis_access import open_redis
    from profiler.interop import aibrix_redis

    with open_redis(url, password) as client:
        plans = aibrix_redis.plan_pushes(client, documents)
        refused = any(plan.refusals for plan in plans)
        pushed = write is not None and (write or not refused)
        for plan in plans if pushed else ():
            aibrix_redis.push(client, plan)
    return _push_result(plans, exports, service, dry_run=write is None, pushed=pushed)


def _push_result(
    plans: list["PushPlan"],
    exports: list["Exported"],
    service: str | None,
    *,
    dry_run: bool,
    pushed: bool,
) -> Result:
    refused = [reason for plan in plans for reason in plan.refusals]

    def view(console: Any, wide: bool) -> None:
        if service:
            console.print(f"Redis of Service {service}")
        for plan in plans:
            action = plan.to_json()["action"]
            console.print(f"{'pushed' if pushed else f'would {action}'} {plan.key}", style="bold")
            for line in plan.changes or ("no change but the time",):
                console.print(f"  {line}")

    failed = bool(refused) and not pushed and not dry_run
    warnings = [line for exported in exports for line in exported.warnings]
    warnings += [line for plan in plans for line in plan.warnings]
    return Result(
        {
            "dry_run": dry_run,
            "pushed": pushed,
            "redis_service": service,
            "profiles": [plan.to_json() for plan in plans],
        },
        rows=[
            {"key": plan.key, "action": plan.to_json()["action"], "changes": list(plan.changes)}
            for plan in plans
        ],
        record="profile",
        view=view,
        status="error" if failed else "success",
        exit_code=ExitCode.FAILURE if failed else ExitCode.OK,
        errors=tuple(
            Problem("push.refused", reason, hint="--force pushes all the same")
            for reason in (refused if failed else ())
        ),
        warnings=(
            *warnings_of("push.refused", [] if failed else refused),
            *warnings_of("push.aibrix", warnings),
        ),
    )
