"""Hold the slot map against the pods: which slots lead to a pod, and which pods own slots."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from kvpool.entry import Node
from kvpool.errors import KvPoolError
from kvpool.k8s.pods import PoolPod
from kvpool.k8s.resources import CachePool
from kvpool.placement import TOTAL_SLOTS
from kvpool.pool import Pool
from kvpool.url import PoolUrl

_MOST_AT_ONCE = 16
Opener = Callable[[PoolUrl], Pool]


@dataclass(frozen=True)
class Join:
    """The nodes of a slot map, by the pod that each leads to.

    Attributes:
        matched: nodes with the pod of their pool at their address.
        foreign: nodes with the pod of another pool at their address.
        stale: nodes at an address that no pod has; with the pod of their name, if there is one.
        unmapped: pods that run, and to which no slot leads.
    """

    matched: tuple[tuple[Node, PoolPod], ...]
    foreign: tuple[tuple[Node, PoolPod], ...]
    stale: tuple[tuple[Node, PoolPod | None], ...]
    unmapped: tuple[PoolPod, ...]


def join(pool: CachePool, nodes: Sequence[Node], others: Iterable[PoolPod] = ()) -> Join:
    """Hold a slot map against the pods of its pool.

    A node whose pod's address can't be told from outside is matched by name.

    Args:
        pool: with its pods.
        nodes: of the map.
        others: cache pods of other pools.
    """
    own = [pod for pod in pool.of("cache") if pod.phase == "Running"]
    by_address = {address: pod for pod in own for address in pod.places(pool.backend)}
    by_name = {pod.name: pod for pod in own}
    strangers = {a: pod for pod in others for a in (*pod.addresses, *pod.rdma_addresses)}
    matched, foreign, stale = [], [], []
    for node in nodes:
        host = _host(node)
        namesake = by_name.get(node.name)
        known = namesake.places(pool.backend) if namesake else ()
        is_namesake = namesake is not None and (host in known or not known)
        pod = namesake if is_namesake else by_address.get(host)
        if pod is not None:
            matched.append((node, pod))
        elif host in strangers:
            foreign.append((node, strangers[host]))
        else:
            stale.append((node, namesake))
    owners = {pod for node, pod in matched if node.slot_count}
    unmapped = tuple(pod for pod in own if pod.is_there and pod not in owners)
    return Join(tuple(matched), tuple(foreign), tuple(stale), unmapped)


@dataclass(frozen=True)
class Slots:
    """How the slots of a pool stand to its pods.

    Attributes:
        held: distinct slots that any node of the map has.
        on_ready_pods: those that lead to a pod that is ready.
        total: how many there should be.
        nodes: members of the map.
    """

    held: int
    on_ready_pods: int
    total: int
    nodes: int

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return dict(vars(self))


def count_slots(pool: CachePool, nodes: Sequence[Node]) -> Slots:
    """Count the slots of a map, and those behind which a pod is ready."""
    ready = [node for node, pod in join(pool, nodes).matched if pod.ready]
    return Slots(len(_slots(nodes)), len(_slots(ready)), TOTAL_SLOTS, len(nodes))


def read_maps(pools: Sequence[CachePool], opener: Opener) -> Mapping[str, Slots | KvPoolError]:
    """Read the slot maps of all pools that have one, some at once.

    Args:
        pools: to read of.
        opener: connects to a Redis; its patience is what a dead one costs.

    Returns:
        By full name, the slots, or why they are not known.
    """
    asked = [(pool, url) for pool in pools for url in [reach(pool)] if url is not None]
    if not asked:
        return {}

    def read(pool: CachePool, url: PoolUrl) -> Slots | KvPoolError:
        try:
            with opener(url) as place:
                return count_slots(pool, place.describe().nodes)
        except KvPoolError as error:
            return error

    with ThreadPoolExecutor(min(_MOST_AT_ONCE, len(asked)), "slots") as threads:
        found = threads.map(lambda one: read(*one), asked)
        return {pool.full_name: slots for (pool, _), slots in zip(asked, found, strict=True)}


def reach(pool: CachePool) -> PoolUrl | None:
    """Return the address of a slot map as this machine should try it.

    The Service's own address is taken where there is one: outside the cluster its name means
    nothing, and asking for it may take long.
    """
    url = pool.map_url
    at = pool.metadata
    return replace(url, host=at.service_address) if url and at and at.service_address else url


def _host(node: Node) -> str:
    return node.address.rpartition(":")[0].strip("[]")


def _slots(nodes: Iterable[Node]) -> set[int]:
    return {
        slot
        for node in nodes
        for start, end in node.slots
        for slot in range(max(0, start), min(end, TOTAL_SLOTS - 1) + 1)
    }
