"""From what was asked for on a command line to the node, the mode and the layers of a mock."""

from collections.abc import Sequence
from dataclasses import dataclass

from mockfail import machine, scenarios, settings
from mockfail.binding import bind
from mockfail.errors import MockUsageError
from mockfail.layer import Layer
from mockfail.scenario import Scenario
from mockfail.state import Mode, Node

_DEFAULT_NODES = {"gpu": "h100x8", "npu": "910bx8"}


@dataclass(frozen=True)
class Plan:
    """A mock that could be started.

    Attributes:
        node: of the simulation; over real devices, what they are taken for.
        mode: resolved for this machine.
        layers: one for each scenario and setting, bound to the node.
    """

    node: str
    mode: Mode
    layers: tuple[Layer, ...]


def asked(names: Sequence[str], sets: Sequence[str], device: int | None = None) -> list[Scenario]:
    """Return the scenarios that names, files and settings mean.

    Args:
        names: of built-in scenarios, or files.
        sets: single readings, as :mod:`mockfail.settings` reads them.
        device: moves each scenario's faults to this GPU or NPU.

    Raises:
        UsageError: one of them is wrong.
    """
    found = [scenarios.load(name) for name in dict.fromkeys(names)]
    if device is not None:
        found = [scenario.moved_to(device) for scenario in found]
    return found + [settings.parse(text) for text in sets]


def plan(wanted: Sequence[Scenario], node: str | None = None, mode: Mode = "auto") -> Plan:
    """Return the mock that scenarios make on a node.

    Args:
        wanted: by :func:`asked`.
        node: to simulate; by default that of the scenarios, over real devices where there are any.
        mode: ``auto`` is an overlay where there are real devices and no node was asked for.

    Raises:
        UsageError: the node is wrong, or lacks what a scenario breaks; or the scenarios are
            written for different ones.
    """
    resolved = machine.resolve(mode, node_given=node is not None)
    spec = node or _node_of(wanted)
    healthy = machine.node(spec, resolved)
    return Plan(spec, resolved, bound(wanted, healthy, resolved))


def bound(wanted: Sequence[Scenario], healthy: Node, mode: Mode) -> tuple[Layer, ...]:
    """Return the layers of scenarios on a node; raises UsageError as :func:`plan` does."""
    return tuple(bind(scenario, healthy, mode=mode) for scenario in wanted)


def _node_of(wanted: Sequence[Scenario]) -> str:
    """Return the node that scenarios are written for; settings take a usual one."""
    given = list(dict.fromkeys(s.node for s in wanted if s.node))
    kinds = [s.accelerator for s in wanted if s.node]
    if len(given) > 1 and len(set(kinds)) != len(given):
        raise MockUsageError(
            "mock.nodes",
            f"the scenarios are written for different nodes: {', '.join(given)}",
            hint=f"choose one, e.g. --node {given[0]}",
        )
    if given:
        return ",".join(given)
    used = {fault.kind for scenario in wanted for fault in scenario.faults if fault.kind}
    return ",".join(spec for kind, spec in _DEFAULT_NODES.items() if kind in (used or {"gpu"}))
