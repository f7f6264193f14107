"""Draw a workload for a person."""

from typing import TYPE_CHECKING, Any

from aibrixctl.heatmap import heatmap

if TYPE_CHECKING:
    from rich.console import Console

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 60


def draw(console: "Console", data: dict[str, Any]) -> None:
    """Print what the workload is, its sizes as a heatmap, and its rate over time."""
    draw_summary(console, data)
    histogram = data["histogram"]
    shares = {
        (bucket["input_tokens"], bucket["output_tokens"]): bucket["share"]
        for bucket in histogram["buckets"]
    }
    inputs, outputs = (
        _used(histogram["input_tokens"], shares, 0),
        _used(histogram["output_tokens"], shares, 1),
    )
    grid = [[shares.get((i, o)) for i in inputs] for o in outputs]
    console.print()
    console.print("share of requests by size, at most so many tokens:")
    console.print(
        heatmap(
            [str(size) for size in inputs],
            [str(size) for size in outputs],
            [["·" if share is None else f"{share:.2%}" for share in row] for row in grid],
            grid,
        )
    )
    if histogram["outside_share"]:
        console.print(f"{histogram['outside_share']:.2%} are larger than the largest bucket")
    rates = data["rate_over_time"]["requests_per_s"]
    if rates:
        console.print()
        for line in _over_time(rates, data["duration_s"]):
            console.print(line)


def draw_summary(console: "Console", data: dict[str, Any]) -> None:
    """Print what the workload is, and the percentiles of its sizes."""
    from accelerators.units import format_duration
    from aibrixctl.render import table_of

    count = "" if data["requests"] is None else f"{data['requests']:,} requests"
    span = "" if data["duration_s"] is None else f"over {format_duration(data['duration_s'])}"
    rate = f"{data['request_rate']:.4g} requests/s"
    facts = ", ".join(part for part in (f"{count} {span}".strip(), rate) if part)
    console.print(f"{data['source']} ({data['format']})", style="bold")
    console.print(facts)
    for note in data["notes"]:
        console.print(note)
    console.print()
    rows = [{"tokens": side, **data[f"{side}_tokens"]} for side in ("input", "output")]
    console.print(table_of(rows))


def _used(ticks: list[int], shares: dict[tuple[int, int], float], axis: int) -> list[int]:
    """Return the bounds between the first and the last that hold any request."""
    held = [key[axis] for key in shares]
    return [tick for tick in ticks if min(held) <= tick <= max(held)]


def _over_time(rates: list[float | None], duration_s: float) -> list[str]:
    from accelerators.units import format_duration

    group = -(-len(rates) // _WIDTH)
    parts = (rates[i : i + group] for i in range(0, len(rates), group))
    means = [_mean([rate for rate in part if rate is not None]) for part in parts]
    known = [mean for mean in means if mean is not None]
    top = max(known)
    width = format_duration(duration_s / len(means))
    gaps = ", a gap where there is no data" if len(known) < len(means) else ""
    return [
        f"rate over time, {width} a bar: least {min(known):.3g}, most {top:.3g} requests/s{gaps}",
        "".join(_bar(mean, top) for mean in means),
    ]


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _bar(mean: float | None, top: float) -> str:
    if mean is None:
        return " "
    return _BARS[min(int(mean / top * len(_BARS)), len(_BARS) - 1)] if top else _BARS[0]
