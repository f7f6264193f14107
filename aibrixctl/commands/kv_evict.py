"""``aibrixctl kv evict``: remove entries that are old, of a model, or too many."""

from typing import TYPE_CHECKING, Annotated

import typer

from aibrixctl.command import command, session
from aibrixctl.exit_codes import ExitCode
from aibrixctl.kv_options import MinSize, Models, OlderThan, PoolArgument, Tags
from aibrixctl.redis_access import PasswordFile
from aibrixctl.result import Problem, Result
from aibrixctl.shared_options import CaFile, Insecure
from aibrixctl.signals import StopFlag, interruptible

if TYPE_CHECKING:
    from rich.console import Console

    from kvpool.evict import Evicted, EvictPlan
    from kvpool.pool import Pool


@command(
    "kv evict",
    examples=(
        (
            "aibrixctl kv evict lmcache+file:pool --older-than 12h --dry-run",
            "what has lain there for half a day",
        ),
        (
            "aibrixctl kv evict lmcache+file:pool --to-size 500KiB",
            "the oldest, until the rest is small enough",
        ),
        (
            "aibrixctl kv evict lmcache+file:pool --model 'demo/embed-*'",
            "all of a model that nobody serves any more",
        ),
    ),
)
def evict(
    pool: PoolArgument,
    older_than: OlderThan = None,
    model: Models = None,
    tag: Tags = None,
    min_size: MinSize = None,
    to_size: Annotated[
        str | None,
        typer.Option(
            "--to-size",
            metavar="BYTES",
            help="Of what the others choose, only the oldest, until the pool is no larger.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Show what would go; remove nothing.")
    ] = False,
    password_file: PasswordFile = None,
    ca_file: CaFile = None,
    insecure: Insecure = False,
) -> Result:
    """Remove whole entries of a KV cache pool, oldest first.

    Old is what was stored long ago, or was last used long ago where the pool keeps no such time
    (Redis). Both halves of an entry go at once. The pool is scanned twice, to choose and to remove;
    what was written or used in between stays. Orphans, foreign and undecodable keys are left alone.
    """
    from aibrixctl import quantities
    from aibrixctl.kv_options import opened, selection
    from kvpool import evict as evicting
    from kvpool.errors import KvPoolUsageError
    from kvpool.pool import require

    if not (older_than or model or tag or min_size or to_size):
        raise KvPoolUsageError(
            "kv.evict.everything",
            "nothing says what to remove",
            hint="give --older-than, --model, --tag, --min-size or --to-size",
        )
    chosen = selection(
        models=model, states=("whole",), tags=tag, min_size=min_size, older_than=older_than
    )
    to_bytes = None if to_size is None else quantities.size("--to-size", to_size)
    with (
        opened(pool, password_file=password_file, ca_file=ca_file, insecure=insecure) as place,
        interruptible() as stop,
    ):
        require(place, "scan", "stat", *(() if dry_run else ("delete",)))
        if older_than or to_size:
            require(place, "age")
        with session().reporter.progress("choosing") as bar:
            plan = evicting.plan_eviction(
                place,
                chosen,
                to_bytes=to_bytes,
                stop=stop,
                progress=lambda seen: bar.update(seen, text=f"{seen:,} entries seen"),
            )
        acts = plan.complete and not dry_run
        done = _remove(place, plan, stop) if acts else evicting.Evicted(complete=plan.complete)
    return _result(pool, plan, done, stop, dry_run=dry_run)


def _remove(place: "Pool", plan: "EvictPlan", stop: StopFlag) -> "Evicted":
    from kvpool.evict import evict

    with session().reporter.progress("removing", plan.entries) as bar:
        return evict(place, plan, stop=stop, progress=lambda now: bar.update(now.removed))


def _result(
    url: str, plan: "EvictPlan", done: "Evicted", stop: StopFlag, *, dry_run: bool
) -> Result:
    document = {
        "url": url,
        "dry_run": dry_run,
        "scanned": plan.scanned,
        "scanned_bytes": plan.scanned_bytes,
        "planned": plan.entries,
        "planned_bytes": plan.bytes,
        "unknown_age": plan.unknown_age,
        **done.to_json(),
    }

    def view(console: "Console", wide: bool) -> None:
        from accelerators.units import format_bytes

        planned = plan.entries, plan.bytes
        count, size = planned if dry_run else (done.removed, done.removed_bytes)
        verb = "would remove" if dry_run else "removed"
        console.print(
            f"{verb} {count:,} of {plan.scanned:,} entries, {format_bytes(size)} of "
            f"{format_bytes(plan.scanned_bytes)}"
        )

    errors = []
    if not done.complete:
        text = f"stopped by a signal; {done.removed:,} of {plan.entries:,} entries were removed"
        errors.append(Problem("interrupted", text, url))
    if done.in_use:
        text = f"{done.in_use:,} entries stay, for engines go on reading them"
        errors.append(Problem("kv.evict.in_use", text, url, "stop those engines, or try again"))
    code = ExitCode.PARTIAL if done.in_use else ExitCode.OK
    warning = Problem(
        "kv.evict.unknown_age",
        f"{plan.unknown_age:,} entries were left alone because nothing tells their age",
        url,
    )
    return Result(
        document,
        view=view,
        status="partial" if errors else "success",
        exit_code=code if done.complete else stop.exit_code,
        errors=tuple(errors),
        warnings=(warning,) if plan.unknown_age else (),
    )
