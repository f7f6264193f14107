"""What is wrong with the nodes and slots of placement metadata.

Clients read every range as ``range(start, end + 1)``, sort all slots, and look a key up by its
hash modulo the number of slots that they read. Source: aibrix-kvcache 0.8.0,
``l2/placement/placement.py`` and ``simple_placement.py``.
"""

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from accelerators.hazards import Hazard
from kvpool.doctor import hazards
from kvpool.doctor.finding import MOST_EXAMPLES, Finding
from kvpool.doctor.probe import Probe
from kvpool.entry import Node

_ORDINAL = re.compile(r"-\d+$", re.ASCII)


@dataclass(frozen=True)
class Snapshot:
    """The metadata at one moment of a watch."""

    version: object
    nodes: tuple[Node, ...]

    @property
    def names(self) -> frozenset[str]:
        """Return the names, or addresses, of its nodes."""
        return frozenset(node.name or node.address for node in self.nodes)


def slot_findings(nodes: Sequence[Node], total: int) -> Iterator[Finding]:
    """Yield where slots are missing, held twice, outside, or in a range that runs backwards."""
    owners: dict[int, list[str]] = defaultdict(list)
    outside: list[str] = []
    wrapped: list[str] = []
    for node in nodes:
        for start, end in node.slots:
            if start > end:
                wrapped.append(f"{_name(node)} has {start}-{end}")
                continue
            if start < 0 or end >= total:
                outside.append(f"{_name(node)} has {start}-{end}")
            for slot in range(max(0, start), min(end, total - 1) + 1):
                owners[slot].append(_name(node))
    if wrapped:
        yield _of(hazards.WRAPPED, wrapped)
    if outside:
        yield _of(hazards.SLOTS_OUTSIDE, outside)
    missing = [slot for slot in range(total) if slot not in owners] if nodes else []
    if missing:
        yield _of(hazards.SLOTS_MISSING, map(_span, _runs(missing)), len(missing))
    twice = {slot: names for slot, names in sorted(owners.items()) if len(names) > 1}
    if twice:
        yield _of(hazards.SLOTS_TWICE, _shared(twice), len(twice))


def node_findings(nodes: Sequence[Node]) -> Iterator[Finding]:
    """Yield where there are no nodes, idle ones, or two that are one."""
    if not nodes:
        yield Finding(hazards.NO_NODES, ("its list of nodes is empty",), 0)
        return
    idle = [node for node in nodes if not node.slots]
    if idle:
        yield _of(hazards.IDLE_NODE, [f"{_name(node)} at {node.address}" for node in idle])
    lines = []
    groups: dict[tuple[str, str], list[Node]] = defaultdict(list)
    for node in nodes:
        groups["address", node.address].append(node)
        groups["name", node.name].append(node)
    for (what, text), group in sorted(groups.items()):
        if text and len(group) > 1:
            those = ", ".join(f"{_name(node)} at {node.address}" for node in group)
            lines.append(f"{what} {text}: {those}")
    if lines:
        yield _of(hazards.SAME_ADDRESS, lines)


def owner_findings(snapshots: Sequence[Snapshot]) -> Iterator[Finding]:
    """Yield signs that two clusters write one key: two families of pods, or nodes that change.

    Args:
        snapshots: of a watch, each different from the one before; at least one.
    """
    lines = []
    families = {_ORDINAL.sub("", node.name) for node in snapshots[-1].nodes if node.name}
    if len(families) > 1:
        lines.append(f"pods of {' and '.join(sorted(families))} stand in one document")
    for before, after in itertools.pairwise(snapshots):
        if before.names and after.names and not before.names & after.names:
            lines.append(
                f"while watched, {_few(sorted(before.names))} were replaced by "
                f"{_few(sorted(after.names))}"
            )
        if _went_back(before.version, after.version):
            lines.append(f"while watched, version {before.version} was followed by {after.version}")
    if lines:
        yield _of(hazards.TWO_POOLS, lines)


def address_findings(probes: Sequence[Probe]) -> Iterator[Finding]:
    """Yield the nodes that do not answer; the caller has made sure that this can be told."""
    dead = [probe for probe in probes if probe.error]
    if dead:
        lines = [f"{_name(probe.node)} at {probe.node.address}: {probe.error}" for probe in dead]
        yield _of(hazards.STALE_ADDRESS, lines)


def _went_back(before: object, after: object) -> bool:
    return isinstance(before, int) and isinstance(after, int) and after < before


def _of(hazard: Hazard, lines: Iterable[str], count: int | None = None) -> Finding:
    found = list(lines)
    shown = found[:MOST_EXAMPLES]
    if len(found) > len(shown):
        shown.append(f"and {len(found) - len(shown):,} more")
    return Finding(hazard, tuple(shown), len(found) if count is None else count)


def _name(node: Node) -> str:
    return node.name or node.address


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _runs(slots: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last of every run of neighbours; the slots must be sorted."""
    start = last = None
    for slot in slots:
        if start is None or last is None or slot != last + 1:
            if start is not None and last is not None:
                yield start, last
            start = slot
        last = slot
    if start is not None and last is not None:
        yield start, last


def _span(run: tuple[int, int]) -> str:
    return f"{run[0]}" if run[0] == run[1] else f"{run[0]}-{run[1]}"


def _shared(twice: dict[int, list[str]]) -> list[str]:
    by_owners: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for slot, names in twice.items():
        by_owners[tuple(names)].append(slot)
    return [
        f"{', '.join(map(_span, _runs(slots)))}: {' and '.join(names)}"
        for names, slots in by_owners.items()
    ]
