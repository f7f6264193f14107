"""Draw a plan for a person."""

from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from optimizer.plan import Fleet, Plan, Route

_SOURCES = {
    "simulated": "from SIMULATED tables, not measured",
    "mixed": "partly from simulated or imported tables",
    "imported": "from imported figures",
    "measured": "from measured tables",
}


def draw(console: "Console", plan: "Plan", *, wide: bool) -> None:
    """Print the mix, its cost and bound, comparisons, routing and limits."""
    from aibrixctl.plan_cluster_view import cluster_lines
    from aibrixctl.render import table_of

    console.print(_title(plan), style="bold")
    console.print(_source(plan))
    console.print()
    for line in cluster_lines(plan.inputs):
        console.print(line)
    if "cluster" in plan.inputs:
        console.print()
    console.print(table_of(_mix(plan)))
    console.print()
    console.print(_cost(plan), style="bold")
    console.print(_bound(plan))
    rows = _comparisons(plan)
    if rows:
        console.print()
        console.print(table_of(rows))
    console.print()
    console.print("where each bucket goes, and its requests/s:")
    console.print(table_of(_routes(plan)) if wide or not _has_sizes(plan) else _grid(plan))
    for line in limit_lines(plan):
        console.print(line)


def _title(plan: "Plan") -> str:
    model = f"{plan.model}, " if plan.model else ""
    headroom = f", {plan.headroom:.0%} headroom" if plan.headroom else ""
    return f"Plan for {model}{plan.request_rate:.4g} requests/s{headroom}"


def _source(plan: "Plan") -> str:
    from profiler.slo import Slo

    slos = "  ".join(str(Slo.from_json(slo)) for slo in plan.slos)
    return _SOURCES.get(plan.provenance, plan.provenance) + (f"; SLO {slos}" if slos else "")


def _mix(plan: "Plan") -> list[dict[str, Any]]:
    served: dict[str, float] = defaultdict(float)
    for route in plan.routing:
        served[route.type] += route.requests_per_s
    used = [name for name, count in sorted(plan.replicas.items()) if count]
    rows: list[dict[str, Any]] = [
        {
            "type": name,
            "replicas": plan.replicas[name],
            "GPUs": plan.gpus[name],
            "$/h each": f"{plan.replica_usd_per_hour[name]:.2f}",
            "$/h": f"{plan.replicas[name] * plan.replica_usd_per_hour[name]:.2f}",
            "busy": f"{plan.utilization.get(name, 0):.1%}",
            "requests/s": served[name],
        }
        for name in used
    ]
    unused = [name for name, count in sorted(plan.replicas.items()) if not count]
    return rows + [{"type": name, "replicas": 0} for name in unused]


def _cost(plan: "Plan") -> str:
    return f"${plan.cost_usd_per_hour:,.2f}/h, ${plan.cost_usd_per_month:,.0f}/month"


def _bound(plan: "Plan") -> str:
    bound = f"no mix costs less than ${plan.lower_bound_usd_per_hour:,.2f}/h"
    if plan.solver_status != "optimal":
        return f"best found in the time given; {bound} (gap {plan.gap:.2%})"
    proven = "proven cheapest" if plan.gap < 1e-9 else f"proven within {plan.gap:.2%}: {bound}"
    return f"{proven} (with fractions of replicas: ${plan.lp_bound_usd_per_hour:,.2f}/h)"


def _comparisons(plan: "Plan") -> list[dict[str, Any]]:
    fleets = [(f"{name} only", fleet) for name, fleet in sorted(plan.savings.single.items())]
    if plan.savings.current:
        fleets.append(("current fleet", plan.savings.current))
    return [_comparison(name, fleet) for name, fleet in fleets]


def _comparison(name: str, fleet: "Fleet") -> dict[str, Any]:
    notes = []
    if not fleet.feasible:
        notes.append("cannot serve this workload")
    elif not fleet.within_limits:
        notes.append("beyond the limits")
    cost, saving = fleet.cost_usd_per_hour, fleet.saving_usd_per_hour
    share = "" if fleet.saving_share is None else f"{fleet.saving_share:+.1%}"
    return {
        "against": name,
        "replicas": sum(fleet.replicas.values()) or None,
        "$/h": None if cost is None else f"{cost:,.2f}",
        "saved $/h": None if saving is None else f"{saving:,.2f}",
        "saved": share or None,
        "note": ", ".join(notes),
    }


def _has_sizes(plan: "Plan") -> bool:
    return all(route.input_tokens is not None for route in plan.routing)


def _by_bucket(plan: "Plan") -> "dict[tuple[int, int], list[Route]]":
    found: dict[tuple[int, int], list[Route]] = defaultdict(list)
    for route in plan.routing:
        found[route.input_tokens or 0, route.output_tokens or 0].append(route)
    return found


def _grid(plan: "Plan") -> "Table":
    """Return input sizes across, output sizes down; who serves each bucket, and how much."""
    from rich.table import Table

    buckets = _by_bucket(plan)
    inputs, outputs = (sorted({key[axis] for key in buckets}) for axis in (0, 1))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("OUT \\ IN", justify="right", no_wrap=True)
    columns: list[list[str]] = []
    for size in inputs:
        cells = [_cell(buckets.get((size, output), [])) for output in outputs]
        longest = max(len(word) for cell in cells for word in cell.split())
        table.add_column(f"≤{size}", min_width=longest)
        columns.append(cells)
    for output, row in zip(outputs, zip(*columns, strict=True), strict=True):
        table.add_row(f"≤{output}", *row)
    return table


def _cell(routes: "list[Route]") -> str:
    return " + ".join(f"{route.type} {route.requests_per_s:.3g}" for route in routes) or "·"


def _routes(plan: "Plan") -> list[dict[str, Any]]:
    rows = []
    for route in plan.routing:
        row = {
            "bucket": route.bucket,
            "type": route.type,
            "share": f"{route.share:.2%}",
            "requests/s": route.requests_per_s,
        }
        for slo in plan.slos:
            stats = route.latency.get(f"{slo['metric']}_ms") or {}
            value = stats.get(slo["statistic"])
            row[f"{slo['metric']} {slo['statistic']} ms"] = value
        rows.append(row)
    return rows


def limit_lines(plan: "Plan") -> list[str]:
    """Return which limits bind and what the next GPU of each type would save; may be empty."""
    lines = []
    texts = {
        "available": "every available GPU of {name} is used ({value:g})",
        "max": "{name} is at its maximum of {value:g} replicas",
        "min": "{name} is at its minimum of {value:g} replicas",
        "budget": "the budget of ${value:,.2f}/h leaves no room for another replica",
        "headroom": "the headroom of {value:.0%} is all that is left",
    }
    reached = [texts[b.limit].format(name=b.name, value=b.value) for b in plan.binding]
    if reached:
        lines.append(f"limits reached: {'; '.join(reached)}")
    for following in plan.next_gpu:
        saves, gpus = following.saves_usd_per_hour, following.gpus
        more = f"{gpus} more GPU{'s' if gpus > 1 else ''} of {following.name}"
        if saves is None:
            lines.append(f"{more}: worth not found in the time given")
        elif saves:
            lines.append(f"{more} would save ${saves:,.2f}/h")
    return ["", *lines] if lines else []
