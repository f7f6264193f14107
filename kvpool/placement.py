"""AIBrix's placement metadata: which node of a cluster holds which slots.

One JSON document under a Redis key without expiry: ``{"nodes": [{"name", "addr", "port", "slots":
[{"start", "end"}]}], "version": N}``. The blocks themselves are on the nodes, which are reached
over RDMA. Source: AIBrix 0.8, ``pkg/controller/kvcache`` and ``aibrix_kvcache/l2/placement``.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from kvpool.entry import Entry, Node, PoolFacts, Value
from kvpool.errors import KvPoolError, UnsupportedError
from kvpool.pool import BATCH, Closing, Depth, Verb
from kvpool.redis_facts import describe
from kvpool.redis_wire import Connection
from kvpool.url import PoolUrl

TOTAL_SLOTS = 4096
KNOWN_KEYS = {"kvcache_nodes": "InfiniStore", "hpkv_cluster_metadata": "HPKV"}
_REASON = (
    "it holds placement metadata only; the blocks are on the nodes, which are reached over RDMA"
)
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""What foreign JSON raises: the last two where a number has no end, or a list no bottom."""
_VERBS: tuple[Verb, ...] = ("scan", "stat", "read", "write", "delete", "expiry", "headers", "age")


class AibrixPlacementPool(Closing):
    """See ``kvpool.pool.Pool``; of all its methods only ``describe`` has something to say."""

    def __init__(self, url: PoolUrl, connection: Connection):
        """Take over a connection."""
        self.url = url
        self.limits: Mapping[Verb, str] = dict.fromkeys(_VERBS, _REASON)
        self._redis = connection

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()

    def describe(self) -> PoolFacts:
        """Return the nodes and their slots, as the metadata has them.

        Raises:
            KvPoolError: the key is missing, or does not hold such a document.
        """
        key = self.url.options["key"]
        kind = self._redis.call("TYPE", key)
        if kind != "string":
            raise self._missing(key, kind)
        nodes, version = parse_placement(self._redis.call("GET", key), key)
        server = describe(self._redis)
        return PoolFacts(
            backend=f"AIBrix placement in {server.backend}",
            writable=server.writable,
            nodes=nodes,
            total_slots=TOTAL_SLOTS,
            details={"key": key, "store": KNOWN_KEYS.get(key), "version": version},
        )

    def scan(self, *, depth: Depth = "quiet", batch: int = BATCH) -> Iterator[list[Entry]]:
        """Refuse."""
        self._refuse()

    def stat(self, key: str) -> Entry | None:
        """Refuse."""
        self._refuse()

    def read(self, key: str) -> Value | None:
        """Refuse."""
        self._refuse()

    def write(self, key: str, value: Value, *, expires_s: float | None = None) -> None:
        """Refuse."""
        self._refuse()

    def delete(self, keys: Sequence[str]) -> int:
        """Refuse."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise UnsupportedError("kv.placement_only", f"{self.url}: {_REASON}", target=str(self.url))

    def _missing(self, key: str, kind: str) -> KvPoolError:
        others = [name for name in KNOWN_KEYS if name != key]
        present = [name for name in others if self._redis.call("EXISTS", name)]
        found = "no such key" if kind == "none" else f"a {kind} instead of a string"
        return KvPoolError(
            "kv.placement.missing",
            f"Redis at {self.url.place}, database {self.url.database} has {found}: {key!r}",
            hint=f"write ?key={present[0]}"
            if present
            else "the key is the controller's; another database is named by /N in the URL",
            target=str(self.url),
        )


def parse_placement(text: bytes, source: str) -> tuple[tuple[Node, ...], Any]:
    """Return the nodes of a document and its version.

    Raises:
        KvPoolError: it is no JSON, or lacks what clients read.
    """
    try:
        document = json.loads(text)
        nodes = tuple(_node(item) for item in document["nodes"])
    except _UNREADABLE as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else f"is malformed: {error}"
        raise KvPoolError(
            "kv.placement.malformed",
            f"the placement metadata in {source!r} {what}",
            hint="clients can't read it either; the controller writes it anew when a pod changes",
            target=source,
        ) from error
    return nodes, document.get("version")


def _node(item: Mapping[str, Any]) -> Node:
    slots = tuple((int(part["start"]), int(part["end"])) for part in item["slots"])
    return Node(str(item.get("name", "")), f"{item['addr']}:{item['port']}", slots)


def open_aibrix_placement(url: PoolUrl, **options: Any) -> AibrixPlacementPool:
    """Connect to a server; see ``kvpool.pool.open_pool``."""
    return AibrixPlacementPool(url, Connection(url, **options))
