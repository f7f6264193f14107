"""The checks of a pool in a cluster: each looks at the pods and the slot map together."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from accelerators.hazards import Hazard, Unchecked
from kvpool.doctor.finding import MOST_EXAMPLES, Finding
from kvpool.entry import Node
from kvpool.k8s import hazards
from kvpool.k8s.pods import PoolPod, Role
from kvpool.k8s.resources import MAP_KEYS, CachePool
from kvpool.k8s.slot_map import Join, join

Need = Literal["map", "redis", "watcher", "own_metadata", "neighbours"]
"""What a check needs to know. ``redis``: what is under the map's key, be it nothing; ``map``: its
nodes; ``neighbours``: the pools and pods of every namespace."""


@dataclass(frozen=True)
class Look:
    """What is known of a pool and its surroundings.

    Attributes:
        pool: with its pods.
        nodes: of its slot map.
        no_map: why there is none, where Redis was reached.
        neighbours: other pools.
        strangers: cache pods of other pools.
        health: what is said of a node's accelerators, by its name.
        lacking: why something that applies is not known.
    """

    pool: CachePool
    nodes: tuple[Node, ...] = ()
    no_map: str = ""
    neighbours: tuple[CachePool, ...] = ()
    strangers: tuple[PoolPod, ...] = ()
    health: Mapping[str, str] = field(default_factory=dict)
    lacking: Mapping[Need, str] = field(default_factory=dict)

    @property
    def joined(self) -> Join:
        """Return the nodes of the map by pod."""
        return join(self.pool, self.nodes, self.strangers)

    def obstacle(self, need: Need) -> tuple[str, bool]:
        """Return why something can't be looked at, and whether it should be; empty: it can."""
        pool = self.pool
        if need in ("map", "redis", "watcher", "neighbours") and pool.backend not in MAP_KEYS:
            return f"{pool.backend} keeps no slot map", False
        if need == "own_metadata" and not pool.wanted["metadata"]:
            return "its metadata is kept outside of it", False
        if need in self.lacking:
            return self.lacking[need], True
        if need == "map" and self.no_map:
            return "there is no map", False
        return "", True


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        hazard: what it may find.
        needs: what it must know.
        run: yields a line for each place where the hazard is.
        count: of what it is about, where that is not the number of lines.
    """

    hazard: Hazard
    needs: tuple[Need, ...]
    run: Callable[[Look], Iterator[str]]
    count: Callable[[Look], int] | None = None


def judge(look: Look) -> tuple[list[Finding], list[str], list[Unchecked]]:
    """Return what the checks find, the codes of those that find nothing, and those left open."""
    findings, passed, unchecked = [], [], []
    for check in CHECKS:
        code = check.hazard.code
        reason, applies = next((o for o in map(look.obstacle, check.needs) if o[0]), ("", True))
        lines = list(check.run(look)) if applies else []
        if lines:  # What is known may be enough, even where something is not.
            count = check.count(look) if check.count else len(lines)
            findings.append(Finding(check.hazard, _shown(lines), count))
        elif reason:
            unchecked.append(Unchecked(code, reason, applies))
        else:
            passed.append(code)
    return findings, passed, unchecked


def _no_map(look: Look) -> Iterator[str]:
    if look.no_map:
        yield look.no_map


def _stale(look: Look) -> Iterator[str]:
    blind = "neighbours" in look.lacking
    nobody = "no pod of that name runs" + (" in this namespace" if blind else "")
    for node, namesake in look.joined.stale:
        where = f"that pod is at {_at(look, namesake)}" if namesake else nobody
        yield f"{node.name} at {node.address} has {_slots(node)}; {where}"


def _unmapped(look: Look) -> Iterator[str]:
    if not look.nodes:  # The map names nobody, which is another hazard.
        return
    listed = {pod: node for node, pod in look.joined.matched}
    for pod in look.joined.unmapped:
        why = f"the map gives it {_slots(listed[pod])}" if pod in listed else "not in the map"
        yield f"{pod.name} at {_at(look, pod)}{_on(look, pod)}: {why}"


def _not_ready(look: Look) -> Iterator[str]:
    for node, pod in look.joined.matched:
        if not pod.ready and node.slot_count:
            yield f"{pod.name}{_on(look, pod)} has {_slots(node)}: {pod.trouble}"


def _missing(look: Look) -> Iterator[str]:
    owners = {pod for node, pod in look.joined.matched if node.slot_count}
    absent = [pod for pod in look.pool.of("cache") if not pod.ready and pod not in owners]
    count = look.pool.count("cache")
    if count.present < count.wanted or any(pod.is_there for pod in absent):
        yield f"{count.wanted} wanted, {count.present} there, {count.ready} ready"
        for pod in absent:
            yield f"{pod.name}{_on(look, pod)}: {pod.trouble}"


def _count_missing(look: Look) -> int:
    count = look.pool.count("cache")
    return max(1, count.wanted - count.ready)


def _address_twice(look: Look) -> Iterator[str]:
    by_address: dict[str, list[PoolPod]] = defaultdict(list)
    for pod in look.pool.of("cache"):
        if pod.is_there and pod.phase == "Running":
            for address in pod.places(look.pool.backend):
                by_address[address].append(pod)
    for address, pods in sorted(by_address.items()):
        if len(pods) > 1:
            yield f"{address}: {' and '.join(pod.name + _on(look, pod) for pod in pods)}"


def _shared_map(look: Look) -> Iterator[str]:
    mine = look.pool.map_url
    for other in look.neighbours:
        if mine is not None and other.map_url == mine:
            yield f"{other.full_name} writes {mine.options['key']} in {mine.place} too"
    for node, pod in look.joined.foreign:
        owner = f"{pod.namespace}/{pod.pool}"
        yield f"{node.name} at {node.address} has {_slots(node)} and is {pod.name} of {owner}"


def _metadata_down(look: Look) -> Iterator[str]:
    yield from _down(look, "metadata")


def _watcher_down(look: Look) -> Iterator[str]:
    if not look.pool.wanted["kvwatcher"]:
        yield "the resource has no spec.watcher"
    yield from _down(look, "kvwatcher")


def _down(look: Look, role: Role) -> Iterator[str]:
    count = look.pool.count(role)
    if count.ready >= count.wanted:
        return
    if not look.pool.of(role):
        yield f"there is no pod with role {role}"
    for pod in look.pool.of(role):
        if not pod.ready:
            yield f"{pod.name}{_on(look, pod)}: {pod.trouble}"


def _at(look: Look, pod: PoolPod) -> str:
    return ", ".join(pod.places(look.pool.backend) or pod.addresses) or "no address yet"


def _on(look: Look, pod: PoolPod) -> str:
    """Return where a pod runs, with what is said of its node's accelerators."""
    if not pod.node:
        return ""
    health = look.health.get(pod.node)
    return f" on {pod.node} ({health})" if health else f" on {pod.node}"


def _slots(node: Node) -> str:
    ranges = ", ".join(f"{start}-{end}" for start, end in node.slots)
    return f"slots {ranges}" if ranges else "no slots"


def _shown(lines: Sequence[str]) -> tuple[str, ...]:
    more = len(lines) - MOST_EXAMPLES
    return (*lines[:MOST_EXAMPLES], *([f"and {more:,} more"] if more > 0 else []))


CHECKS: tuple[Check, ...] = (
    Check(hazards.MISSING, (), _missing, _count_missing),
    Check(hazards.METADATA_DOWN, ("own_metadata",), _metadata_down),
    Check(hazards.WATCHER_DOWN, ("watcher",), _watcher_down),
    Check(hazards.ADDRESS_TWICE, (), _address_twice),
    Check(hazards.NO_MAP, ("redis",), _no_map),
    Check(hazards.STALE, ("redis", "map"), _stale),
    Check(hazards.UNMAPPED, ("redis", "map"), _unmapped),
    Check(hazards.NOT_READY, ("redis", "map"), _not_ready),
    Check(hazards.SHARED_MAP, ("neighbours", "redis"), _shared_map),
)
