"""``aibrixctl accelerators``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aibrixctl import choices
from aibrixctl.command import command
from aibrixctl.result import Result
from aibrixctl.shared_options import OwnTypes

if TYPE_CHECKING:
    from rich.console import Console

    from accelerators.catalog import Accelerator


@command(
    "accelerators list",
    examples=(
        ("aibrixctl accelerators list", "every known type"),
        ("aibrixctl accelerators list -o csv", "the same for a spreadsheet, in base units"),
    ),
)
def list_(accelerators: OwnTypes = None) -> Result:
    """List the known GPU and NPU types.

    FLOP/s are dense; a price is public, on demand, for one accelerator, and "~" marks an estimate.
    """
    from accelerators.catalog import load_catalog

    types = list(load_catalog(accelerators).values())
    rows = [type_.to_json() for type_ in types]

    def view(console: "Console", wide: bool) -> None:
        from aibrixctl.render import table_of

        console.print(table_of([_summary(type_, wide=wide) for type_ in types]))

    return Result({"accelerators": rows}, rows=rows, record="accelerator", view=view)


def _summary(type_: "Accelerator", *, wide: bool) -> dict[str, Any]:
    rates = {
        f"{dtype} TFLOPS": None if rate is None else rate / 1e12
        for dtype, rate in ((d, type_.flops.get(d)) for d in ("fp16", "fp8", "int8"))
    }
    row = {
        "name": type_.name,
        "memory GiB": round(type_.memory_bytes / 2**30, 1),
        "GB/s": type_.memory_bandwidth_bytes_per_s / 1e9,
        **rates,
        "link GB/s": type_.link_bytes_per_s and type_.link_bytes_per_s / 1e9,
        "W": type_.power_w,
        "per hour": _price(type_),
    }
    if wide:
        pcie = type_.pcie_generation and f"{type_.pcie_generation}.0 x{type_.pcie_width}"
        row |= {
            "link": type_.link,
            "price date": type_.price_date,
            "PCIe": pcie,
            "title": type_.title,
        }
    return row


def _price(type_: "Accelerator") -> str | None:
    if type_.price_usd_per_hour is None:
        return None
    mark = "~" if type_.price_basis == "estimate" else ""
    return f"{mark}${type_.price_usd_per_hour:.2f}"


@command(
    "accelerators show",
    examples=(
        ("aibrixctl accelerators show a100-80g", "one type with its sources"),
        ("aibrixctl accelerators show 'NVIDIA A100-SXM4-80GB' -o json", "by its driver's name"),
    ),
)
def show_one(
    name: Annotated[
        str,
        typer.Argument(
            help="Any usual name: a10, A100-80GB, a driver's name.",
            autocompletion=choices.accelerators,
        ),
    ],
    accelerators: OwnTypes = None,
) -> Result:
    """Show one GPU or NPU type, and where each figure comes from."""
    from accelerators.catalog import load_catalog
    from accelerators.names import resolve

    type_ = resolve(name, load_catalog(accelerators))

    def view(console: "Console", wide: bool) -> None:
        from aibrixctl.render import table_of

        console.print(f"{type_.title} ({type_.name})", style="bold")
        console.print(table_of(_figures(type_)))

    return Result(type_.to_json(), view=view)


def _figures(type_: "Accelerator") -> list[dict[str, Any]]:
    from accelerators.units import format_bytes

    def rate(value: float | None, unit: float, name: str) -> str | None:
        return None if value is None else f"{value / unit:g} {name}"

    names = sorted({*type_.aliases, *type_.default_for})
    pcie = type_.pcie_generation and f"{type_.pcie_generation}.0 x{type_.pcie_width}"
    link = rate(type_.link_bytes_per_s, 1e9, "GB/s, both directions")
    price = _price(type_)
    figures = [
        ("memory", format_bytes(type_.memory_bytes), "memory"),
        (
            "memory bandwidth",
            rate(type_.memory_bandwidth_bytes_per_s, 1e9, "GB/s"),
            "memory_bandwidth",
        ),
        *(
            (f"{dtype}, dense", rate(type_.flops.get(dtype), 1e12, unit), "flops")
            for dtype, unit in (
                ("fp16", "TFLOP/s"),
                ("bf16", "TFLOP/s"),
                ("fp8", "TFLOP/s"),
                ("int8", "TOP/s"),
            )
        ),
        (type_.link or "link", link, "link"),
        ("PCIe", pcie, "pcie"),
        ("power", rate(type_.power_w, 1, "W"), "power"),
        ("price", price and f"{price}/h on {type_.price_date or 'no date'}", "price"),
        ("also named", ", ".join(names) or None, ""),
    ]
    return [
        {"figure": label, "value": value, "source": type_.sources.get(group) if value else None}
        for label, value, group in figures
    ]
