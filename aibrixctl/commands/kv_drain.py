"""``aibrixctl kv drain``: empty a segment of a Mooncake store, and notice when that hangs."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from aibrixctl.command import command, session
from aibrixctl.result import Result, waiting_stopped
from aibrixctl.signals import StopFlag, interruptible

if TYPE_CHECKING:
    from accelerators.errors import ToolError
    from kvpool.drain.report import Drained, DrainPlan, Job
    from kvpool.errors import KvPoolUsageError
    from kvpool.mooncake import MooncakePool

    _Outcome = tuple[Drained, ToolError | None]


@command(
    "kv drain",
    examples=(
        (
            "aibrixctl kv drain mooncake://127.0.0.1:9003 --segment 127.0.0.1:17001 --dry-run",
            "what would move, whether it fits, and what will block it",
        ),
        (
            "aibrixctl kv drain mooncake://127.0.0.1:9003 --segment 127.0.0.1:17001 "
            "--stall-after 1m --cancel-stalled",
            "empty it; put it back into service if something can't be moved",
        ),
        (
            "aibrixctl kv drain mooncake://127.0.0.1:9003 --job 2972823015682866623-7501279910600",
            "follow a drain that runs already",
        ),
    ),
)
def drain(
    pool: Annotated[
        str,
        typer.Argument(metavar="POOL", help="URL of a Mooncake store: mooncake://HOST:9003."),
    ],
    segment: Annotated[
        list[str] | None,
        typer.Option("--segment", metavar="NAME", help="Empty this segment. Repeatable."),
    ] = None,
    to: Annotated[
        list[str] | None,
        typer.Option(
            "--to", metavar="NAME", help="Into this segment, not any other one. Repeatable."
        ),
    ] = None,
    job: Annotated[
        str | None,
        typer.Option("--job", metavar="ID", help="Follow this job instead of starting one."),
    ] = None,
    cancel: Annotated[
        str | None,
        typer.Option("--cancel", metavar="ID", help="Cancel this job; do nothing else."),
    ] = None,
    concurrency: Annotated[
        int,
        typer.Option("--concurrency", min=1, max=10_000, help="Objects on their way at once."),
    ] = 64,
    follow: Annotated[
        bool,
        typer.Option("--follow/--no-follow", help="Wait for its end, or start it and return."),
    ] = True,
    stall_after: Annotated[
        str,
        typer.Option(
            "--stall-after",
            metavar="TIME",
            help="Take it for hung when nothing has moved for so long.",
        ),
    ] = "30s",
    cancel_stalled: Annotated[
        bool,
        typer.Option("--cancel-stalled", help="Cancel it when it hangs; the segment serves again."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Show what would move; start or cancel nothing.")
    ] = False,
) -> Result:
    """Empty a segment of a Mooncake store by its own drain, and notice when that hangs.

    The store waits for ever for what it can't move: objects that readers hold a lease on, that are
    pinned, or of which the target has a copy. Those are named, and the command ends with exit
    code 3; at a terminal it asks whether to cancel the drain. A signal ends the waiting; the drain
    goes on, and --job follows it again.
    """
    from aibrixctl.kv_drain_result import drain_result
    from aibrixctl.kv_options import opened
    from kvpool.drain.job import end_of, query_drain, start_drain
    from kvpool.drain.plan import mooncake
    from kvpool.drain.report import Drained

    _check_choice(segment, to, job, cancel, dry_run=dry_run)
    if cancel_stalled and not (follow and cancel is None):
        raise _choice("--cancel-stalled is for a drain that is followed")
    stall_after_s = _stall_after_s(stall_after)
    with opened(pool) as place, interruptible() as stop:
        store = mooncake(place)
        if cancel is not None:
            return _cancel_only(pool, store, cancel, stop, dry_run=dry_run)
        plan = None if segment is None else _plan(store, segment, to or [], stop)
        if plan is not None and (dry_run or stop.is_set() or not plan.fits):
            return drain_result(pool, plan, None, stop)
        if plan is not None:
            started = start_drain(store.master, plan, concurrency)
            session().reporter.say(f"drain job {started.id} runs")
        else:
            assert job is not None
            started = query_drain(store.master, job)
        if not follow:
            return drain_result(pool, plan, Drained(end_of(started), started), stop)
        done, failure = _follow(store, started, plan, to or [], stall_after_s, stop)
        if done.end == "stalled" and (cancel_stalled or _wants_cancel(done, stop)):
            done, failure = _cancel(store, done, stop)
    return drain_result(pool, plan, done, stop, failure)


def _check_choice(
    segment: list[str] | None,
    to: list[str] | None,
    job: str | None,
    cancel: str | None,
    *,
    dry_run: bool,
) -> None:
    given = [
        name
        for name, value in (("--segment", segment), ("--job", job), ("--cancel", cancel))
        if value
    ]
    if len(given) != 1:
        raise _choice(
            f"{' and '.join(given)} exclude each other" if given else "nothing says what to do",
            hint="give --segment to start a drain, --job to follow one, or --cancel to end one",
        )
    if dry_run and job is not None:
        raise _choice("--dry-run is for --segment and --cancel; --job changes nothing")
    if to and cancel:
        raise _choice("--to has no meaning with --cancel")


def _choice(message: str, *, hint: str = "") -> "KvPoolUsageError":
    from kvpool.errors import KvPoolUsageError

    return KvPoolUsageError("kv.drain.choice", message, hint=hint)


def _stall_after_s(text: str) -> float:
    from accelerators.errors import UsageError
    from aibrixctl import quantities

    seconds = quantities.duration("--stall-after", text)
    if seconds <= 0:
        raise UsageError(
            "kv.drain.stall_after",
            f"--stall-after {text} would take every drain for hung; it must be more than 0s",
            hint="longer than the master's -default_kv_lease_ttl, 5 s unless told otherwise",
            target="--stall-after",
        )
    return seconds


def _plan(
    store: "MooncakePool", segments: list[str], targets: list[str], stop: StopFlag
) -> "DrainPlan":
    from kvpool.drain.plan import plan_drain

    with session().reporter.progress("looking") as bar:
        return plan_drain(
            store,
            segments,
            targets,
            stop=stop,
            progress=lambda seen: bar.update(seen, text=f"{seen:,} objects seen"),
        )


def _follow(
    store: "MooncakePool",
    job: "Job",
    plan: "DrainPlan | None",
    targets: list[str],
    stall_after_s: float,
    stop: StopFlag,
) -> "_Outcome":
    """Follow a job; where the master goes away meanwhile, return what was seen last, and why."""
    import time

    from accelerators.units import format_bytes
    from kvpool.drain.job import follow_drain
    from kvpool.drain.report import Drained
    from kvpool.errors import KvPoolError

    total = None if plan is None else plan.objects
    last, started_s = job, time.monotonic()
    with session().reporter.progress("draining", total) as bar:

        def show(now: "Job") -> None:
            nonlocal last
            last = now
            bar.update(
                now.moved,
                text=f"{now.moved:,} objects moved, {format_bytes(now.moved_bytes)}; "
                f"{now.active:,} on their way, {now.blocked:,} blocked",
            )

        try:
            done = follow_drain(
                store,
                job.id,
                targets=targets,
                planned=total,
                stall_after_s=stall_after_s,
                stop=stop,
                progress=show,
            )
        except KvPoolError as error:
            return Drained("lost", last, time.monotonic() - started_s), error
    return done, None


def _wants_cancel(done: "Drained", stop: StopFlag) -> bool:
    """Show a person what blocks a drain, and ask whether to give it up."""
    from aibrixctl.kv_drain_view import draw_stalled
    from aibrixctl.prompt import agrees, can_ask
    from aibrixctl.terminal import console

    if not (done.can_be_canceled and can_ask()) or stop.is_set():
        return False
    draw_stalled(console(sys.stderr), done)
    return agrees("Cancel the drain, so that the segment serves again?", stop)


def _cancel(store: "MooncakePool", done: "Drained", stop: StopFlag) -> "_Outcome":
    """Cancel a job that stalled; where that fails, return what is known of it, and why."""
    from dataclasses import replace

    from kvpool.drain.job import cancel_drain
    from kvpool.errors import KvPoolError

    try:
        canceled = cancel_drain(store.master, done.job.id, stop=stop)
    except KvPoolError as error:
        return done, error
    return replace(done, job=canceled, was_canceled=True), None


def _cancel_only(
    url: str, store: "MooncakePool", job: str, stop: StopFlag, *, dry_run: bool
) -> Result:
    from aibrixctl.kv_drain_result import drain_result
    from kvpool.drain.job import cancel_drain, query_running
    from kvpool.drain.report import Drained
    from kvpool.errors import KvPoolError

    if dry_run:
        return drain_result(url, None, Drained("running", query_running(store.master, job)), stop)
    try:
        canceled = cancel_drain(store.master, job, stop=stop)
    except KvPoolError:
        if stop.is_set():
            return waiting_stopped(url, stop.exit_code)
        raise
    return drain_result(url, None, Drained("canceled", canceled, was_canceled=True), stop)
