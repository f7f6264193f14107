"""A pool named by its KVCache resource, ``k8s:NAME`` or ``k8s:NAMESPACE/NAME``."""

import shlex
from dataclasses import dataclass, replace
from threading import Event
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.access import Access
    from kvpool.doctor.survey import Options
    from kvpool.k8s.examine import Examined
    from kvpool.k8s.resources import CachePool
    from kvpool.pool import Pool
    from kvpool.url import PoolUrl

PREFIX = "k8s:"
_REDIS_TIMEOUT_S = 3.0


def parse_name(text: str) -> tuple[str | None, str]:
    """Return the namespace, where one is given, and the name of a pool.

    Raises:
        KvPoolUsageError: it is no such name.
    """
    from cluster.objects import split_name
    from kvpool.errors import KvPoolUsageError

    found = split_name(text.removeprefix(PREFIX))
    if found is None:
        raise KvPoolUsageError(
            "kv.k8s.name",
            f"{text!r} names no KVCache resource",
            hint="write k8s:NAME or k8s:NAMESPACE/NAME; `aibrixctl kv pools -A` lists them",
            target=text,
        )
    return found


def redis_url(text: str, pool: "CachePool") -> "PoolUrl":
    """Return what ``--redis`` says, with the key of the pool's backend.

    Raises:
        KvPoolUsageError: it is no URL of a Redis, or the pool has no slot map.
    """
    from aibrixctl.redis_access import is_redis
    from kvpool.errors import KvPoolUsageError
    from kvpool.k8s.resources import MAP_KEYS
    from kvpool.url import parse_pool_url

    key = MAP_KEYS.get(pool.backend)
    if key is None:
        raise KvPoolUsageError(
            "kv.k8s.no_map",
            f"--redis says where a slot map is, and {pool.backend} keeps none",
            hint="leave --redis out",
            target=pool.full_name,
        )
    if not is_redis(text):
        raise KvPoolUsageError(
            "kv.k8s.redis",
            f"--redis {text!r} is no URL of a Redis",
            hint="expected redis://HOST:PORT/DB, or rediss:// for TLS",
            target=text,
        )
    return replace(parse_pool_url(f"aibrix+{text}"), options={"key": key})


def way_in(pool: "CachePool", way: "Access") -> str:
    """Return how to reach a pool's Redis from outside the cluster."""
    at = pool.metadata
    if at is None or at.service is None:
        return "give the Redis as it is reached from here: --redis redis://HOST:PORT/DB"
    namespace, name = at.service
    known = replace(way, namespace=namespace).options()
    words = ["kubectl", *known, "port-forward", f"svc/{name}", f"{at.port}:{at.port}"]
    doctor = f"aibrixctl kv doctor k8s:{pool.full_name}"
    local = f"redis://127.0.0.1:{at.port}/{at.database}"
    return f"outside the cluster: {shlex.join(words)}, then {doctor} --redis {local}"


@dataclass(frozen=True)
class Target:
    """A pool of a cluster, and how it is reached.

    Attributes:
        name: as the user gave it.
        way: into the cluster.
        redis: what ``--redis`` says.
        password_file, ca_file, insecure: for Redis.
    """

    name: str
    way: "Access"
    redis: str | None = None
    password_file: str | None = None
    ca_file: str | None = None
    insecure: bool = False

    def examine(self, options: "Options", stop: Event) -> "tuple[CachePool, Examined]":
        """Find the pool, and examine its pods and its slot map; raises ToolError."""
        from aibrixctl.redis_access import redis_password
        from cluster.access import connect
        from kvpool.k8s.discovery import find_pool
        from kvpool.k8s.examine import examine_pool
        from kvpool.pool import open_pool

        password = redis_password(self.password_file)

        def opener(url: "PoolUrl") -> "Pool":
            return open_pool(
                url,
                password=password,
                ca_file=self.ca_file,
                insecure=self.insecure,
                timeout_s=_REDIS_TIMEOUT_S,
            )

        namespace, name = parse_name(self.name)
        with connect(self.way) as api:
            pool = find_pool(api, name, namespace)
            redis = None if self.redis is None else redis_url(self.redis, pool)
            return pool, examine_pool(api, pool, opener, options, redis=redis, stop=stop)
