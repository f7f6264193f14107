"""What AIBrix's KV cache offloading 0.8 writes: the place of a block, and the tokens behind it.

Blocks stand under a ``conn_id`` that names heads, layers, layout, block size and how keys are
built; it holds neither model nor dtype. Where token validation is on (``ex``), a block is
followed by a magic number, the counts of prefix and own tokens, and the tokens.

Sources: ``l2/l2_cache.py``, ``l2/connectors/connector.py``, ``l2/connectors/shfs.py`` and
``memory/allocator.py`` of aibrix-kvcache 0.8.0.
"""

import re
import struct
from dataclasses import dataclass
from typing import Any

from kvpool.entry import Entry, State

MAGIC = 0x3A7F1C42
_ALIGNMENT_BYTES = 16
_TAIL = struct.Struct("<iii")
_CONN_ID = re.compile(
    r"(?P<namespace>.+)_h(?P<h0>\d+)_(?P<h1>\d+)_l(?P<l0>\d+)_(?P<l1>\d+)"
    r"_(?P<layout>lcnd|ncld)(?P<tokens>\d+)(?P<builder>ro|sim|raw|hex)(?P<form>c|ex)",
    re.ASCII | re.DOTALL,
)
_HEX = re.compile(r"(?:[0-9a-f]{2})+", re.ASCII)
KEY_BUILDERS = {
    "ro": "rolling hash",
    "sim": "simple hash",
    "raw": "raw tokens",
    "hex": "hexadecimal tokens",
}


@dataclass(frozen=True, slots=True)
class BlockSpace:
    """A ``conn_id``, taken apart: blocks of one shape that share a name space.

    Attributes:
        conn_id: as written.
        heads, layers: first and last, both included.
        layout: ``lcnd`` for [layers, 2, tokens, heads, head size], ``ncld`` for [tokens, 2,
            layers, heads, head size].
        block_tokens: tokens per block.
        key_builder: see ``KEY_BUILDERS``.
        has_tokens: whether the tokens stand behind each block, to be compared on a hit.
    """

    conn_id: str
    namespace: str
    heads: tuple[int, int]
    layers: tuple[int, int]
    layout: str
    block_tokens: int
    key_builder: str
    has_tokens: bool

    @property
    def elements_per_head_dim(self) -> int:
        """Return by what the elements of a block must be divisible: all but the head size."""
        layers = self.layers[1] - self.layers[0] + 1
        heads = self.heads[1] - self.heads[0] + 1
        return 2 * self.block_tokens * layers * heads


@dataclass(frozen=True, slots=True)
class Tail:
    """What stands behind a block with token validation.

    Attributes:
        block_bytes: length of the block itself.
        prefix_tokens, tokens: of the prefix, and of the block.
    """

    block_bytes: int
    prefix_tokens: tuple[int, ...]
    tokens: tuple[int, ...]


def parse_conn_id(text: str) -> BlockSpace | None:
    """Return the parts of a ``conn_id``; None where AIBrix could not have made it."""
    match = _CONN_ID.fullmatch(text)
    if match is None:
        return None
    return BlockSpace(
        text,
        match["namespace"],
        heads=(int(match["h0"]), int(match["h1"])),
        layers=(int(match["l0"]), int(match["l1"])),
        layout=match["layout"],
        block_tokens=int(match["tokens"]),
        key_builder=match["builder"],
        has_tokens=match["form"] == "ex",
    )


def is_block_key(text: str) -> bool:
    """Tell whether a name is a block's key in hexadecimal."""
    return _HEX.fullmatch(text) is not None


def block_path(key: str) -> str:
    """Return the path of ``conn_id/hex`` below the root of a shared file system."""
    conn_id, _, block = key.rpartition("/")
    return f"{conn_id}/{block[:2]}/{block[2:4]}/{block}" if len(block) >= 4 else key


def make_entry(space: BlockSpace, block: str, size: int, **times: Any) -> Entry:
    """Return the entry of a block.

    Args:
        space: where it stands.
        block: its key in hexadecimal.
        size: of the stored value.
        times: ``stored_s``, ``accessed_s`` and ``expires_s``, as in an entry.
    """
    state: State = "whole" if is_block_key(block) else "undecodable"
    return Entry(
        f"{space.conn_id}/{block}",
        state,
        size,
        "" if state == "whole" else "its name is no block key",
        chunk_hash=block,
        layers=space.layers,
        tokens=space.block_tokens,
        namespace=space.conn_id,
        value_bytes=size,
        has_header=False,
        **times,
    )


def parse_tail(space: BlockSpace, data: bytes) -> Tail | None:
    """Return the tokens behind a block; None where they are missing or contradict themselves.

    The length of the block isn't written down, so the magic number is looked for from behind; it
    counts only where the numbers after it account for every byte that follows.
    """
    magic = MAGIC.to_bytes(4, "little")
    start = data.rfind(magic)
    while start >= 0:
        tail = _tail_at(space, data, start)
        if tail is not None:
            return tail
        start = data.rfind(magic, 0, start)
    return None


def _tail_at(space: BlockSpace, data: bytes, start: int) -> Tail | None:
    if start + _TAIL.size > len(data):
        return None
    _, prefix_count, own_count = _TAIL.unpack_from(data, start)
    if prefix_count < 0 or not 0 < own_count <= space.block_tokens:
        return None
    first = start + _TAIL.size
    end = first + 4 * (prefix_count + own_count)
    if end > len(data) or len(data) - end >= _ALIGNMENT_BYTES:
        return None
    tokens = struct.unpack_from(f"<{prefix_count + own_count}i", data, first)
    return Tail(start, tokens[:prefix_count], tokens[prefix_count:])
