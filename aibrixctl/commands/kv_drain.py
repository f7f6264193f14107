"""``aibrixctl kv drain``: empty a segment of a Mooncake store, and notice when that hangs."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aibrixctl.command import command, session
from aibrixctl.exit_codes import ExitCode
from aibrixctl.result import Problem, Result
from aibrixctl.signals import StopFlag, interruptible

if TYPE_CHECKING:
    from rich.console import Console

    from kvpool.drain.report import Drained, DrainPlan, Job
    from kvpool.mooncake import MooncakePool


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
        bool, typer.Option("--dry-run", "-n", help="Show what would move; start nothing.")
    ] = False,
) -> Result:
    """Empty a segment of a Mooncake store by its own drain, and notice when that hangs.

    The store waits for ever for what it can't move: objects that readers hold a lease on, that are
    pinned, or of which the target has a copy. Those are named, and the command ends with exit
    code 3. A signal ends the waiting; the drain goes on, and --job follows it again.
    """
    from aibrixctl import quantities
    from aibrixctl.kv_options import opened
    from kvpool.drain.job import cancel_drain, query_drain, start_drain
    from kvpool.drain.plan import mooncake
    from kvpool.drain.report import Drained

    _check_choice(segment, to, job, cancel, dry_run=dry_run)
    stall_after_s = quantities.duration("--stall-after", stall_after)
    with opened(pool) as place, interruptible() as stop:
        store = mooncake(place)
        if cancel is not None:
            canceled = cancel_drain(store.master, cancel, stop=stop)
            return _result(pool, None, Drained("canceled", canceled), stop, asked=True)
        plan = None if segment is None else _plan(store, segment, to or [], stop)
        if plan is not None and (dry_run or stop.is_set()):
            return _result(pool, plan, None, stop)
        if plan is not None:
            started = start_drain(store.master, plan, concurrency)
            session().reporter.say(f"drain job {started.id} runs")
        else:
            assert job is not None
            started = query_drain(store.master, job)
        if not follow:
            return _result(pool, plan, Drained("running", started), stop)
        done = _follow(store, started, plan, to or [], stall_after_s, stop)
        if done.end == "stalled" and cancel_stalled:
            done = _cancel(store, done, stop)
    return _result(pool, plan, done, stop)


def _check_choice(
    segment: list[str] | None,
    to: list[str] | None,
    job: str | None,
    cancel: str | None,
    *,
    dry_run: bool,
) -> None:
    from kvpool.errors import KvPoolUsageError

    given = [
        name
        for name, value in (("--segment", segment), ("--job", job), ("--cancel", cancel))
        if value
    ]
    if len(given) != 1:
        raise KvPoolUsageError(
            "kv.drain.choice",
            f"{' and '.join(given)} exclude each other" if given else "nothing says what to do",
            hint="give --segment to start a drain, --job to follow one, or --cancel to end one",
        )
    if dry_run and segment is None:
        raise KvPoolUsageError(
            "kv.drain.choice", f"--dry-run is for --segment; {given[0]} starts nothing"
        )
    if to and cancel:
        raise KvPoolUsageError("kv.drain.choice", "--to has no meaning with --cancel")


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
) -> "Drained":
    from accelerators.units import format_bytes
    from kvpool.drain.job import follow_drain

    total = None if plan is None else plan.objects
    with session().reporter.progress("draining", total) as bar:

        def show(now: "Job") -> None:
            bar.update(
                now.moved,
                text=f"{now.moved:,} objects moved, {format_bytes(now.moved_bytes)}; "
                f"{now.active:,} on their way, {now.blocked:,} blocked",
            )

        return follow_drain(
            store,
            job.id,
            targets=targets,
            stall_after_s=stall_after_s,
            stop=stop,
            progress=show,
        )


def _cancel(store: "MooncakePool", done: "Drained", stop: StopFlag) -> "Drained":
    from dataclasses import replace

    from kvpool.drain.job import cancel_drain

    return replace(done, job=cancel_drain(store.master, done.job.id, stop=stop), was_canceled=True)


def _result(
    url: str,
    plan: "DrainPlan | None",
    done: "Drained | None",
    stop: StopFlag,
    *,
    asked: bool = False,
) -> Result:
    document = {
        "url": url,
        "plan": None if plan is None else plan.to_json(),
        "drain": None if done is None else done.to_json(),
    }

    def view(console: "Console", wide: bool) -> None:
        from aibrixctl.kv_drain_view import draw_drain, draw_plan

        if plan is not None:
            draw_plan(console, plan)
        if done is not None:
            draw_drain(console, done, wide=wide)

    problem = None if done is None or asked else _problem(url, done)
    code = ExitCode.OK if problem is None else ExitCode.PARTIAL
    if done is None and plan is not None and not plan.fits:
        problem = Problem(
            "kv.drain.room", "the targets have no room for it", url, "add a segment, or evict"
        )
        code = ExitCode.INFEASIBLE
    if stop.is_set() and (done is None or done.end in ("stopped", "stalled")):
        code = stop.exit_code
    return Result(
        document,
        rows=_rows(done),
        record="blocker",
        view=view,
        status="success" if problem is None else "partial",
        exit_code=code,
        errors=() if problem is None else (problem,),
    )


def _rows(done: "Drained | None") -> list[dict[str, Any]]:
    return [] if done is None else [one.to_json() for one in done.blockers.examples]


def _problem(url: str, done: "Drained") -> Problem | None:
    """Return why a drain is not over; None where it is, or where nobody waited."""
    again = f"aibrixctl kv drain {url}"
    job = done.job
    if done.end == "stalled":
        text = f"nothing has moved for {done.still_s:.0f} s, and the master waits on"
        if job.active:
            text += f": {job.active:,} objects are on their way with a client that does not answer"
        if done.was_canceled:
            return Problem(
                "kv.drain.stalled",
                f"{text}; it was canceled, and the segment serves again",
                url,
                "what has moved stays where it is now",
            )
        return Problem("kv.drain.stalled", text, url, f"give it up: {again} --cancel {job.id}")
    if done.end == "stopped":
        return Problem(
            "interrupted", "stopped waiting; the drain goes on", url, f"{again} --job {job.id}"
        )
    if done.end in ("failed", "canceled"):
        return Problem(f"kv.drain.{done.end}", f"the master says: {job.message}", url)
    return None
