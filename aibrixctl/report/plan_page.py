"""The report of a plan: the mix, what it saves, where each bucket goes, and what it rests on."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from accelerators.units import format_duration
from aibrixctl.plan_view import limit_lines
from aibrixctl.report import page, svg

if TYPE_CHECKING:
    from optimizer.plan import Fleet, Plan
    from optimizer.workload import Workload
    from profiler.table import Cell, ThroughputTable


def plan_page(
    plan: "Plan",
    tables: Sequence["ThroughputTable"],
    workload: "Workload | None" = None,
    *,
    title: str = "",
    notes: Sequence[str] = (),
) -> str:
    """Return the HTML page of a plan.

    Args:
        plan: what was decided.
        tables: what it was decided on; empty when the plan came from a Mélange problem.
        workload: what was asked for; None without one.
        title: heading; made from the model when empty.
        notes: sentences for the reader, shown under the summary.
    """
    names = sorted(plan.replicas, key=lambda name: (not plan.replicas[name], name))
    colours = {name: svg.SERIES[i % len(svg.SERIES)] for i, name in enumerate(names)}
    sections = [("The mix", _mix(plan, colours))]
    if workload is not None:
        sections.append(("What is asked for", _asked(workload, plan, tables)))
    if any(route.input_tokens for route in plan.routing):
        sections.append(("Where each bucket goes", _routing(plan, tables, colours)))
    else:
        sections.append(("Where each bucket goes", _routing_table(plan)))
    if tables:
        sections.append(("What one replica serves within the SLO", _rates(tables)))
        sections.append(("What a thousand requests cost", _costs(tables)))
    sections.append(("What this rests on", _basis(plan)))
    return page.page(
        title or f"GPU mix for {plan.model or 'a workload'}",
        [*_lead(plan), *(page.paragraph(note) for note in notes)],
        _tiles(plan),
        sections,
    )


def slo_text(plan: "Plan") -> str:
    """Return the plan's objectives as one line."""
    return ", ".join(
        f"{slo['metric'].upper()} {slo['statistic']} ≤ {format_duration(slo['limit_ms'] / 1e3)}"
        for slo in plan.slos
    )


def _lead(plan: "Plan") -> list[str]:
    lead = []
    if plan.provenance == "simulated":
        text = "Predicted by a simulator, not measured: good for a first plan, not for a purchase."
        lead.append(page.paragraph(text, "notice"))
    elif plan.provenance == "mixed":
        lead.append(page.paragraph("Some of these tables are simulated, not measured.", "notice"))
    what = [f"{plan.request_rate:.4g} requests/s"]
    if plan.slos:
        what.append(f"within {slo_text(plan)}")
    if plan.headroom:
        what.append(f"{plan.headroom:.0%} of every replica kept free")
    return [*lead, page.paragraph(", ".join(what) + ".", "soft")]


def _tiles(plan: "Plan") -> list[page.Tile]:
    used = [f"{count} × {name}" for name, count in sorted(plan.replicas.items()) if count]
    tiles = [
        page.Tile(f"${plan.cost_usd_per_hour:,.2f}/h", f"${plan.cost_usd_per_month:,.0f} a month"),
        page.Tile(" + ".join(used), "replicas"),
    ]
    best = plan.savings.best_single
    if best is not None:
        fleet = plan.savings.single[best]
        tiles.append(page.Tile(f"{fleet.saving_share or 0:.1%}", f"less than {best} alone"))
    tiles.append(page.Tile(f"{plan.gap:.2%}", f"from the proven bound; {plan.solver_status}"))
    return tiles


def _mix(plan: "Plan", colours: Mapping[str, str]) -> str:
    parts = [
        (name, count * plan.replica_usd_per_hour[name])
        for name, count in sorted(plan.replicas.items())
        if count
    ]
    bars = [("this plan", parts, f"${plan.cost_usd_per_hour:,.2f}/h")]
    if plan.savings.current:
        bars.append(_bar("current fleet", plan.savings.current, plan))
    bars += [
        _bar(f"{name} alone", fleet, plan) for name, fleet in sorted(plan.savings.single.items())
    ]
    rows = [
        [
            name,
            str(count),
            str(plan.gpus.get(name, count)),
            f"{plan.utilization[name]:.0%}" if name in plan.utilization else "–",
            f"{_share_of_requests(plan, name):.0%}",
        ]
        for name, count in sorted(plan.replicas.items())
    ]
    header = ["type", "replicas", "GPUs", "utilisation", "of requests"]
    lines = "".join(page.paragraph(line, "soft") for line in limit_lines(plan) if line)
    return svg.bars("Cost per hour", bars, colours) + page.table(header, rows) + lines


def _bar(label: str, fleet: "Fleet", plan: "Plan") -> tuple[str, list[tuple[str, float]], str]:
    """Return another fleet's bar: label, parts by type, and what it costs and lacks."""
    cost = fleet.cost_usd_per_hour
    if cost is None:
        return label, [], "cannot serve every bucket within the SLO"
    count = sum(fleet.replicas.values())
    text = f"${cost:,.2f}/h, {count} replica{'' if count == 1 else 's'}"
    if not fleet.feasible:
        text += ", cannot serve this workload"
    elif fleet.saving_share:
        saves = "saves" if fleet.saving_share > 0 else "costs more:"
        text += f", plan {saves} {abs(fleet.saving_share):.1%}"
    if fleet.feasible and not fleet.within_limits:
        text += ", beyond the limits"
    parts = [(n, c * plan.replica_usd_per_hour[n]) for n, c in sorted(fleet.replicas.items())]
    return label, parts, text


def _share_of_requests(plan: "Plan", name: str) -> float:
    served = sum(route.requests_per_s for route in plan.routing if route.type == name)
    return served / plan.request_rate if plan.request_rate else 0.0


def _axes(plan: "Plan", tables: Sequence["ThroughputTable"]) -> tuple[list[int], list[int]]:
    if tables:
        return list(tables[0].input_tokens), list(tables[0].output_tokens)
    inputs = {route.input_tokens for route in plan.routing if route.input_tokens}
    outputs = {route.output_tokens for route in plan.routing if route.output_tokens}
    return sorted(inputs), sorted(outputs)


def _grid(inputs: Sequence[int], outputs: Sequence[int]) -> svg.Grid:
    return svg.Grid([f"{n:,}" for n in inputs], [f"{n:,}" for n in outputs])


def _routing(plan: "Plan", tables: Sequence["ThroughputTable"], colours: Mapping[str, str]) -> str:
    inputs, outputs = _axes(plan, tables)
    cells: dict[tuple[int, int], dict[str, float]] = {}
    weights: dict[tuple[int, int], float] = {}
    for route in plan.routing:
        if route.input_tokens is None or route.output_tokens is None:
            continue
        at = (inputs.index(route.input_tokens), outputs.index(route.output_tokens))
        cells.setdefault(at, {})[route.type] = route.share
        weights[at] = weights.get(at, 0.0) + route.requests_per_s
    used = {name: colours[name] for name, count in sorted(plan.replicas.items()) if count}
    text = "The area of a cell is its share of the requests, its colours the types that serve it."
    drawing = svg.shares("Routing per bucket", _grid(inputs, outputs), cells, weights, colours)
    return page.paragraph(text, "soft") + page.legend(used) + drawing


def _routing_table(plan: "Plan") -> str:
    rows = [
        [route.bucket, route.type, f"{route.share:.1%}", f"{route.requests_per_s:.4g}"]
        for route in plan.routing
    ]
    return page.table(["bucket", "type", "share", "requests/s"], rows)


def _asked(workload: "Workload", plan: "Plan", tables: Sequence["ThroughputTable"]) -> str:
    blocks = []
    if tables:
        inputs, outputs = _axes(plan, tables)
        demand = workload.bucketize(inputs, outputs, out_of_range="extrapolate")
        share = demand.requests_per_s / demand.requests_per_s.sum()
        values = [[float(share[i, o]) for i in range(len(inputs))] for o in range(len(outputs))]
        labels = [[f"{v:.1%}" if v else "" for v in line] for line in values]
        drawn = svg.heatmap("Requests per bucket", _grid(inputs, outputs), values, labels)
        blocks.append(("share of requests per bucket", drawn))
    rows = []
    for name, axis in (("input tokens", "input_tokens"), ("output tokens", "output_tokens")):
        stats = workload.size_stats(axis)  # type: ignore[arg-type]
        figures = (stats.mean, stats.p50, stats.p90, stats.p99, stats.max)
        rows.append([name, *(f"{figure:,.0f}" for figure in figures)])
    blocks.append(("sizes", page.table(["", "mean", "p50", "p90", "p99", "max"], rows)))
    text = f"{workload.source}: {workload.request_rate:.4g} requests/s on average."
    width_s, rates = workload.rate_over_time()
    chart = ""
    if len(rates):
        points = [(i * width_s, float(rate)) for i, rate in enumerate(rates)]
        unit = f"requests/s over {format_duration(width_s * len(rates))}"
        chart = svg.line("Requests per second over time", points, unit)
    return page.paragraph(text, "soft") + page.side_by_side(blocks) + chart


def _rates(tables: Sequence["ThroughputTable"]) -> str:
    def label(cell: "Cell", rate: float | None) -> str:
        if cell.max_request_rate is None:
            return "–"
        mark = "≥" if cell.status == "client_limited" else ""
        return f"{mark}{cell.max_request_rate:.3g}"

    blocks = _heatmaps(tables, "requests/s", lambda t, c: c.max_request_rate, label)
    text = "0: no rate meets the SLO. –: not measured. ≥: a lower bound."
    return page.paragraph(text, "soft") + page.side_by_side(blocks)


def _costs(tables: Sequence["ThroughputTable"]) -> str:
    def cost(table: "ThroughputTable", cell: "Cell") -> float | None:
        price, rate = table.cost_usd_per_hour, cell.max_request_rate
        return price / 3.6 / rate if price and rate else None

    def label(cell: "Cell", value: float | None) -> str:
        return "–" if value is None else f"${value:.3g}"

    return page.side_by_side(_heatmaps(tables, "$ per 1,000 requests", cost, label))


def _heatmaps(
    tables: Sequence["ThroughputTable"],
    what: str,
    value_of: Callable[["ThroughputTable", "Cell"], float | None],
    label_of: Callable[["Cell", float | None], str],
) -> list[tuple[str, str]]:
    """Return a titled heatmap per table, all on one scale so that shades compare."""
    scale = svg.extremes(value_of(table, cell) for table in tables for cell in table.cells)
    blocks = []
    for table in tables:
        lines = [[table.cell(i, o) for i in table.input_tokens] for o in table.output_tokens]
        values = [[value_of(table, cell) for cell in line] for line in lines]
        labels = [[label_of(cell, value_of(table, cell)) for cell in line] for line in lines]
        grid = _grid(table.input_tokens, table.output_tokens)
        title = f"{table.target}: {what}"
        blocks.append((title, svg.heatmap(title, grid, values, labels, scale)))
    return blocks


def _basis(plan: "Plan") -> str:
    rows = [
        [
            str(entry["target"]),
            str(entry["source"]),
            str(entry["engine"]),
            str(entry["created"] or "–"),
            str(entry["digest"])[:19],
        ]
        for entry in plan.inputs.get("tables", ())
    ]
    header = ["table", "source", "engine", "created", "digest"]
    warnings = "".join(page.paragraph(warning, "soft") for warning in plan.warnings)
    files = [
        [str(entry["path"]), str(entry["format"]), str(entry["digest"])[:19]]
        for entry in (plan.inputs.get("workload"), plan.inputs.get("problem"))
        if entry
    ]
    return (
        (page.table(header, rows) if rows else "")
        + page.table(["file", "format", "digest"], files)
        + warnings
    )
