"""What a Redis server says of itself."""

from typing import Any

from kvpool.entry import PoolFacts
from kvpool.redis_wire import Connection

_POLICY = "maxmemory_policy"


def parse_info(text: bytes) -> dict[str, str]:
    """Return the fields of an answer to INFO."""
    lines = text.decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


def describe(redis: Connection) -> PoolFacts:
    """Return version, memory, eviction policy and hit rate of the server.

    Lookups of every client and database count for the hit rate, scans of this tool included.

    Raises:
        PoolUnreachableError: the server is gone, or refuses.
    """
    info = parse_info(redis.call("INFO"))
    name = "valkey" if "valkey_version" in info else "redis"
    version = info.get("valkey_version") or info.get("redis_version", "")
    capacity = _number(info, "maxmemory")
    policy = info.get(_POLICY, "")
    hits, misses = _number(info, "keyspace_hits"), _number(info, "keyspace_misses")
    lookups = (hits or 0) + (misses or 0)
    is_replica = info.get("role") == "slave"
    return PoolFacts(
        backend=f"{name} {version}".strip(),
        medium="memory",
        used_bytes=_number(info, "used_memory"),
        capacity_bytes=capacity or None,
        eviction="" if policy == "noeviction" else policy,
        writable=not (is_replica and info.get("slave_read_only", "1") == "1"),
        hit_rate=(hits or 0) / lookups if lookups else None,
        hits=hits,
        misses=misses,
        scans_count=True,
        details=_details(info, redis.call("DBSIZE"), is_replica=is_replica),
    )


def _details(info: dict[str, str], keys: int, *, is_replica: bool) -> dict[str, Any]:
    return {
        "keys": keys,
        "evicted_keys": _number(info, "evicted_keys"),
        "expired_keys": _number(info, "expired_keys"),
        "uptime_s": _number(info, "uptime_in_seconds"),
        "cluster": info.get("cluster_enabled") == "1",
        "replica": is_replica,
    }


def _number(info: dict[str, str], name: str) -> int | None:
    text = info.get(name, "")
    return int(text) if text.isdigit() else None
