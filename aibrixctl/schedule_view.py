"""Draw a schedule for a person."""

from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from optimizer.schedule.schedule import Cost, Hour, Schedule


def draw(console: "Console", schedule: "Schedule", *, wide: bool) -> None:
    """Print what runs when, what it costs, and what simpler ways would cost."""
    from aibrixctl.render import table_of

    period = "week" if schedule.weekly else "day"
    model = f" for {schedule.model}" if schedule.model else ""
    console.print(f"Schedule{model}, per hour of the {period} ({schedule.timezone})", style="bold")
    console.print()
    console.print(table_of(list(_rows(schedule, each_hour=wide))))
    console.print()
    console.print(table_of(_costs(schedule, period)))
    console.print(_bound(schedule))


def _rows(schedule: "Schedule", *, each_hour: bool) -> "Iterator[dict[str, Any]]":
    numbered = enumerate(schedule.hours)
    for _, run in groupby(numbered, key=lambda item: _same(item, each_hour=each_hour)):
        hours = [hour for _, hour in run]
        first, last = hours[0], hours[-1]
        day = {} if first.day is None else {"day": first.day}
        yield {
            **day,
            "hours": f"{first.hour:02d}:00-{last.hour + 1:02d}:00",
            "requests/s": max(hour.requests_per_s for hour in hours),
            **first.replicas,
            "$/h": f"{first.usd_per_hour:,.2f}",
            "starts": " ".join(f"+{n} {name}" for name, n in first.starts.items()) or None,
        }


def _same(item: "tuple[int, Hour]", *, each_hour: bool) -> tuple[Any, ...]:
    number, hour = item
    return (number,) if each_hour else (hour.day, tuple(hour.replicas.items()))


def _costs(schedule: "Schedule", period: str) -> list[dict[str, Any]]:
    ways = [
        ("this schedule", schedule.cost),
        ("one fleet all the time", schedule.constant),
        ("each hour by itself", schedule.hourly),
    ]
    return [_cost(name, cost, schedule.cost, period) for name, cost in ways if cost is not None]


def _cost(name: str, cost: "Cost", ours: "Cost", period: str) -> dict[str, Any]:
    saved = cost.total_usd - ours.total_usd
    share = saved / cost.total_usd if cost.total_usd else 0.0
    return {
        "way": name,
        "running $": f"{cost.running_usd:,.2f}",
        "starting $": f"{cost.starting_usd:,.2f}",
        f"$/{period}": f"{cost.total_usd:,.2f}",
        "saved": None if cost is ours else f"{share:.1%}",
    }


def _bound(schedule: "Schedule") -> str:
    if schedule.gap < 1e-6:
        return "proven cheapest"
    bound = f"no schedule costs less than ${schedule.lower_bound_usd:,.2f}"
    if schedule.solver_status == "optimal":
        return f"proven within {schedule.gap:.2%}: {bound}"
    return f"best found in the time given; {bound} (gap {schedule.gap:.2%})"
