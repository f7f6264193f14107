"""Hit rates of a trace over the size of the pool, per eviction policy, and the size for a wish."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvpool.errors import KvPoolUsageError
from kvpool.sizing import reuse
from kvpool.sizing.policies import POLICIES
from kvpool.sizing.trace import BlockTrace, sample

SIMULATED_ACCESSES = 1_000_000
"""Longer traces are sampled for the policies that need a simulation of every size."""
_PRECISION = 1.02
"""A wanted hit rate's size is found to within 2%."""

Bools = NDArray[np.bool_]
Progress = Callable[[str, float], None]
"""Told what is being done, and the share that is."""


@dataclass(frozen=True)
class Point:
    """What a pool of a size hits.

    Attributes:
        blocks: size of the pool.
        hit_rate: share of the accesses that are part of a prefix which is there from its start:
            what an engine need not compute.
        resident_rate: share of the accesses that find their block, of use or not.
    """

    blocks: int
    hit_rate: float
    resident_rate: float


@dataclass(frozen=True)
class Wanted:
    """The least size that reaches a hit rate.

    Attributes:
        hit_rate: what was wanted.
        blocks: None where no size reaches it.
    """

    hit_rate: float
    blocks: int | None


@dataclass(frozen=True)
class Curve:
    """Hit rates of one policy.

    Attributes:
        policy: its name.
        points: by size.
        wanted: None where no hit rate was wanted.
    """

    policy: str
    points: tuple[Point, ...]
    wanted: Wanted | None = None


@dataclass(frozen=True)
class Sizing:
    """What a trace needs of a pool.

    Attributes:
        accesses, requests, distinct_blocks: of the trace.
        counted_accesses: after the warm-up.
        best_hit_rate: of a pool that holds every block; first accesses always miss.
        working_set_blocks: the least size at which LRU reaches it.
        curves: one per policy, in the order asked for.
        sampled_share: of the accesses, that the simulated policies ran on; 1 for all.
        sample_error: the most by which LRU on the sample is off at any size; the simulated curves
            are corrected by that difference, so theirs is less as a rule.
        complete: False where it was stopped before all was done.
    """

    accesses: int
    requests: int
    distinct_blocks: int
    counted_accesses: int
    best_hit_rate: float
    working_set_blocks: int
    curves: tuple[Curve, ...]
    sampled_share: float = 1.0
    sample_error: float = 0.0
    complete: bool = True


def size_pool(
    trace: BlockTrace,
    policies: Sequence[str],
    *,
    sizes: Sequence[int] | None = None,
    size_unit_blocks: float = 1.0,
    wanted_hit_rate: float | None = None,
    warmup: float = 0.0,
    simulated_accesses: int = SIMULATED_ACCESSES,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress = lambda text, share: None,
) -> Sizing:
    """Return the hit rates of a trace at several pool sizes under several policies.

    LRU is exact. The others are simulated, on a sample of a long trace.

    Args:
        trace: the accesses.
        policies: names out of ``POLICIES``.
        sizes: in blocks; by default a unit times powers of two, from 1/256 of what LRU needs for
            its best to all of it.
        size_unit_blocks: that unit, such as the blocks of a GiB.
        wanted_hit_rate: to find the least size for, 0 to 1.
        warmup: share of the requests, from the first, that fill the pool and are not counted.
        simulated_accesses: at most about so many are simulated of a longer trace.
        stop: asked between simulations; where it says True, what there is is returned.
        progress: told how far it is.

    Raises:
        KvPoolUsageError: the warm-up leaves nothing to count.
    """
    progress("LRU at every size", 0.0)
    whole = _Lru(trace, warmup)
    if not whole.counted:
        raise KvPoolUsageError(
            "kv.size.warmup", f"nothing is left of {trace.source} after a warm-up of {warmup:.0%}"
        )
    sizes = sorted(set(sizes or _default_sizes(whole.working_set, size_unit_blocks)))
    simulates = any(POLICIES[policy].simulate for policy in policies)
    part = sample(trace, simulated_accesses) if simulates else trace
    sampled = part is not trace
    rates = _Rates(whole, _Lru(part, warmup) if sampled else whole)
    curves: list[Curve] = []
    steps, done = max(len(policies) * len(sizes), 1), 0
    for policy in policies:
        points: list[Point] = []
        for blocks in sizes:
            if stop():
                break
            progress(f"{policy} at {blocks:,} blocks", done / steps)
            points.append(rates.at(policy, blocks))
            done += 1
        wish = None
        if wanted_hit_rate is not None and not stop():
            wish = Wanted(wanted_hit_rate, rates.needed(policy, wanted_hit_rate, points, stop))
        if points:
            curves.append(Curve(policy, tuple(points), wish))
    return Sizing(
        accesses=trace.accesses,
        requests=trace.requests,
        distinct_blocks=trace.distinct,
        counted_accesses=whole.counted,
        best_hit_rate=whole.best_hit_rate,
        working_set_blocks=whole.working_set,
        curves=tuple(curves),
        sampled_share=part.accesses / trace.accesses,
        sample_error=max((abs(rates.correction(blocks)) for blocks in sizes), default=0.0),
        complete=not stop(),
    )


class _Lru:
    """A trace with LRU's hit rate at every size."""

    def __init__(self, trace: BlockTrace, warmup: float):
        self.trace = trace
        self.is_counted: Bools = trace.request_of >= math.floor(warmup * trace.requests)
        self.counted = int(self.is_counted.sum())
        distances = reuse.stack_distances(trace.blocks)
        self._block = np.sort(distances[self.is_counted])
        self._prefix = np.sort(reuse.prefix_distances(trace, distances)[self.is_counted])
        self.best_resident_rate = float((self._block != reuse.NEVER).sum()) / max(self.counted, 1)
        reached = int(np.searchsorted(self._prefix, reuse.NEVER))
        self.best_hit_rate = reached / max(self.counted, 1)
        self.working_set = int(self._prefix[reached - 1]) if reached else 1

    def at(self, blocks: int) -> Point:
        """Return what LRU hits with so many blocks."""
        prefix, block = (
            float(np.searchsorted(distances, blocks, side="right")) / max(self.counted, 1)
            for distances in (self._prefix, self._block)
        )
        return Point(blocks, prefix, block)

    def needed(self, hit_rate: float) -> int | None:
        """Return the least size that reaches a hit rate; None where none does."""
        hits = math.ceil(hit_rate * self.counted - 1e-9)
        if hits == 0:
            return 1
        if hits > self.counted or self._prefix[hits - 1] == reuse.NEVER:
            return None
        return int(self._prefix[hits - 1])


class _Rates:
    """Hit rates of every policy; of a sample, corrected by what LRU is off there."""

    def __init__(self, whole: _Lru, part: _Lru):
        self._whole = whole
        self._part = part
        self._scale = part.trace.distinct / whole.trace.distinct
        self._accesses: list[int] = []

    def at(self, policy: str, blocks: int) -> Point:
        """Return what a policy hits with so many blocks."""
        simulate = POLICIES[policy].simulate
        if simulate is None:
            return self._whole.at(blocks)
        trace = self._part.trace
        self._accesses = self._accesses or trace.blocks.tolist()
        hits = np.frombuffer(
            simulate(self._accesses, trace.distinct, self._scaled(blocks)), np.bool_
        )
        of_use = _in_hit_prefix(trace, hits)
        counted, correction = self._part.is_counted, self.correction(blocks)
        prefix, resident = (
            min(max(float(kind[counted].mean()) + correction, 0.0), best)
            for kind, best in (
                (of_use, self._whole.best_hit_rate),
                (hits, self._whole.best_resident_rate),
            )
        )
        return Point(blocks, prefix, resident)

    def correction(self, blocks: int) -> float:
        """Return by how much LRU hits more in the whole trace than in the sample."""
        if self._part is self._whole:
            return 0.0
        in_part = self._part.at(self._scaled(blocks)).hit_rate
        return self._whole.at(blocks).hit_rate - in_part

    def needed(
        self, policy: str, hit_rate: float, points: Sequence[Point], stop: Callable[[], bool]
    ) -> int | None:
        """Return the least size at which a policy reaches a hit rate, to within 2%."""
        if POLICIES[policy].simulate is None:
            return self._whole.needed(hit_rate)
        if hit_rate > self._whole.best_hit_rate:
            return None
        enough = [point.blocks for point in points if point.hit_rate >= hit_rate]
        high = min(enough, default=self._whole.trace.distinct)
        low = max((point.blocks for point in points if point.blocks < high), default=0)
        while high - low > 1 and high > low * _PRECISION and not stop():
            middle = math.isqrt(low * high) if low else high // 2
            middle = min(max(middle, low + 1), high - 1)
            if self.at(policy, middle).hit_rate >= hit_rate:
                high = middle
            else:
                low = middle
        return None if stop() else high

    def _scaled(self, blocks: int) -> int:
        return max(round(blocks * self._scale), 1)


def _in_hit_prefix(trace: BlockTrace, hits: Bools) -> Bools:
    """Return which hits have only hits before them in their request."""
    misses = np.cumsum(~hits)
    before = np.concatenate([[0], misses])[trace.starts[:-1]]
    found: Bools = misses == np.repeat(before, np.diff(trace.starts))
    return found


def _default_sizes(working_set: int, unit_blocks: float) -> list[int]:
    top = math.ceil(math.log2(max(working_set, 1) / unit_blocks))
    return [max(math.floor(unit_blocks * 2.0**power), 1) for power in range(top - 8, top + 1)]
