"""``aibrixctl kv doctor``: every hazard of a pool, with what shows it and what to do."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aibrixctl.command import command, session
from aibrixctl.doctor_verdict import verdict
from aibrixctl.exit_codes import ExitCode
from aibrixctl.kube_options import Context, Kubeconfig, LongNamespace
from aibrixctl.kv_k8s import PREFIX, Target, way_in
from aibrixctl.kv_options import ReadHeaders
from aibrixctl.redis_access import PasswordFile
from aibrixctl.result import Problem, Result, Status
from aibrixctl.shared_options import CaFile, Insecure
from aibrixctl.signals import StopFlag, interruptible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from accelerators.errors import ToolError
    from cluster.access import Access
    from kvpool.doctor.finding import Report
    from kvpool.doctor.repair import Repaired
    from kvpool.doctor.survey import Options
    from kvpool.k8s.resources import CachePool
    from kvpool.pool import Pool

_BLIND = ("kv.redis.unreachable",)
"""Codes of errors that another way to the Redis helps against."""


@command(
    "kv doctor",
    examples=(
        ("aibrixctl kv doctor lmcache+file:pool", "is this pool sound?"),
        (
            "aibrixctl kv doctor lmcache+file:pool --repair --dry-run",
            "which orphans would be removed",
        ),
        (
            "aibrixctl kv doctor aibrix+redis://127.0.0.1:6379/0 --no-probe",
            "AIBrix's slots and nodes, without connecting to the nodes",
        ),
        (
            "aibrixctl kv doctor k8s:kvcache-cluster --redis redis://127.0.0.1:6379/0",
            "a pool in a cluster: its slots against its pods, Redis by port-forward",
        ),
    ),
)
def doctor(
    pool: Annotated[
        str,
        typer.Argument(
            metavar="POOL",
            help="URL of the pool, e.g. lmcache+redis://HOST:6379/0, lmcache+file:DIR; or "
            "k8s:[NAMESPACE/]NAME, a KVCache resource.",
        ),
    ],
    repair: Annotated[
        bool,
        typer.Option("--repair", help="First remove lone halves and temporary files; only these."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="With --repair: show what would be removed.")
    ] = False,
    min_age: Annotated[
        str,
        typer.Option(
            "--min-age",
            metavar="TIME",
            help="Take a half for one that a writer is still at work on until it is so old.",
        ),
    ] = "5m",
    headers: ReadHeaders = False,
    probe: Annotated[
        bool, typer.Option("--probe/--no-probe", help="Connect to the nodes' addresses.")
    ] = True,
    probe_timeout: Annotated[
        str, typer.Option("--probe-timeout", metavar="TIME", help="For each node's address.")
    ] = "2s",
    watch: Annotated[
        str,
        typer.Option(
            "--watch",
            metavar="TIME",
            help="Watch placement metadata so long for a second cluster that writes it.",
        ),
    ] = "0s",
    drain_job: Annotated[
        str | None,
        typer.Option(
            "--drain-job", metavar="ID", help="See whether this drain of a Mooncake store moves."
        ),
    ] = None,
    stall_after: Annotated[
        str,
        typer.Option(
            "--stall-after", metavar="TIME", help="With --drain-job: it hangs after so long."
        ),
    ] = "30s",
    password_file: PasswordFile = None,
    ca_file: CaFile = None,
    insecure: Insecure = False,
    redis: Annotated[
        str | None,
        typer.Option(
            "--redis",
            metavar="redis://[USER@]HOST[:PORT][/DB]",
            help="With k8s: the pool's Redis as it is reached from here.",
        ),
    ] = None,
    namespace: LongNamespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> Result:
    """Examine a KV cache pool for hazards: what is wrong, what shows it, and what to do.

    The server is asked in small batches and values are not read, but for two blocks of each AIBrix
    conn_id that stores tokens. Exits 10 when something is wrong, 3 when a check could not run;
    what is only worth knowing leaves the exit code alone. -o wide also lists what was checked.

    k8s:NAME finds AIBrix's slot map by its KVCache resource and holds it against the pods: slots
    at addresses that no pod has, pods without slots or not ready, and who else writes the map.
    """
    from aibrixctl import quantities
    from aibrixctl.kube_options import access
    from kvpool.doctor.survey import Options

    in_cluster = pool.startswith(PREFIX)
    _refuse_odd(
        in_cluster=in_cluster,
        repair=repair,
        dry_run=dry_run,
        k8s_only={
            "--redis": redis,
            "--namespace": namespace,
            "--context": context,
            "--kubeconfig": kubeconfig,
        },
    )
    timeout_s = quantities.duration("--probe-timeout", probe_timeout)
    options = Options(
        depth="headers" if headers else "quiet",
        min_age_s=quantities.duration("--min-age", min_age),
        probe_timeout_s=timeout_s if probe else None,
        watch_s=quantities.duration("--watch", watch),
        drain_job=drain_job,
        stall_after_s=quantities.duration("--stall-after", stall_after),
    )
    if in_cluster:
        way = access(kubeconfig, context, namespace)
        return _in_cluster(Target(pool, way, redis, password_file, ca_file, insecure), options)
    from aibrixctl.kv_options import opened
    from kvpool.doctor.examine import examine
    from kvpool.pool import require

    repaired = None
    with (
        opened(pool, password_file=password_file, ca_file=ca_file, insecure=insecure) as place,
        interruptible() as stop,
    ):
        if repair:
            require(place, "scan", *(() if dry_run else ("delete",)))
            repaired = _repair(place, options.min_age_s, stop, dry_run=dry_run)
        with session().reporter.progress("examining") as bar:
            report = examine(
                place,
                options,
                stop=stop,
                progress=lambda seen: bar.update(seen, text=f"{seen:,} entries seen"),
            )
    return _result(_Outcome(pool, pool, report, repaired), stop)


def _refuse_odd(
    *, in_cluster: bool, repair: bool, dry_run: bool, k8s_only: "dict[str, str | None]"
) -> None:
    """Refuse options that would have no effect."""
    from aibrixctl.kube_options import refuse_unused
    from kvpool.errors import KvPoolUsageError

    if dry_run and not repair:
        raise KvPoolUsageError(
            "kv.doctor.dry_run",
            "--dry-run says what --repair would remove; without it nothing is ever changed",
            hint="add --repair, or leave --dry-run out",
        )
    if repair and in_cluster:
        raise KvPoolUsageError(
            "kv.doctor.repair",
            "--repair removes halves of entries, and a slot map holds no entries",
            hint="leave --repair out; each finding says what to do",
        )
    if not in_cluster:
        refuse_unused(k8s_only, hint="write k8s:NAME for a KVCache resource")


def _in_cluster(target: Target, options: "Options") -> Result:
    with interruptible() as stop, session().reporter.progress("examining"):
        pool, found = target.examine(options, stop)
    at = f" at {found.url}" if found.url else ""
    name = f"{PREFIX}{pool.full_name}"
    outcome = _Outcome(name, name + at, found.report, kvcache=pool)
    hints = {error.message: _hint(error, pool, target.way) for error in found.obstacles}
    return _result(outcome, stop, hints)


def _hint(error: "ToolError", pool: "CachePool", way: "Access") -> str:
    """Return what helps against something that left checks open."""
    return way_in(pool, way) if error.code in _BLIND else error.hint


def _repair(place: "Pool", min_age_s: float, stop: StopFlag, *, dry_run: bool) -> "Repaired":
    from kvpool.doctor.repair import remove_orphans

    with session().reporter.progress("repairing") as bar:
        return remove_orphans(
            place,
            min_age_s,
            dry_run=dry_run,
            stop=stop,
            progress=lambda seen: bar.update(seen, text=f"{seen:,} entries seen"),
        )


@dataclass(frozen=True)
class _Outcome:
    """What was examined, and what came of it; ``title`` is what a person reads first."""

    url: str
    title: str
    report: "Report"
    repaired: "Repaired | None" = None
    kvcache: "CachePool | None" = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "url": self.url,
            **self.report.to_json(),
            "repaired": None if self.repaired is None else self.repaired.to_json(),
            "kvcache": None if self.kvcache is None else self.kvcache.to_json(),
        }


def _result(outcome: _Outcome, stop: StopFlag, hints: "Mapping[str, str] | None" = None) -> Result:
    def view(console: "Console", wide: bool) -> None:
        from aibrixctl.kv_doctor_view import draw_report

        draw_report(console, outcome.title, outcome.report, outcome.repaired, wide=wide)

    document = outcome.to_json()
    status, code, errors = _verdict(outcome.url, outcome.report, stop, hints or {})
    return Result(
        document,
        rows=document["findings"],
        record="finding",
        view=view,
        status=status,
        exit_code=code,
        errors=errors,
    )


def _verdict(
    url: str, report: "Report", stop: StopFlag, hints: "Mapping[str, str]"
) -> tuple[Status, ExitCode, tuple[Problem, ...]]:
    """Return what the findings mean for a script; one that was stopped has no verdict."""
    if not report.complete:
        stopped = Problem("interrupted", "stopped before the whole pool was examined", url)
        return "partial", stop.exit_code, (stopped,)
    return verdict(report, "kv.doctor.unchecked", url, hints)
