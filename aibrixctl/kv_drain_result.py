"""What ``aibrixctl kv drain`` returns: its document, its verdict, and what to do next."""

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from aibrixctl.exit_codes import OF_KIND, ExitCode
from aibrixctl.result import Problem, Result
from aibrixctl.signals import StopFlag

if TYPE_CHECKING:
    from rich.console import Console

    from accelerators.errors import ToolError
    from kvpool.drain.report import Drained, DrainPlan


def drain_result(
    url: str,
    plan: "DrainPlan | None",
    done: "Drained | None",
    stop: StopFlag,
    failure: "ToolError | None" = None,
) -> Result:
    """Return what the command found.

    Args:
        url: of the pool, as it was given.
        plan: of a drain that was to be started.
        done: what became of one; None where none was started.
        stop: whether a signal came.
        failure: why a job could not be followed to its end, or not be canceled.
    """
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

    problem, code = _planned(url, plan, stop) if done is None else _ended(url, done)
    if failure is not None:
        code = code if done and done.end == "stalled" else OF_KIND[failure.kind]
    if stop.is_set() and (done is None or done.end in ("stopped", "stalled")):
        code = stop.exit_code
    errors = [] if problem is None else [problem]
    errors += [] if failure is None else [Problem.of(failure)]
    return Result(
        document,
        rows=[] if done is None else [one.to_json() for one in done.blockers.examples],
        record="blocker",
        view=view,
        status="partial" if errors else "success",
        exit_code=code,
        errors=tuple(errors),
        warnings=() if plan is None else tuple(_left_on_disk(url, plan)),
    )


def _left_on_disk(url: str, plan: "DrainPlan") -> Iterator[Problem]:
    """Warn of what a drain does not move and nothing else has."""
    from accelerators.units import format_bytes

    if plan.only_on_disk:
        yield Problem(
            "kv.drain.local_disk",
            f"{plan.only_on_disk:,} objects ({format_bytes(plan.only_on_disk_bytes)}) lie only on "
            "the own disk of a segment's client, and a drain moves nothing from there",
            url,
            "they are lost when that client goes; a newer master may fail the drain because of "
            "them",
        )


def _planned(url: str, plan: "DrainPlan | None", stop: StopFlag) -> tuple[Problem | None, ExitCode]:
    """Return why nothing was started, where not because of --dry-run."""
    if stop.is_set():
        problem = Problem("interrupted", "stopped while counting; no drain was started", url)
        return problem, stop.exit_code
    if plan is None or plan.fits:
        return None, ExitCode.OK
    text = f"the targets have room for {plan.free_bytes:,} bytes, and {plan.bytes:,} would move"
    hint = "a drain evicts nothing to make room; add a segment, or evict first"
    return Problem("kv.drain.room", text, url, hint), ExitCode.INFEASIBLE


def _ended(url: str, done: "Drained") -> tuple[Problem | None, ExitCode]:
    problem = _problem(url, done)
    return problem, ExitCode.OK if problem is None else ExitCode.PARTIAL


def _problem(url: str, done: "Drained") -> Problem | None:
    """Return why a drain is not over as it should; None where it is, or where nobody waited."""
    again = f"aibrixctl kv drain {shlex.quote(url)}"
    job = done.job
    if done.end == "stalled":
        return _stalled(url, done, f"give it up: {again} --cancel {job.id}")
    if done.end == "stopped":
        return Problem(
            "interrupted", "stopped waiting; the drain goes on", url, f"{again} --job {job.id}"
        )
    if done.end == "lost":
        text = f"drain job {job.id} could not be followed to its end; it was {job.status} last"
        return Problem("kv.drain.lost", text, url, f"{again} --job {job.id}")
    if done.end == "failed" or (done.end == "canceled" and not done.was_canceled):
        return Problem(f"kv.drain.{done.end}", f"the master says: {job.message}", url)
    return _lost_objects(url, done) if done.objects_lost else None


def _lost_objects(url: str, done: "Drained") -> Problem:
    what = "objects may not have" if done.missing is None else f"{done.missing:,} objects have not"
    gone = f": {', '.join(done.unmounted)} left the store meanwhile" if done.unmounted else ""
    return Problem(
        "kv.drain.objects_lost",
        f"the master calls it a success, but {what} arrived{gone}",
        url,
        "it counts a segment as empty, too, when that segment's client is gone; what had not moved "
        "went with it",
    )


def _stalled(url: str, done: "Drained", hint: str) -> Problem:
    text = f"nothing has moved for {done.still_s:.0f} s, and the master waits on"
    if done.was_canceled:
        text += "; it was canceled, and the segment serves again"
        hint = "what has moved stays where it is now"
    elif done.unmounted:
        text += f": {', '.join(done.unmounted)} left the store, and what had not moved is lost"
        hint = "nothing more can move; see to the segment's client"
    elif done.job.active:
        text += f": {done.job.active:,} objects are on their way with a client that does not answer"
        hint = (
            "see to the segment's client: the master lets go of it after its -client_ttl, and what "
            "has not moved by then is lost"
        )
    return Problem("kv.drain.stalled", text, url, hint)
