"""``aibrixctl mock-fail list | show | properties``."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aibrixctl import choices
from aibrixctl.command import command
from aibrixctl.result import Result

if TYPE_CHECKING:
    from rich.console import Console

    from mockfail.scenario import Expected, Fault, Scenario


@command(
    "mock-fail list",
    examples=(
        ("aibrixctl mock-fail list", "the built-in scenarios"),
        ("aibrixctl mock-fail list --accelerator ascend -o csv", "those of NPUs"),
    ),
)
def list_(
    accelerator: Annotated[
        str | None,
        typer.Option(
            "--accelerator",
            metavar="nvidia|ascend",
            help="Only these.",
            autocompletion=choices.one_of("nvidia", "ascend"),
        ),
    ] = None,
) -> Result:
    """List the built-in scenarios, and what `diagnose` finds under each."""
    from accelerators.errors import UsageError
    from mockfail.scenarios import load, names

    if accelerator not in (None, "nvidia", "ascend"):
        raise UsageError(
            "option.accelerator", f"--accelerator is {accelerator!r}; expected nvidia or ascend"
        )
    found = [load(name) for name in names()]
    rows = [_row(s) for s in found if accelerator in (None, s.accelerator)]

    def view(console: "Console", wide: bool) -> None:
        from aibrixctl.render import table_of

        shown = [
            {"scenario": row["name"], "title": row["title"]}
            | ({"findings": ", ".join(row["findings"]), "node": row["node"]} if wide else {})
            for row in rows
        ]
        console.print(table_of(shown))

    return Result({"scenarios": rows}, rows=rows, record="scenario", view=view)


def _row(scenario: "Scenario") -> dict[str, Any]:
    return {
        "name": scenario.name,
        "title": scenario.title,
        "accelerator": scenario.accelerator,
        "node": scenario.node,
        "findings": [_expected(each) for each in scenario.expected or ()],
    }


def _expected(expected: "Expected") -> str:
    where = "" if expected.index is None else f" {expected.kind} {expected.index}"
    return f"{expected.code}{where}"


@command(
    "mock-fail show",
    examples=(
        ("aibrixctl mock-fail show gpu-lost-xid79", "what it breaks, and how it is found"),
        ("aibrixctl mock-fail show thermal-slowdown -o json", "with every reading it sets"),
    ),
)
def show(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME|FILE", help="The scenario.", autocompletion=choices.scenarios),
    ],
) -> Result:
    """Show a scenario: what it breaks, what that looks like in the field, what to do."""
    from mockfail.scenarios import load

    scenario = load(name)
    data = _row(scenario) | {
        "simulates": scenario.simulates,
        "signature": scenario.signature,
        "source": scenario.reference,
        "action": scenario.action,
        "combines": list(scenario.combines),
        "expected_at_s": scenario.expected_at_s,
        "faults": [_fault(fault) for fault in scenario.faults],
    }

    def view(console: "Console", wide: bool) -> None:
        _draw(console, scenario, data)

    return Result(data, rows=data["faults"], record="fault", view=view)


def _fault(fault: "Fault") -> dict[str, Any]:
    from mockfail.scenario import Relative

    where: list[int] | str = "all" if fault.devices == "all" else list(fault.devices)
    links: list[int] | str = "all" if fault.links == "all" else list(fault.links)
    return {
        "kind": fault.kind or "node",
        "devices": where,
        "links": links,
        "set": {
            key: asdict(value) if isinstance(value, Relative) else value
            for key, value in (fault.values or {}).items()
        },
        "call": list(fault.functions),
        "error": fault.error,
        "hang_ms": fault.hang_ms,
        "xid": list(fault.xids),
        "kernel_log": list(fault.log),
        "processes": None if fault.processes is None else [asdict(p) for p in fault.processes],
        "codes": [f"{code:08X}" for code in fault.codes],
        "when": asdict(fault.when),
    }


def _draw(console: "Console", scenario: "Scenario", data: dict[str, Any]) -> None:
    from rich.table import Table

    console.print(f"{scenario.title} ({scenario.name})", style="bold", highlight=False)
    lines = {
        "simulates": scenario.simulates,
        "in the field": scenario.signature,
        "source": scenario.reference,
        "found as": "\n".join(data["findings"]) or None,
        "what to do": scenario.action,
        "node": scenario.node,
        "combines": ", ".join(scenario.combines),
        "faults": "\n".join(_fault_line(fault) for fault in data["faults"]),
    }
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for label, text in lines.items():
        if text:
            table.add_row(label, text)
    console.print(table)


def _fault_line(fault: dict[str, Any]) -> str:
    which = fault["devices"] if fault["devices"] == "all" else ",".join(map(str, fault["devices"]))
    links = fault["links"] if fault["links"] == "all" else ",".join(map(str, fault["links"]))
    where = f"{fault['kind']} {which}".strip() + (f" link {links}" if links else "")
    parts = [f"{key} = {_value(value)}" for key, value in fault["set"].items()]
    happens = [f"error {fault['error']}"] if fault["error"] is not None else []
    happens += [f"hangs {fault['hang_ms'] / 1000:g} s"] if fault["hang_ms"] else []
    parts += [f"{call}: {', '.join(happens)}" for call in fault["call"]]
    parts += [f"XID {xid}" for xid in fault["xid"]] + [f"code {code}" for code in fault["codes"]]
    if fault["processes"] is not None:
        parts.append(f"{len(fault['processes'])} processes")
    parts += [f"log: {line}" for line in fault["kernel_log"]]
    return f"{where}{_when(fault['when'])}: " + ", ".join(parts)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        times = "" if value["times"] == 1 else f" × {value['times']:g}"
        plus = f" {value['plus']:+d}" if value["plus"] else ""
        return f"{value['of']}{times}{plus}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _when(when: dict[str, Any]) -> str:
    said = [
        f"from {when['start_s']:g} s on" if when["start_s"] else "",
        f"for {when['for_s']:g} s" if when["for_s"] is not None else "",
        f"over {when['ramp_s']:g} s" if when["ramp_s"] else "",
        f"after {when['after_calls']} calls" if when["after_calls"] else "",
        f"with probability {when['probability']:g}" if when["probability"] < 1 else "",
    ]
    text = ", ".join(part for part in said if part)
    return f" ({text})" if text else ""


@command(
    "mock-fail properties",
    examples=(
        ("aibrixctl mock-fail properties", "every reading that a fault can set"),
        ("aibrixctl mock-fail properties --scope npu -o csv", "those of NPUs"),
    ),
)
def properties(
    scope: Annotated[
        str | None,
        typer.Option(
            "--scope",
            metavar="node|gpu|link|npu",
            help="Only these.",
            autocompletion=choices.one_of("node", "gpu", "link", "npu"),
        ),
    ] = None,
) -> Result:
    """List the readings that --set and scenarios can set; a name carries its unit."""
    from accelerators.errors import UsageError
    from mockfail.properties import PROPERTIES

    if scope is not None and scope not in PROPERTIES:
        raise UsageError("option.scope", f"--scope is {scope!r}; expected node, gpu, link or npu")
    rows = [
        {"scope": each, "name": entry.name, "type": entry.type, "about": entry.about}
        for each, entries in PROPERTIES.items()
        if scope in (None, each)
        for entry in entries
    ]
    return Result({"properties": rows}, rows=rows, record="property")
