"""Clients under faults, as a table: python -m tests.mockfail.client_table --write.

A mark is only written once a run of the unmodified client under the scenario has shown it.
"""

import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mockfail import scenarios
from mockfail.binding import bind
from mockfail.layer import Layer, merge
from mockfail.nodes import node
from mockfail.state import State, Value
from tests.mockfail.client_outputs import Readings
from tests.mockfail.client_readings import pattern
from tests.mockfail.obtain import UnobtainableError
from tests.mockfail.programs import ROOT, MockFolder
from tests.mockfail.real_clients import CLIENTS, Client

PAGE = ROOT / "docs" / "clients.md"
SEEN, NO_READING = "✓", "–"
_OF_ALL = ("hidden", "lost", "reset_required")  # a client may stop at one device, or count anew

# By scenario, the properties in which the fault itself shows; what else it sets, such as the load
# without which it would not matter, does not count as having seen it.
FAULTS = {
    "driver-not-loaded": ["init_error"],
    "driver-library-mismatch": ["init_error"],
    "no-permission": ["init_error"],
    "gpu-lost": ["lost"],
    "gpu-requires-reset": ["reset_required"],
    "gpu-missing": ["hidden"],
    "cuda-mismatch": ["driver_version", "cuda_version"],
    "ecc-uncorrectable": ["ecc_uncorrected_volatile_dram"],
    "ecc-uncorrectable-aggregate": ["ecc_uncorrected_aggregate_dram"],
    "ecc-sram": ["ecc_uncorrected_volatile_sram"],
    "ecc-correctable-storm": ["ecc_corrected_volatile_dram"],
    "ecc-mode-drift": ["ecc_mode_current"],
    "ecc-mode-pending": ["ecc_mode_pending"],
    "row-remap-pending": ["remap_pending"],
    "row-remap-failure": ["remap_failure"],
    "row-remap-exhausted": ["remap_banks_none"],
    "retired-pages-sbe": ["retired_pages_sbe"],
    "retired-pages-dbe": ["retired_pages_dbe"],
    "retired-pages-pending": ["retired_pages_pending"],
    "pcie-width-degraded": ["pcie_width_current"],
    "pcie-generation-degraded": ["pcie_generation_current"],
    "pcie-replays": ["pcie_replays"],
    "nvlink-down": ["link active"],
    "nvlink-errors": ["link replay_errors", "link crc_flit_errors"],
    "fabric-not-ready": ["fabric_state"],
    "temperature-high": ["temperature_c"],
    "thermal-slowdown": ["throttle_hw_thermal", "temperature_c"],
    "power-brake": ["throttle_power_brake"],
    "hw-slowdown": ["throttle_hw_slowdown"],
    "power-cap": ["throttle_power_cap"],
    "clocks-stuck-low": ["clock_sm_mhz"],
    "fan-failure": ["fan_speed_percent"],
    "memory-leak": ["memory_used_bytes"],
    "zombie-process": ["pid"],
    "inforom-corrupted": ["inforom_valid"],
    "persistence-off": ["persistence_mode"],
    "mig-drift": ["mig_mode_current"],
    "recovery-action": ["recovery_action"],
    "xid-74": ["xid"],
    "ascend-driver-init": ["dcmi_init_error"],
    "ascend-npu-missing": ["hidden"],
    "ascend-npu-lost": ["lost"],
    "ascend-over-temperature": ["temperature_c"],
    "ascend-hbm-multi-bit-ecc": ["health"],
}


@dataclass(frozen=True)
class Wanted:
    """A property that a scenario sets."""

    name: str
    value: Value
    device: int | None
    link: int | None = None


def bound(name: str) -> tuple[str, Layer]:
    """Return the node that a scenario is shown on, and what it does to it."""
    scenario = scenarios.load(name)
    assert scenario.node
    return scenario.node, bind(scenario, node(scenario.node))


def state_of(spec: str, layers: Sequence[Layer] = ()) -> State:
    """Return the state of a simulated node under layers."""
    return merge(node(spec), layers, 0.0, mode="standalone")


def wanted(layer: Layer) -> Iterator[Wanted]:
    """Yield the properties that a bound scenario sets, those of processes and events included."""
    for o in layer.overrides:
        name = f"link {o.name}" if o.scope == "link" else o.name
        yield Wanted(name, o.value, None if o.scope == "node" else o.index, o.link)
    for listing in layer.processes:
        for process in listing.processes:
            yield Wanted("pid", process.pid, listing.gpu)
    for event in layer.events:
        yield Wanted("xid", event.data, event.gpu)


def changed(before: Readings, after: Readings) -> list[str]:
    """Return the readings that differ, as ``place: text``."""
    places = [place for place in {**before, **after} if before.get(place) != after.get(place)]
    return [f"{place}: {after.get(place, 'absent')}" for place in places]


def telling(name: str, layer: Layer) -> list[Wanted]:
    """Return the properties in which a scenario's fault shows."""
    found = [want for want in wanted(layer) if want.name in FAULTS[name]]
    assert found, f"{name} sets none of {FAULTS[name]}"
    return found


def looked_for(client: str, name: str, layer: Layer) -> list[tuple[Wanted, re.Pattern[str]]]:
    """Return what a client must show under a scenario; empty when it has no reading for it."""
    patterns = [(w, pattern(client, w.name, w.value, w.link)) for w in telling(name, layer)]
    return [(want, words) for want, words in patterns if words is not None]


def problems(client: str, name: str, layer: Layer, lines: list[str]) -> list[str]:
    """Return what a client should have shown under a scenario and didn't, and the other way."""
    found = []
    for want, words in looked_for(client, name, layer):
        whole = want.device is None or want.name in _OF_ALL
        own = [line for line in lines if whole or _may_be_of(want.device, line)]
        if not any(words.search(line) for line in own):
            found.append(f"{client}, {name}: no {words.pattern!r} in {own[:20]}")
    return found + _spilled(client, name, telling(name, layer), lines)


def _spilled(client: str, name: str, wants: list[Wanted], lines: list[str]) -> list[str]:
    """Return what a fault of some devices has changed on others."""
    devices = {want.device for want in wants}
    if None in devices or wants[0].name in _OF_ALL:
        return []
    others = [x for x in lines if not any(_may_be_of(device, x) for device in devices)]
    return [f"{client}, {name}: changes elsewhere too: {others}"] if others else []


def _may_be_of(device: int | None, line: str) -> bool:
    return not line.startswith("GPU ") or line.split()[1].rstrip(":") == str(device)


def observe(client: Client, folder: Path, names: Sequence[str]) -> list[str]:
    """Run a client under scenarios one after another, then healthy again; return what was wrong."""
    wrong: list[str] = []
    healthy: dict[str, Readings] = {}
    folder.mkdir()
    with client.under(MockFolder(folder)) as session:
        for name in names:
            spec, layer = bound(name)
            if spec not in healthy:
                healthy[spec] = session.show(state_of(spec))
            lines = changed(healthy[spec], session.show(state_of(spec, [layer])))
            wrong += problems(client.name, name, layer, lines)
        for spec, before in healthy.items():
            if lines := changed(before, session.show(state_of(spec))):
                wrong.append(f"{client.name}: not healthy again on {spec}: {lines}")
    return wrong


def marks_of(client: Client) -> dict[str, str]:
    """Return a client's marks by scenario, of those that are of an accelerator it knows."""
    known = [name for name in FAULTS if scenarios.load(name).accelerator in client.accelerators]
    return {
        name: SEEN if looked_for(client.name, name, bound(name)[1]) else NO_READING
        for name in known
    }


def wrong_of(client: Client, folder: Path) -> list[str]:
    """Run a client under every scenario that it is marked to see; return what was wrong.

    Raises:
        UnobtainableError: the client can't be had here.
    """
    client.obtain()
    names = [name for name, mark in marks_of(client).items() if mark == SEEN]
    mocks = client.mocks_at_a_time
    shares = [names[start::mocks] for start in range(mocks)]
    folders = [folder / str(number) for number in range(mocks)]
    with ThreadPoolExecutor(mocks) as pool:
        parts = pool.map(observe, [client] * mocks, folders, shares)
        return [problem for part in parts for problem in part]


def page() -> str:
    """Return docs/clients.md."""
    reach = [f"| {c.name} | {c.origin} | {c.reaches} |" for c in CLIENTS]
    marks = {client.name: marks_of(client) for client in CLIENTS}
    return _PAGE.format(
        gpus=_table(marks, "nvidia"),
        npus=_table(marks, "ascend"),
        reach="\n".join(reach),
        seen=sum(mark == SEEN for row in marks.values() for mark in row.values()),
        clients=len(marks),
        faults=len(FAULTS),
    )


def _table(marks: dict[str, dict[str, str]], accelerator: str) -> str:
    """Return the faults of an accelerator against the clients that know it."""
    names = [name for name in FAULTS if scenarios.load(name).accelerator == accelerator]
    known = {client: row for client, row in marks.items() if names[0] in row}
    lines = [
        f"| {name} | " + " | ".join(row[name] for row in known.values()) + " |" for name in names
    ]
    heading = ["| fault | " + " | ".join(known) + " |", "|---|" + ":-:|" * len(known)]
    return "\n".join(heading + lines)


_PAGE = """\
# Faults in the eyes of unmodified clients

Each row is a scenario (`aibrixctl mock-fail show NAME`), each column a program that knows \
nothing of mocks. {clients} clients, {faults} faults, {seen} times seen:

- ✓: under the scenario, the client shows the fault itself, with the scenario's value, on the \
device that has it and on no other; when it is cleared, the client says what it said before.
- –: the client has no reading in which the fault could show.

## GPUs

{gpus}

## NPUs

{npus}

## The clients

| client | from | how it reaches the driver's library |
|---|---|---|
{reach}

nvtop and nvitop-exporter keep running while the faults come and go, except for faults of the \
start; the others run anew under each. lstopo gives up on a lost GPU by an assertion of its own, \
as it would on a real one.

Made by `python -m tests.mockfail.client_table --write` from runs of the clients; \
`tests/mockfail/test_clients.py` runs them again and compares. What each must show of a property \
stands in `tests/mockfail/client_readings.py`.
"""


def main() -> int:
    """Run every client, and when all show what they should, print or write the page."""
    wrong: list[str] = []
    for client in CLIENTS:
        with tempfile.TemporaryDirectory() as folder:
            try:
                wrong += wrong_of(client, Path(folder))
            except UnobtainableError as error:
                wrong.append(str(error))
    if wrong:
        print(*wrong, sep="\n", file=sys.stderr)
        return 1
    if "--write" in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        print(page(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
