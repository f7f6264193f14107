"""What an engine's cache holds, as its events tell: sizes per medium, and the tree of prefixes."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

from kvpool.events.codec import BlockHash, Cleared, Event, Removed, Stored, Unknown

_REMEMBERED_REMOVALS = 200_000

Tier = tuple[str | None, int | None]
"""Medium and group of layers."""


@dataclass
class Counts:
    """How much happened.

    Attributes:
        events: of all kinds.
        stored_blocks, removed_blocks: per block and tier.
        clears: times that all blocks left.
        stored_again: blocks stored that had been removed not long before: a cache too small.
        removed_unseen: blocks removed that were stored before the following began, or in a gap.
        unknown_events: of kinds that this version does not know.
    """

    events: int = 0
    stored_blocks: int = 0
    removed_blocks: int = 0
    clears: int = 0
    stored_again: int = 0
    removed_unseen: int = 0
    unknown_events: int = 0


@dataclass(frozen=True)
class Prefix:
    """A prefix on which several sequences go on.

    Attributes:
        block: the last block that they share.
        tokens: of the prefix.
        sequences: longest live prompts that begin with it.
        blocks_below: live blocks after it.
        lora: adapter; None without.
        whole: False where blocks of its beginning are not live or not known, which are then not
            in ``tokens``.
    """

    block: BlockHash
    tokens: int
    sequences: int
    blocks_below: int
    lora: str | None
    whole: bool

    @property
    def spared_tokens(self) -> int:
        """Tokens that the cache need not hold, nor the engine compute, because of sharing."""
        return self.tokens * (self.sequences - 1)


class Size(NamedTuple):
    """What a tier holds."""

    blocks: int
    tokens: int


@dataclass(slots=True)
class _Node:
    parent: BlockHash | None
    tokens: int
    lora: str | None
    tiers: int = 0


@dataclass
class LiveCache:
    """The cache of one engine, kept up to date by ``apply``.

    Memory: some 300 bytes a live block; token ids are not kept.
    """

    counts: Counts = field(default_factory=Counts)
    peak_blocks: int = 0
    _tiers: dict[Tier, dict[BlockHash, int]] = field(default_factory=dict)
    _nodes: dict[BlockHash, _Node] = field(default_factory=dict)
    _removed: OrderedDict[BlockHash, None] = field(default_factory=OrderedDict)

    @property
    def blocks(self) -> int:
        """Distinct live blocks."""
        return len(self._nodes)

    def sizes(self) -> dict[Tier, Size]:
        """Return what each medium and group holds, those that are empty by now included."""
        return {
            tier: Size(len(blocks), sum(blocks.values())) for tier, blocks in self._tiers.items()
        }

    def apply(self, event: Event) -> None:
        """Take an event into account."""
        self.counts.events += 1
        match event:
            case Stored():
                self._store(event)
            case Removed():
                self._remove(event)
            case Cleared():
                self.counts.clears += 1
                self.forget()
            case Unknown():
                self.counts.unknown_events += 1

    def forget(self) -> None:
        """Drop all blocks, as when the engine starts anew."""
        for blocks in self._tiers.values():
            blocks.clear()
        self._nodes.clear()
        self._removed.clear()

    def _store(self, event: Stored) -> None:
        tier = self._tiers.setdefault((event.medium, event.group), {})
        parent = event.parent
        for block in event.hashes:
            self.counts.stored_blocks += 1
            node = self._nodes.get(block)
            if node is None:
                node = self._nodes[block] = _Node(parent, event.block_tokens, event.lora)
                if block in self._removed:
                    del self._removed[block]
                    self.counts.stored_again += 1
            if block not in tier:
                tier[block] = event.block_tokens
                node.tiers += 1
            parent = block
        self.peak_blocks = max(self.peak_blocks, len(self._nodes))

    def _remove(self, event: Removed) -> None:
        tier = self._tiers.get((event.medium, event.group), {})
        for block in event.hashes:
            self.counts.removed_blocks += 1
            if tier.pop(block, None) is None:
                self.counts.removed_unseen += 1
                continue
            node = self._nodes[block]
            node.tiers -= 1
            if not node.tiers:
                del self._nodes[block]
                self._removed[block] = None
                if len(self._removed) > _REMEMBERED_REMOVALS:
                    self._removed.popitem(last=False)

    def top_prefixes(self, count: int) -> list[Prefix]:
        """Return the shared prefixes that spare the most tokens, the greatest first.

        A prefix is shared at a block that at least two live blocks follow.
        """
        children: dict[BlockHash, list[BlockHash]] = {}
        roots = []
        for block, node in self._nodes.items():
            if node.parent is not None and node.parent in self._nodes:
                children.setdefault(node.parent, []).append(block)
            else:
                roots.append(block)
        order, tokens = self._top_down(roots, children)
        leaves: dict[BlockHash, int] = {}
        below: dict[BlockHash, int] = {}
        shared = []
        for block in reversed(order):
            following = children.get(block, ())
            leaves[block] = sum(leaves[child] for child in following) or 1
            below[block] = sum(below[child] + 1 for child in following)
            if len(following) > 1:
                shared.append(block)
        shared.sort(key=lambda block: (tokens[block][0] * (leaves[block] - 1), str(block)))
        return [
            Prefix(
                block,
                tokens[block][0],
                leaves[block],
                below[block],
                self._nodes[block].lora,
                tokens[block][1],
            )
            for block in reversed(shared[-count:] if count else [])
        ]

    def _top_down(
        self, roots: list[BlockHash], children: dict[BlockHash, list[BlockHash]]
    ) -> tuple[list[BlockHash], dict[BlockHash, tuple[int, bool]]]:
        """Return the blocks, parents first, and the tokens up to each and whether from 0."""
        order = list(roots)
        tokens = {
            root: (self._nodes[root].tokens, self._nodes[root].parent is None) for root in roots
        }
        for block in order:  # which grows meanwhile
            so_far, whole = tokens[block]
            for child in children.get(block, ()):
                tokens[child] = (so_far + self._nodes[child].tokens, whole)
                order.append(child)
        return order, tokens
