"""From measurements to findings: what a device of its type should reach, and what it did.

The limits are shares of the data sheet's figures, below what sound cards of every kind reach in
practice: a card at its power limit computes at half its peak, and memory copies reach three
fourths to nine tenths. A card that is slower than its like in the same node is told by them.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from accelerators.catalog import Accelerator, load_catalog
from accelerators.errors import UsageError
from accelerators.names import resolve
from diagnose.checks import Outcome, Sign, finding
from diagnose.explain import Overrides
from diagnose.findings import Device, Unchecked

COMPUTE_LEAST = {"large": 0.45, "small": 0.3}
"""Share of the dense peak; boards below 400 W spend their power before their tensor cores."""
LARGE_W = 400.0
MEMORY_LEAST = 0.6
HOST_LEAST = 0.4
PEER_LEAST = 0.5
OUTLIER = 0.85
"""Of the median of at least OUTLIER_PEERS devices of one type in the node."""
OUTLIER_PEERS = 4
# Bytes/s of one lane, one direction, after line coding (PCI Express base specification).
_LANE_BYTES_PER_S = {1: 0.25e9, 2: 0.5e9, 3: 0.985e9, 4: 1.969e9, 5: 3.938e9, 6: 7.563e9}
CHECKS = {
    "ACTIVE-COMPUTE-ERROR": "active-compute",
    "ACTIVE-SLOW-COMPUTE": "active-compute",
    "ACTIVE-MEMORY-ERROR": "active-memory",
    "ACTIVE-SLOW-MEMORY": "active-memory",
    "ACTIVE-LINK-ERROR": "active-links",
    "ACTIVE-SLOW-HOST-LINK": "active-links",
    "ACTIVE-SLOW-PEER": "active-links",
    "ACTIVE-DRIVER-ERROR": "active-driver",
    "ACTIVE-CRASH": "active-driver",
    "ACTIVE-HANG": "active-driver",
}
"""The check that gives each code."""
ABOUT = {
    "active-compute": "Matrix products are right in every element, and as fast as they should be.",
    "active-memory": "Device memory holds what is written, and copies at its bandwidth.",
    "active-links": "Copies to the host and between devices arrive unchanged and in time.",
    "active-driver": "The driver gets through all this.",
}
"""Each check in a line."""


@dataclass(frozen=True)
class Trial:
    """What a child said of one device, or of the ways between several.

    Attributes:
        about: what torch says the device is.
        messages: in order.
        end: ``done``, ``hung``, ``stopped``, or how the process died.
    """

    about: Mapping[str, Any]
    messages: Sequence[Mapping[str, Any]]
    end: str

    @cached_property
    def device(self) -> Device:
        """What findings name; the index is the driver's where that is known."""
        seen = self._last("seen") or {}
        if self.about["index"] is None:
            return Device("node", name=self.about["name"])
        return Device(
            "npu" if self.about["kind"] == "npu" else "gpu",
            seen.get("index", self.about["index"]),
            self.about["name"],
            self.about.get("uuid"),
            seen.get("pci_bus_id", self.about.get("pci_bus_id")),
            seen.get("serial"),
        )

    @property
    def busy(self) -> str | None:
        """Why the device was left alone."""
        reason: str | None = self._last("busy")
        return reason

    @property
    def usable(self) -> bool:
        """Whether it was tested to the end."""
        return self.end == "done" and self.busy is None and not self.failures("driver")

    @property
    def measured(self) -> dict[str, dict[str, Any]]:
        """Each test that ended, with its figures."""
        return {
            said["measured"]: {key: value for key, value in said.items() if key != "measured"}
            for said in self.messages
            if "measured" in said
        }

    def failures(self, kind: str) -> list[Mapping[str, Any]]:
        """Return the tests that failed in one way."""
        return [said for said in self.messages if "failed" in said and said["kind"] == kind]

    @property
    def testing(self) -> str:
        """The test that was begun last."""
        return self._last("testing") or "start"

    @property
    def link(self) -> Mapping[str, Any]:
        """What NVML says of the host link."""
        return self._last("seen") or {}

    def _last(self, key: str) -> Any:
        """Return what was said last under a key."""
        return next((said[key] for said in reversed(self.messages) if key in said), None)


def judge(
    tested: Sequence[Trial], peers: Trial | None, overrides: Overrides
) -> tuple[Outcome, dict[str, Any]]:
    """Return findings, what was not checked, and the facts with the fractions reached."""
    outcome = Outcome()
    figures = [figures_of(one) for one in tested]
    fractions = [_fractions(one, figure) for one, figure in zip(tested, figures, strict=True)]
    medians = _medians(tested)
    for one, figure, reached in zip(tested, figures, fractions, strict=True):
        items = [*_troubles(one), *_errors(one), *_slow(one, figure, reached, medians)]
        _add(outcome, one, items, overrides)
    if peers is not None:
        _add(outcome, peers, [*_troubles(peers), *_peer_signs(peers, figures[0])], overrides)
    facts = {
        "devices": [
            {
                **vars(one.device),
                "accelerator": None if figure is None else figure.name,
                "measured": one.measured,
                "fractions": reached,
            }
            for one, figure, reached in zip(tested, figures, fractions, strict=True)
        ],
        "peers": {} if peers is None else peers.measured,
    }
    return outcome, facts


def _add(outcome: Outcome, one: Trial, items: list[Sign | Unchecked], overrides: Overrides) -> None:
    for item in items:
        if isinstance(item, Unchecked):
            outcome.unchecked.append(item)
        else:
            device = item.device or one.device
            outcome.findings.append(finding(item, CHECKS[item.code], device, overrides))
    outcome.passed += max(0, len(one.measured) - len(items))


def figures_of(one: Trial) -> Accelerator | None:
    """Return what a device of that name should do; None where no catalogue says."""
    if one.device.kind == "node" or not one.about["name"]:
        return None
    try:
        return resolve(one.about["name"], load_catalog())
    except UsageError:
        return None


def _troubles(one: Trial) -> Iterator[Sign | Unchecked]:
    """Yield why tests did not come to their end."""
    if one.busy is not None:
        yield _not_run(one, f"{one.busy}; the active tests need the device to themselves")
    for failure in one.failures("driver"):
        yield Sign("ACTIVE-DRIVER-ERROR", {"test": failure["failed"], "error": failure["text"]})
    for kind in ("out_of_memory", "host", "error"):
        for failure in one.failures(kind):
            yield _not_run(one, f"{failure['failed']}: {failure['text']}")
    if one.end == "hung":
        yield Sign("ACTIVE-HANG", {"test": one.testing})
    elif one.end not in ("done", "stopped"):
        yield Sign("ACTIVE-CRASH", {"test": one.testing, "end": one.end})


def _not_run(one: Trial, reason: str, *, skipped: bool = False) -> Unchecked:
    return Unchecked("active", one.device, reason, skipped)


def _errors(one: Trial) -> Iterator[Sign]:
    """Yield what came out wrong."""
    products = {n: m for n, m in one.measured.items() if n.startswith("products ")}
    rates = {n: m for n, m in one.measured.items() if n.startswith("rate ")}
    wrong = [m for m in products.values() if m["wrong_products"]]
    changing = [m["dtype"] for m in rates.values() if not m["repeats"]]
    if wrong or changing:
        yield Sign(
            "ACTIVE-COMPUTE-ERROR",
            {
                "dtypes": sorted({*(m["dtype"] for m in wrong), *changing}),
                "products": sum(m["products"] for m in products.values()),
                "wrong_products": sum(m["wrong_products"] for m in wrong),
                "wrong_elements": sum(m["wrong_elements"] for m in wrong),
                "first_wrong": next((m["first_wrong"] for m in wrong), None),
                "dtypes_not_repeatable": changing,
            },
        )
    cells = one.measured.get("memory patterns")
    if cells and cells["wrong_words"]:
        evidence = {key: cells[key] for key in ("wrong_words", "first_wrong", "tested_bytes")}
        yield Sign("ACTIVE-MEMORY-ERROR", evidence)
    host = one.measured.get("host link")
    if host and host["wrong_words"]:
        yield Sign("ACTIVE-LINK-ERROR", {"link": "host", "wrong_words": host["wrong_words"]})


def _fractions(one: Trial, figure: Accelerator | None) -> dict[str, float]:
    """Return the share of each figure that the device reached, by the name of the speed."""
    reached: dict[str, float] = {}
    if figure is None:
        return reached
    for speed, value in _speeds(one).items():
        if speed == "memory":
            reached[speed] = value / figure.memory_bandwidth_bytes_per_s
        elif speed == "host":
            best = _host_best(one, figure)
            if best is not None:
                reached[speed] = value / best
        elif speed in figure.flops:
            reached[speed] = value / figure.flops[speed]
    return {speed: round(share, 3) for speed, share in reached.items()}


def _speeds(one: Trial) -> dict[str, float]:
    """Return what was measured by name: a dtype in operations/s, memory and host in bytes/s."""
    speeds: dict[str, float] = {}
    for name, measured in one.measured.items():
        if name.startswith("rate "):
            speeds[measured["dtype"]] = measured["flops_per_s"]
        elif name == "memory bandwidth":
            speeds["memory"] = measured["bytes_per_s"]
        elif name == "host link":
            speeds["host"] = min(measured["to_device_bytes_per_s"], measured["to_host_bytes_per_s"])
    return speeds


def _host_best(one: Trial, figure: Accelerator) -> float | None:
    """Return the best bytes/s of the host link, one direction: of the card in this slot."""
    generation = one.link.get("pcie_generation_max") or figure.pcie_generation
    width = one.link.get("pcie_width_max") or figure.pcie_width
    lane = _LANE_BYTES_PER_S.get(generation or 0)
    return lane * width if lane and width else None


def _least(speed: str, figure: Accelerator) -> float:
    if speed == "memory":
        return MEMORY_LEAST
    if speed == "host":
        return HOST_LEAST
    return COMPUTE_LEAST["large" if (figure.power_w or 0) >= LARGE_W else "small"]


def _medians(tested: Sequence[Trial]) -> dict[tuple[str, str], float]:
    """Return the median of each speed over the devices of one name, where they are enough."""
    found: dict[tuple[str, str], list[float]] = {}
    for one in tested:
        for speed, value in _speeds(one).items():
            found.setdefault((one.about["name"], speed), []).append(value)
    enough = {key: values for key, values in found.items() if len(values) >= OUTLIER_PEERS}
    return {key: statistics.median(values) for key, values in enough.items()}


def _slow(
    one: Trial,
    figure: Accelerator | None,
    reached: Mapping[str, float],
    medians: Mapping[tuple[str, str], float],
) -> Iterator[Sign | Unchecked]:
    """Yield one sign for each of compute, memory and host link that is slower than it should be."""
    slow: dict[str, dict[str, Any]] = {}
    for speed, value in _speeds(one).items():
        median = medians.get((one.about["name"], speed))
        low = figure is not None and speed in reached and reached[speed] < _least(speed, figure)
        behind = median is not None and value < OUTLIER * median
        if low or behind:
            unit = "bytes_per_s" if speed in ("memory", "host") else "flops_per_s"
            evidence: dict[str, Any] = {f"{speed}_{unit}": round(value)}
            if speed in reached:
                evidence[f"{speed}_fraction"] = reached[speed]
            if behind and median is not None:
                evidence[f"{speed}_share_of_median"] = round(value / median, 3)
            slow.setdefault(_SLOW.get(speed, "ACTIVE-SLOW-COMPUTE"), {}).update(evidence)
    yield from (Sign(code, evidence) for code, evidence in slow.items())
    if figure is None and one.device.kind != "node" and _speeds(one):
        reason = f"no figures for {one.about['name']!r}: its speed was measured, not judged"
        yield _not_run(one, reason, skipped=True)


_SLOW = {"memory": "ACTIVE-SLOW-MEMORY", "host": "ACTIVE-SLOW-HOST-LINK"}


def _peer_signs(peers: Trial, figure: Accelerator | None) -> Iterator[Sign | Unchecked]:
    """Yield the ways that changed data, and those slower than a switched link should be."""
    for name, measured in peers.measured.items():
        way = name.removeprefix("peer ")
        if measured["wrong_words"]:
            yield Sign("ACTIVE-LINK-ERROR", {"link": way, "wrong_words": measured["wrong_words"]})
        best = _switched_bytes_per_s(figure)
        if best is None or not measured["direct"]:
            continue
        if measured["bytes_per_s"] < PEER_LEAST * best:
            fraction = round(measured["bytes_per_s"] / best, 3)
            rate = round(measured["bytes_per_s"])
            yield Sign("ACTIVE-SLOW-PEER", {"link": way, "bytes_per_s": rate, "fraction": fraction})


def _switched_bytes_per_s(figure: Accelerator | None) -> float | None:
    """Return one direction of a link that joins every two devices at full rate; else None.

    From NVLink 3 on switches do; before, and with bridges, pairs differ by how they are wired.
    """
    name = (figure.link or "") if figure else ""
    switched = name.startswith("NVLink") and "bridge" not in name and name != "NVLink 2"
    if figure is None or not switched or figure.link_bytes_per_s is None:
        return None
    return figure.link_bytes_per_s / 2
