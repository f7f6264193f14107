"""How much of a prompt's start a pool holds, and where."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from kvpool.entry import Entry

BlockState = Literal["cached", "partial", "broken", "missing", "unknown"]
"""``cached``: every rank and layer of it is there; ``partial``: some are not; ``broken``: what is
there can't be read; ``missing``: nothing is there; ``unknown``: its node can't be asked."""


@dataclass
class Block:
    """One chunk or block of the prompt.

    Attributes:
        start, end: of its tokens; the end is not included.
        chunk_hash: as it stands in keys.
        entries: what the pool holds of it.
        needed: how many whole entries an engine reads for it; 0 where that is not known.
        node: where it is, or where the pool's placement puts it.
        unknown: whether the node can't be asked.
    """

    start: int
    end: int
    chunk_hash: str
    entries: list[Entry] = field(default_factory=list)
    needed: int = 0
    node: str | None = None
    unknown: bool = False

    @property
    def state(self) -> BlockState:
        """Return how much of it is there."""
        if self.unknown:
            return "unknown"
        whole = sum(entry.state == "whole" for entry in self.entries)
        if whole and whole >= self.needed:
            return "cached"
        if not self.entries:
            return "missing"
        return "partial" if whole else "broken"

    @property
    def bytes(self) -> int:
        """Return what its entries occupy."""
        return sum(entry.bytes for entry in self.entries)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "start": self.start,
            "end": self.end,
            "hash": self.chunk_hash,
            "state": self.state,
            "bytes": self.bytes,
            "entries": len(self.entries),
            "needed": self.needed or None,
            "node": self.node,
            "keys": sorted(entry.key for entry in self.entries),
            "expires_s": min((e.expires_s for e in self.entries if e.expires_s), default=None),
        }


@dataclass(frozen=True)
class Group:
    """The prompt's blocks for one kind of engine: those that can use each other's entries.

    Attributes:
        name: model, or AIBrix's ``conn_id``.
        dtype, world_size, tags: what tells LMCache's engines of one model apart.
        scheme: how the hashes were made.
        chunk_tokens: of a full block.
        blocks: of the whole prompt, in order.
        prompt_tokens: how many tokens the prompt has.
    """

    name: str
    scheme: str
    chunk_tokens: int
    blocks: tuple[Block, ...]
    prompt_tokens: int
    dtype: str | None = None
    world_size: int | None = None
    tags: tuple[tuple[str, str], ...] = ()

    @property
    def prefix_blocks(self) -> int:
        """Return how many blocks from the start are cached without a gap."""
        return next(
            (at for at, block in enumerate(self.blocks) if block.state != "cached"),
            len(self.blocks),
        )

    @property
    def prefix_tokens(self) -> int:
        """Return how many tokens an engine would not have to compute."""
        return self.blocks[self.prefix_blocks - 1].end if self.prefix_blocks else 0

    @property
    def beyond_gap(self) -> int:
        """Return how many blocks are cached, and of no use because one before them is not."""
        return sum(block.state == "cached" for block in self.blocks[self.prefix_blocks :])

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "dtype": self.dtype,
            "world_size": self.world_size,
            "tags": dict(self.tags),
            "scheme": self.scheme,
            "chunk_tokens": self.chunk_tokens,
            "prompt_tokens": self.prompt_tokens,
            "prefix_tokens": self.prefix_tokens,
            "prefix_blocks": self.prefix_blocks,
            "cached_beyond_gap": self.beyond_gap,
            "blocks": [block.to_json() for block in self.blocks],
        }


def spans(count: int, chunk_tokens: int) -> Iterable[tuple[int, int]]:
    """Yield start and end of every chunk of so many tokens; the last may be short."""
    for start in range(0, count, chunk_tokens):
        yield start, min(start + chunk_tokens, count)
