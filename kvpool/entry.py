"""What a pool holds: entries, and the values and headers behind them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["whole", "orphan", "foreign", "undecodable"]
"""``whole``: a reader of the pool would take it. ``orphan``: one half of an entry, or a temporary
file. ``foreign``: something else that lives in the same place. ``undecodable``: the place and
name of an entry, but its key or header can't be read."""
STATES: tuple[State, ...] = ("whole", "orphan", "foreign", "undecodable")


@dataclass(frozen=True, slots=True)
class TensorGroup:
    """One tensor of a value: layers of one shape and dtype are stored together."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Header:
    """What a stored header says of its value.

    Attributes:
        value_bytes: length of the value, as the writer put it down.
        layout: order of the dimensions, e.g. ``KV_2LTD`` for [2, layers, tokens, hidden size].
        groups: the tensors in the value, one after the other.
        raw: the bytes that said so, which may write a dtype in more than one way; empty where it
            was not read from a pool.
    """

    value_bytes: int
    layout: str
    groups: tuple[TensorGroup, ...]
    raw: bytes = field(default=b"", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a pool. What a backend does not keep is None.

    Attributes:
        key: the name that ``stat``, ``read`` and ``delete`` take; unique within the pool. Bytes
            that are not UTF-8 stand as surrogates (``surrogateescape``).
        state: whether a reader would take it.
        bytes: what it occupies: value and header; the memory it takes where only that is known.
        reason: why it is not whole; empty for whole entries.
        model: as the engine names it.
        world_size, worker_id: tensor-parallel size of the writer, and its rank.
        chunk_hash: hash of the token prefix that ends with this chunk, hexadecimal.
        dtype: of the KV cache, under PyTorch's name, e.g. ``bfloat16``.
        layers: first and last layer, both included.
        tokens: how many it holds the keys and values of.
        tags: pairs that the writer attached (LMCache), such as a tenant.
        namespace: AIBrix's ``conn_id``, or another part of the pool that entries are grouped by.
        value_bytes: true length of the value; None where it was not looked up.
        header: decoded; None where there is none, or it was not looked up.
        stored_s, accessed_s, expires_s: seconds since the epoch: when it was written, when last
            used, when it will vanish. ``expires_s`` None: at no set time; the store may still
            evict it (``PoolFacts.evicts_lasting``).
        node, slot: where it lives in a cluster.
        has_data, has_header: the halves that are there, for backends that keep two.
    """

    key: str
    state: State
    bytes: int
    reason: str = ""
    model: str | None = None
    world_size: int | None = None
    worker_id: int | None = None
    chunk_hash: str | None = None
    dtype: str | None = None
    layers: tuple[int, int] | None = None
    tokens: int | None = None
    tags: tuple[tuple[str, str], ...] = ()
    namespace: str | None = None
    value_bytes: int | None = None
    header: Header | None = None
    stored_s: float | None = None
    accessed_s: float | None = None
    expires_s: float | None = None
    node: str | None = None
    slot: int | None = None
    has_data: bool = True
    has_header: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; times in seconds since the epoch."""
        header = self.header
        return {
            "key": self.key,
            "state": self.state,
            "reason": self.reason or None,
            "bytes": self.bytes,
            "value_bytes": self.value_bytes,
            "model": self.model,
            "world_size": self.world_size,
            "worker_id": self.worker_id,
            "chunk_hash": self.chunk_hash,
            "dtype": self.dtype,
            "layers": None if self.layers is None else list(self.layers),
            "tokens": self.tokens,
            "tags": dict(self.tags),
            "namespace": self.namespace,
            "stored_s": self.stored_s,
            "accessed_s": self.accessed_s,
            "expires_s": self.expires_s,
            "node": self.node,
            "slot": self.slot,
            "header": None
            if header is None
            else {
                "value_bytes": header.value_bytes,
                "layout": header.layout,
                "groups": [
                    {"dtype": group.dtype, "shape": list(group.shape)} for group in header.groups
                ],
            },
        }


@dataclass(frozen=True, slots=True)
class Value:
    """The bytes of an entry.

    Attributes:
        header: as stored; empty where the backend keeps none.
        data: the tensors.
    """

    header: bytes
    data: bytes


@dataclass(frozen=True)
class Node:
    """A member of a pool's cluster.

    Attributes:
        name: of the pod or segment.
        address: host and port.
        slots: ranges as the metadata has them, both ends included and unchecked.
        used_bytes, capacity_bytes: where the backend tells.
        status: in the backend's own word; empty where it has none.
    """

    name: str
    address: str
    slots: tuple[tuple[int, int], ...] = ()
    used_bytes: int | None = None
    capacity_bytes: int | None = None
    status: str = ""

    @property
    def slot_count(self) -> int:
        """Return how many slots a client reads from the ranges; a wrapped one counts as none."""
        return sum(max(0, end - start + 1) for start, end in self.slots)


@dataclass(frozen=True)
class PoolFacts:
    """What a pool says of itself without being scanned.

    Attributes:
        backend: what answers, with its version where it tells.
        medium: ``memory`` or ``disk``, which the next two are about; empty where neither is known.
        used_bytes, capacity_bytes: of the whole store, other tenants included; None: unlimited
            or unknown.
        eviction: the policy by which entries vanish; empty where there is none.
        writable: False for a read-only replica, file system or protocol.
        hit_rate: share of lookups that found their key since the store started, 0 to 1.
        hits, misses: the counts behind it.
        scans_count: scans of the pool, such as ours, are lookups to the store too.
        nodes: members of the cluster.
        total_slots: how many slots the nodes should cover together.
        details: more of the same, units in the names.
    """

    backend: str
    medium: Literal["", "memory", "disk"] = ""
    used_bytes: int | None = None
    capacity_bytes: int | None = None
    eviction: str = ""
    writable: bool = True
    hit_rate: float | None = None
    hits: int | None = None
    misses: int | None = None
    scans_count: bool = False
    nodes: tuple[Node, ...] = ()
    total_slots: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def evicts_lasting(self) -> bool:
        """Tell whether what has no expiry can vanish too; Redis's ``volatile-`` ones spare it."""
        return bool(self.eviction) and not self.eviction.startswith("volatile-")

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        has_slots = self.total_slots is not None
        return {
            "backend": self.backend,
            "medium": self.medium or None,
            "used_bytes": self.used_bytes,
            "capacity_bytes": self.capacity_bytes,
            "eviction": self.eviction or None,
            "writable": self.writable,
            "hit_rate": self.hit_rate,
            "hits": self.hits,
            "misses": self.misses,
            "total_slots": self.total_slots,
            "nodes": [
                {
                    "name": node.name,
                    "address": node.address,
                    "slots": node.slot_count if has_slots else None,
                    "ranges": [list(part) for part in node.slots],
                    "used_bytes": node.used_bytes,
                    "capacity_bytes": node.capacity_bytes,
                    "status": node.status or None,
                }
                for node in self.nodes
            ],
            "details": dict(self.details),
        }
