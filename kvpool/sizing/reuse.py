"""Exact LRU at every size in one pass: the stack distance of each access.

Mattson et al., "Evaluation techniques for storage hierarchies", IBM Systems Journal 9(2), 1970:
LRU hits with a cache of ``c`` blocks exactly where fewer than ``c`` other blocks were used since.
"""

import numpy as np

from kvpool.sizing.trace import BlockTrace, Ints

_CACHED_BITS = 14
"""Parts of 2^14 elements, 128 KiB, are taken through all their levels while in a core's cache."""
NEVER = np.iinfo(np.int64).max
"""Distance of a first access: no size makes it a hit."""


def previous_access(blocks: Ints) -> Ints:
    """Return for each access the index of the one before to the same block; -1 for the first.

    Args:
        blocks: ids from 0, below 2^31, at most 2^32 of them.
    """
    keys = np.sort((blocks << 32) | np.arange(len(blocks)))
    order = keys & 0xFFFFFFFF
    same = keys[1:] >> 32 == keys[:-1] >> 32
    previous = np.full(len(blocks), -1, np.int64)
    previous[order[1:][same]] = order[:-1][same]
    return previous


def stack_distances(blocks: Ints) -> Ints:
    """Return the blocks that LRU must hold for each access to hit; ``NEVER`` at a first one.

    The distinct blocks since the access before, at index p, are the accesses after p that have
    their own previous access before p; counting those is counting smaller elements to the left.
    O(n log n) time, about 60 bytes an access.
    """
    previous = previous_access(blocks)
    again = np.flatnonzero(previous >= 0)
    before = previous[again]
    is_before = np.zeros(len(blocks), np.int64)
    is_before[before] = 1
    ranks = np.cumsum(is_before)[before] - 1
    first_before = again - np.arange(len(again))
    distances = np.full(len(blocks), NEVER, np.int64)
    # Accesses before i whose previous one is at most p, less the p + 1 up to p, which all are;
    # the block itself takes the place that the access at p leaves.
    distances[again] = first_before + _smaller_to_the_left(ranks) - before
    return distances


def _smaller_to_the_left(permutation: Ints) -> Ints:
    """Return for each element of a permutation of 0 … n - 1 how many before it are smaller.

    A wavelet tree from the highest bit down: in a node all higher bits agree, so an element with
    the bit set is larger than those before it in the node without. Filled up to a power of two,
    every node has the same size, and a level is a few passes over whole arrays. Each element
    carries its count in the upper 32 bits, so that both move together.
    """
    count = len(permutation)
    bits = max(count - 1, 0).bit_length()
    packed = np.arange(1 << bits, dtype=np.int64)
    packed[:count] = permutation
    small = min(bits, _CACHED_BITS)
    for bit in reversed(range(small, bits)):
        for node in packed.reshape(-1, 2 << bit):
            _split(node, bit)
    for part in packed.reshape(-1, 1 << small):
        for bit in reversed(range(small)):
            _split(part, bit)
    return (packed >> 32)[permutation]


def _split(nodes: Ints, bit: int) -> None:
    """Count the zeros before each one within nodes of 2 << bit elements; move the zeros first."""
    ones = nodes >> bit & 1
    counted = np.cumsum((1 - ones).reshape(-1, 2 << bit), axis=1).reshape(-1)
    counted *= ones
    counted <<= 32
    counted += nodes
    chosen = ones.astype(bool)
    halves = nodes.reshape(-1, 2, 1 << bit)
    halves[:, 1] = counted[chosen].reshape(-1, 1 << bit)
    halves[:, 0] = counted[~chosen].reshape(-1, 1 << bit)


def prefix_distances(trace: BlockTrace, distances: Ints) -> Ints:
    """Return the blocks that LRU must hold for each access to be part of a hit prefix.

    A block is of use only where all blocks of the prompt before it are there too: the greatest
    distance of the request so far.
    """
    # Requests are told apart by an offset that grows, so that one running maximum serves all.
    ceiling = trace.accesses + 1
    offset = trace.request_of * ceiling
    running = np.maximum.accumulate(np.minimum(distances, ceiling - 1) + offset) - offset
    return np.where(running == ceiling - 1, NEVER, running)
