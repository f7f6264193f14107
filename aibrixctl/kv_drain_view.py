"""Draw what a drain of a Mooncake store does for a person."""

from typing import TYPE_CHECKING

from accelerators.units import format_bytes

if TYPE_CHECKING:
    from rich.console import Console

    from kvpool.drain.report import Blockers, Drained, DrainPlan

_FEW = 5
_WHY = {
    "copied": "every target has a copy",
    "held": "leased to readers, or pinned",
    "waiting": "on its way, or not tried yet",
}
_ENDS = {
    "succeeded": "drained",
    "failed": "failed",
    "canceled": "canceled",
    "stalled": "stalled",
    "stopped": "runs on",
    "running": "runs",
    "lost": "out of sight",
}


def draw_plan(console: "Console", plan: "DrainPlan") -> None:
    """Print what would move, and where to."""
    sources = ", ".join(segment.name for segment in plan.segments)
    console.print(f"{sources}: {plan.objects:,} objects, {format_bytes(plan.bytes)}", style="bold")
    targets = ", ".join(segment.name for segment in plan.targets)
    verdict = "enough" if plan.fits else "too little"
    console.print(f"to {targets}: {format_bytes(plan.free_bytes)} free, {verdict}")
    if plan.copied:
        names = ", ".join(plan.examples[:3])
        more = ", ..." if plan.copied > 3 else ""
        console.print(f"{plan.copied:,} will block it, for every target has a copy: {names}{more}")
    if plan.on_disk:
        console.print(
            f"{plan.on_disk:,} lie on the own disk of a segment's client, where a drain leaves them"
        )


def draw_drain(console: "Console", done: "Drained", *, wide: bool) -> None:
    """Print how a drain ended, and what blocks it."""
    job = done.job
    time = f" in {done.elapsed_s:.1f} s" if done.elapsed_s else ""
    console.print(
        f"job {job.id} {_ENDS[done.end]}: {job.moved:,} objects, "
        f"{format_bytes(job.moved_bytes)} moved{time}",
        soft_wrap=True,
    )
    if done.missing:
        console.print(f"{done.missing:,} objects did not arrive: removed meanwhile, or lost")
    if job.failed:
        console.print(f"{job.failed:,} attempts failed")
    if done.end == "stalled":
        _draw_blockers(console, done.blockers, wide=wide)
        unnamed = job.blocked - done.blockers.objects
        if unnamed > 0:
            console.print(f"{unnamed:,} more have names that the master's HTTP can't be asked for")


def draw_stalled(console: "Console", done: "Drained") -> None:
    """Print what a person must know to decide about a drain that stalled: a few of the keys."""
    left = done.blockers.objects
    console.print(f"nothing has moved for {done.still_s:.0f} s; {left:,} objects are left")
    for one in done.blockers.examples[:_FEW]:
        console.print(f"  {one.key}: {_WHY[one.why]}", soft_wrap=True)
    if left > _FEW:
        console.print("  ...")


def _draw_blockers(console: "Console", blockers: "Blockers", *, wide: bool) -> None:
    from rich.table import Table

    console.print(
        f"{blockers.objects:,} objects are left, {format_bytes(blockers.bytes)}; of "
        f"{blockers.copied:,} every target has a copy"
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("KEY", "BYTES", "ON", "WHY"):
        table.add_column(
            head,
            justify="right" if head == "BYTES" else "left",
            no_wrap=head != "KEY",
            overflow="fold" if wide else "ellipsis",
        )
    for one in blockers.examples:
        table.add_row(one.key, format_bytes(one.bytes), one.node, _WHY[one.why])
    console.print(table)
    if blockers.objects > len(blockers.examples):
        console.print(f"and {blockers.objects - len(blockers.examples):,} more")
