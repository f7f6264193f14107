"""Decode batches of KV events: msgpack, in both encodings that vLLM has used.

A batch is the array ``[time, events, data parallel rank]``. In older vLLM and in SGLang an event is
an array, its name first; in newer vLLM (0.32) it is a map with the name under ``type``. Fields
that have their default may be absent. Source: vLLM's ``distributed/kv_events.py``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kvpool.errors import KvPoolError

BlockHash = bytes | int
_FIELDS = {
    "BlockStored": (
        *("block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_id", "medium"),
        *("lora_name", "extra_keys", "group_idx", "kv_cache_spec_kind"),
        *("kv_cache_spec_sliding_window", "locality", "ownership", "session_id"),
    ),
    "BlockRemoved": ("block_hashes", "medium", "group_idx", "locality", "ownership"),
    "AllBlocksCleared": (),
}
"""Names in the order of the array encoding."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Blocks that follow each other came into the cache.

    Attributes:
        hashes: of the blocks.
        parent: block before the first; None at the start of a prompt.
        token_ids: of all blocks.
        block_tokens: of each block.
        medium: where they are, such as ``GPU``; None where the engine does not say.
        group: of layers that share a cache; None where there is one only.
        lora: name of the adapter; None without.
    """

    hashes: Sequence[BlockHash]
    parent: BlockHash | None
    token_ids: Sequence[Any]
    block_tokens: int
    medium: str | None = None
    group: int | None = None
    lora: str | None = None


@dataclass(frozen=True, slots=True)
class Removed:
    """Blocks left the cache, or a medium of it."""

    hashes: Sequence[BlockHash]
    medium: str | None = None
    group: int | None = None


@dataclass(frozen=True, slots=True)
class Cleared:
    """All blocks left the cache."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """An event of a kind that this version does not know."""

    kind: str


Event = Stored | Removed | Cleared | Unknown


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that an engine published together.

    Attributes:
        time_s: of the engine's clock, since the epoch.
        events: in order.
        rank: data parallel rank of the engine; None where it does not say.
    """

    time_s: float
    events: tuple[Event, ...]
    rank: int | None = None


def decode(payload: bytes) -> Batch:
    """Return the batch of a message.

    Raises:
        KvPoolError: it is not msgpack, or not a batch of KV events.
    """
    import msgspec

    try:
        time_s, events, *rest = msgspec.msgpack.decode(payload)
        rank = rest[0] if rest else None
        if not isinstance(time_s, int | float) or not isinstance(rank, int | None):
            raise TypeError("no time or rank")
        return Batch(float(time_s), tuple(_event(event) for event in events), rank)
    except (msgspec.DecodeError, TypeError, ValueError, KeyError, IndexError) as error:
        raise KvPoolError(
            "kv.events.malformed",
            f"a message is no batch of KV events: {error}",
            hint="is this the port of --kv-events-config, and its topic the right one?",
        ) from error


def _event(body: Any) -> Event:
    if isinstance(body, Mapping):
        kind, fields = body["type"], body
    else:
        kind = body[0]
        fields = dict(zip(_FIELDS.get(kind, ()), body[1:], strict=False))
    if kind == "BlockStored":
        return _stored(fields)
    if kind == "BlockRemoved":
        return Removed(_hashes(fields), _text(fields, "medium"), _number(fields, "group_idx"))
    return Cleared() if kind == "AllBlocksCleared" else Unknown(str(kind))


def _stored(fields: Mapping[str, Any]) -> Stored:
    tokens, size = fields["token_ids"], fields["block_size"]
    if not isinstance(tokens, list):
        raise TypeError(f"token_ids is {type(tokens).__name__}")
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"block_size is {size!r}")
    parent = fields["parent_block_hash"]
    if not isinstance(parent, BlockHash | None):
        raise TypeError(f"parent_block_hash is {parent!r}")
    medium, group = _text(fields, "medium"), _number(fields, "group_idx")
    return Stored(_hashes(fields), parent, tokens, size, medium, group, _text(fields, "lora_name"))


def _hashes(fields: Mapping[str, Any]) -> list[BlockHash]:
    hashes = fields["block_hashes"]
    if not isinstance(hashes, list) or not all(isinstance(item, BlockHash) for item in hashes):
        raise TypeError("block_hashes is no list of hashes")
    return hashes


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if not isinstance(value, str | None):
        raise TypeError(f"{name} is {value!r}")
    return value


def _number(fields: Mapping[str, Any], name: str) -> int | None:
    value = fields.get(name)
    if not isinstance(value, int | None):
        raise TypeError(f"{name} is {value!r}")
    return value


def hash_text(block: BlockHash) -> str:
    """Return a hash in hexadecimal; numbers as 64 bits."""
    return block.hex() if isinstance(block, bytes) else f"{block % (1 << 64):016x}"
