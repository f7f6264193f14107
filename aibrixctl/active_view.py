"""Draw what the active tests measured, and the share of what the type should reach."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

CPU_ONLY = "the active tests ran on the CPU: nothing is said of any accelerator"


def on_cpu(active: Mapping[str, Any]) -> bool:
    """Tell whether the CPU stood in for an accelerator."""
    devices = active.get("devices") or ()
    return bool(devices) and all(each["kind"] == "node" for each in devices)


def draw_active(console: "Console", active: Mapping[str, Any]) -> None:
    """Print a row for each test of each device, and the slowest way between two."""
    from aibrixctl.render import table_of

    rows = [row for device in active.get("devices") or () for row in _rows(device)]
    rows += _peers(active.get("peers") or {})
    if rows:
        console.print(f"\nActive tests, {active['level']}", style="bold")
        console.print(table_of(rows))
    if on_cpu(active):
        console.print(CPU_ONLY[0].upper() + CPU_ONLY[1:], style="yellow")


def _rows(device: Mapping[str, Any]) -> list[dict[str, Any]]:
    index = "" if device["index"] is None else f" {device['index']}"
    kind = device["name"] if device["kind"] == "node" else device["kind"].upper()
    rows = []
    for test, measured in device["measured"].items():
        result, speed = _result(test, measured)
        share = device["fractions"].get(speed)
        of_figure = None if share is None else f"{share:.0%}"
        rows.append({"": f"{kind}{index}", "test": test, "result": result, "of figure": of_figure})
    return rows


def _result(test: str, measured: Mapping[str, Any]) -> tuple[str, str]:
    """Return a test's outcome in words, and the name of the speed that it measured."""
    if test.startswith("products "):
        wrong = measured["wrong_products"]
        return f"{measured['products']} products, {_verdict(wrong)}", ""
    if test.startswith("rate "):
        changes = "" if measured["repeats"] else ", DOES NOT REPEAT"
        return f"{measured['flops_per_s'] / 1e12:.4g} TFLOP/s{changes}", measured["dtype"]
    if test == "memory patterns":
        tested = f"{measured['tested_bytes'] / 2**30:.3g} GiB"
        return f"{tested}, {_rounds(measured['rounds'])}, {_verdict(measured['wrong_words'])}", ""
    if test == "host link":
        there, back = measured["to_device_bytes_per_s"], measured["to_host_bytes_per_s"]
        wrong = _verdict(measured["wrong_words"])
        return f"{there / 1e9:.4g} GB/s there, {back / 1e9:.4g} back, {wrong}", "host"
    return f"{measured['bytes_per_s'] / 1e9:.4g} GB/s", "memory"


def _rounds(number: int) -> str:
    return f"{number} round{'s' if number != 1 else ''}"


def _verdict(wrong: int) -> str:
    return f"{wrong:,} WRONG" if wrong else "all right"


def _peers(peers: Mapping[str, Mapping[str, Any]]) -> Sequence[dict[str, Any]]:
    if not peers:
        return []
    slowest, measured = min(peers.items(), key=lambda item: float(item[1]["bytes_per_s"]))
    wrong = sum(each["wrong_words"] for each in peers.values())
    result = (
        f"{len(peers)} ways, {_verdict(wrong)}; the slowest {slowest.removeprefix('peer ')} with "
        f"{measured['bytes_per_s'] / 1e9:.4g} GB/s"
    )
    return [{"": "peers", "test": "peers", "result": result, "of figure": None}]
