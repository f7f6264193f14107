"""What each eviction policy keeps: a simulation in blocks, one size at a time.

Every access looks a block up and stores it where it is absent, which is what an engine does with
a prompt. Blocks are numbered from 0; the cache holds ``capacity`` of them, at least one. LRU needs
no simulation: ``kvpool.sizing.reuse`` has it at every size at once.

Sources: S3-FIFO: Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023. SIEVE:
Zhang et al., NSDI 2024. ARC: Megiddo and Modha, FAST 2003. Optimum: Belady, IBM Systems Journal
5(2), 1966. AIBrix's parameters: AIBRIX_KV_CACHE_OL_S3FIFO_* of aibrix-kvcache 0.8.
"""

import difflib
import heapq
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from kvpool.errors import KvPoolUsageError

Simulation = Callable[[list[int], int, int], bytearray]
"""(blocks in order of access, number of distinct ones, capacity) to 1 for each hit, else 0."""


def fifo(accesses: list[int], distinct: int, capacity: int) -> bytearray:
    """Evict what was stored first."""
    hits, resident = bytearray(len(accesses)), bytearray(distinct)
    ring, hand = [-1] * capacity, 0
    for index, block in enumerate(accesses):
        if resident[block]:
            hits[index] = 1
            continue
        if ring[hand] >= 0:
            resident[ring[hand]] = 0
        ring[hand] = block
        resident[block] = 1
        hand = (hand + 1) % capacity
    return hits


def sieve(accesses: list[int], distinct: int, capacity: int) -> bytearray:
    """Evict the first unvisited block that a hand meets on its way from the oldest to the newest.

    Blocks stay where they were stored; the hand clears the mark of those that it passes.
    """
    hits, visited = bytearray(len(accesses)), bytearray(distinct)
    resident = bytearray(distinct)
    # A ring of links with a head at index ``distinct``: newer[head] is the oldest block.
    newer, older = list(range(distinct + 1)), list(range(distinct + 1))
    head = hand = distinct
    free = capacity
    for index, block in enumerate(accesses):
        if resident[block]:
            hits[index] = visited[block] = 1
            continue
        if free:
            free -= 1
        else:
            if hand == head:
                hand = newer[head]
            while visited[hand]:
                visited[hand] = 0
                hand = newer[hand]
                if hand == head:
                    hand = newer[head]
            before, after = older[hand], newer[hand]
            newer[before], older[after] = after, before
            resident[hand] = 0
            hand = after
        newest = older[head]
        newer[newest], older[block] = block, newest
        newer[block], older[head] = head, block
        resident[block] = 1
    return hits


def s3fifo(
    accesses: list[int],
    distinct: int,
    capacity: int,
    *,
    small_share: float = 0.1,
    uses_to_stay: int = 2,
) -> bytearray:
    """Pass new blocks through a small queue; only what was used there reaches the main one.

    Args:
        accesses: blocks in order.
        distinct: how many there are.
        capacity: of the cache, in blocks.
        small_share: of the capacity that the small queue has.
        uses_to_stay: hits in the small queue that bring a block into the main one.
    """
    hits, uses = bytearray(len(accesses)), bytearray(distinct)
    resident, ghost_turn = bytearray(distinct), [0] * distinct
    small_most = max(int(capacity * small_share), 1)
    ghost_most = capacity - small_most
    small: deque[int] = deque()
    main: deque[int] = deque()
    turn = ghost_most + 1  # of the ghost queue, which is the last ``ghost_most`` evictions
    for index, block in enumerate(accesses):
        if resident[block]:
            hits[index] = 1
            if uses[block] < 3:
                uses[block] += 1
            continue
        remembered = turn - ghost_turn[block] < ghost_most
        full = len(small) + len(main) >= capacity
        while full:
            if small and (len(small) >= small_most or not main):
                old = small.popleft()
                if uses[old] >= uses_to_stay:
                    uses[old] = 0
                    main.append(old)
                    continue
                turn += 1
                ghost_turn[old] = turn
            else:
                old = main.popleft()
                if uses[old]:
                    uses[old] -= 1
                    main.append(old)
                    continue
            resident[old] = 0
            full = False
        uses[block] = ghost_turn[block] = 0
        resident[block] = 1
        (main if remembered else small).append(block)
    return hits


def arc(accesses: list[int], distinct: int, capacity: int) -> bytearray:
    """Keep blocks seen once and blocks seen again in two lists that take size from each other.

    ``once_ghost`` and ``again_ghost`` remember what each list evicted; a miss that is found there
    tells which list is too short.
    """
    hits = bytearray(len(accesses))
    once: OrderedDict[int, None] = OrderedDict()
    again: OrderedDict[int, None] = OrderedDict()
    once_ghost: OrderedDict[int, None] = OrderedDict()
    again_ghost: OrderedDict[int, None] = OrderedDict()
    target = 0.0  # of the length of ``once``

    def make_room(found_in_again_ghost: bool) -> None:
        if once and (len(once) > target or (found_in_again_ghost and len(once) == target)):
            once_ghost[once.popitem(last=False)[0]] = None
        else:
            again_ghost[again.popitem(last=False)[0]] = None

    for index, block in enumerate(accesses):
        if block in once:
            hits[index] = 1
            del once[block]
            again[block] = None
        elif block in again:
            hits[index] = 1
            again.move_to_end(block)
        elif block in once_ghost:
            target = min(capacity, target + max(len(again_ghost) / len(once_ghost), 1))
            make_room(False)
            del once_ghost[block]
            again[block] = None
        elif block in again_ghost:
            target = max(0, target - max(len(once_ghost) / len(again_ghost), 1))
            make_room(True)
            del again_ghost[block]
            again[block] = None
        else:
            seen_once = len(once) + len(once_ghost)
            known = seen_once + len(again) + len(again_ghost)
            if seen_once >= capacity:
                if len(once) < capacity:
                    once_ghost.popitem(last=False)
                    make_room(False)
                else:
                    once.popitem(last=False)
            elif known >= capacity:
                if known >= 2 * capacity:
                    again_ghost.popitem(last=False)
                make_room(False)
            once[block] = None
    return hits


def optimum(accesses: list[int], distinct: int, capacity: int) -> bytearray:
    """Evict what is used again last; no policy that can't see the future hits more."""
    hits, resident = bytearray(len(accesses)), bytearray(distinct)
    count = len(accesses)
    following, soonest = [count] * count, [count] * distinct
    for index in range(count - 1, -1, -1):
        following[index] = soonest[accesses[index]]
        soonest[accesses[index]] = index
    current = [0] * distinct
    heap: list[tuple[int, int]] = []
    free = capacity
    for index, block in enumerate(accesses):
        current[block] = following[index]
        heapq.heappush(heap, (-following[index], block))
        if resident[block]:
            hits[index] = 1
            continue
        resident[block] = 1
        if free:
            free -= 1
            continue
        while True:
            negative, old = heapq.heappop(heap)
            if resident[old] and current[old] == -negative:
                break
        resident[old] = 0
    return hits


@dataclass(frozen=True)
class Policy:
    """An eviction policy.

    Attributes:
        about: what it does, in a few words.
        simulate: None for LRU, which is exact without.
    """

    about: str
    simulate: Simulation | None = None


POLICIES = {
    "lru": Policy("evict what was used least recently"),
    "fifo": Policy("evict what was stored first", fifo),
    "s3fifo": Policy("three FIFO queues, the small one 10%, two uses to stay", s3fifo),
    "s3fifo-aibrix": Policy(
        "the same with AIBrix's defaults: 30%, one use to stay",
        partial(s3fifo, small_share=0.3, uses_to_stay=1),
    ),
    "sieve": Policy("FIFO whose hand spares what was used since", sieve),
    "arc": Policy("two lists, once and again, that adapt their sizes", arc),
    "opt": Policy("evict what is used again last: no policy can do better", optimum),
}


def parse_policies(names: Sequence[str]) -> tuple[str, ...]:
    """Return policies in the order asked for, each once.

    Raises:
        KvPoolUsageError: an unknown name (with the nearest), or none at all.
    """
    chosen = dict.fromkeys(name.strip().lower().replace("-fifo", "fifo") for name in names if name)
    for name in chosen:
        if name not in POLICIES:
            near = difflib.get_close_matches(name, POLICIES, 1)
            raise KvPoolUsageError(
                "kv.policy.unknown",
                f"no eviction policy {name!r}; expected {', '.join(POLICIES)}",
                hint=f"did you mean {near[0]}?" if near else "",
                target=name,
            )
    if not chosen:
        raise KvPoolUsageError(
            "kv.policy.none", f"no eviction policy is named; expected {', '.join(POLICIES)}"
        )
    return tuple(chosen)
