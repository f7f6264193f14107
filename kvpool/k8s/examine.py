"""Examine a pool of a cluster: its slot map as any other, and the map against the pods."""

from dataclasses import dataclass, replace
from threading import Event

from accelerators.errors import ToolError
from accelerators.hazards import SEVERITIES
from cluster.access import in_cluster
from cluster.api import ALL, Api, Where
from cluster.errors import ForbiddenError
from cluster.kinds import NODE
from cluster.nodes import complaints
from kvpool.doctor import examine as plain
from kvpool.doctor.finding import Report
from kvpool.doctor.survey import Need, Options, Survey, survey_pool
from kvpool.entry import PoolFacts
from kvpool.errors import KvPoolError
from kvpool.k8s.checks import Look, judge
from kvpool.k8s.checks import Need as PoolNeed
from kvpool.k8s.discovery import list_cache_pods, list_pools
from kvpool.k8s.pods import PoolPod
from kvpool.k8s.resources import MAP_KEYS, CachePool
from kvpool.k8s.slot_map import Opener, reach
from kvpool.url import PoolUrl

_OUTSIDE = "outside the cluster these addresses may be other machines'"
_COMPARED = "; the pods' own were compared instead"


@dataclass(frozen=True)
class Examined:
    """What came of it.

    Attributes:
        report: of the slot map and of the pods.
        url: of the slot map, as it was asked; None where there is none.
        obstacles: what left checks open; their messages are the reasons in the report.
    """

    report: Report
    url: PoolUrl | None
    obstacles: tuple[ToolError, ...] = ()


def examine_pool(
    api: Api,
    pool: CachePool,
    opener: Opener,
    options: Options | None = None,
    *,
    redis: PoolUrl | None = None,
    inside: bool | None = None,
    stop: Event | None = None,
) -> Examined:
    """Look for every hazard of a slot map, and for those that the pods beside it show.

    A Redis that can't be reached leaves the checks of the map open; the pods are looked at all
    the same. Nothing is changed.

    Args:
        api: of the cluster.
        pool: as ``kvpool.k8s.discovery.find_pool`` gives it.
        opener: connects to Redis.
        options: of the examination of the map.
        redis: where its Redis is reached from here, in place of what the resource says.
        inside: whether we are in the cluster; by default whether this is a pod. From outside no
            pod's address is probed.
        stop: when set, the examination ends after its step.

    Raises:
        ClusterError: the API server refuses or fails.
        KvPoolError: Redis refuses what was asked of it.
    """
    url = redis or reach(pool)
    mapped = _Mapped()
    if url is not None:
        here = in_cluster() if inside is None else inside
        mapped = _survey(url, opener, options or Options(), stop or Event(), inside=here)
    report = plain.judge(mapped.survey or _blank(pool, url, mapped))
    look, refused = _look(api, pool, mapped)
    findings, passed, unchecked = judge(look)
    together = [*report.findings, *findings]
    together.sort(key=lambda found: -SEVERITIES.index(found.hazard.severity))
    whole = replace(
        report,
        findings=tuple(together),
        passed=(*report.passed, *passed),
        unchecked=(*report.unchecked, *unchecked),
    )
    return Examined(whole, url, tuple(filter(None, (mapped.unreached, refused))))


@dataclass(frozen=True)
class _Mapped:
    """The slot map: surveyed, absent, or out of reach."""

    survey: Survey | None = None
    no_map: str = ""
    unreached: KvPoolError | None = None


def _survey(
    url: PoolUrl, opener: Opener, options: Options, stop: Event, *, inside: bool
) -> _Mapped:
    asked = options if inside else replace(options, probe_timeout_s=None)
    try:
        with opener(url) as place:
            found = survey_pool(place, asked, stop=stop)
    except KvPoolError as error:
        if error.code.startswith("kv.placement."):
            return _Mapped(no_map=error.message)
        if error.kind != "unreachable":
            raise
        return _Mapped(unreached=error)
    if found.complete and "addresses" in found.lacking:
        found.declined["addresses"] = found.lacking.pop("addresses") + _COMPARED
    elif not inside and options.probe_timeout_s is not None:
        found.declined["addresses"] = _OUTSIDE + _COMPARED
    return _Mapped(found)


def _blank(pool: CachePool, url: PoolUrl | None, mapped: _Mapped) -> Survey:
    """Return the survey of a map that could not be read, or that there is not."""
    shown = url or PoolUrl("aibrix+redis", "none", 1, options={"key": "none"})
    found = Survey(shown, PoolFacts(f"AIBrix {pool.backend}, {pool.count('cache').present} pods"))
    needs: tuple[Need, ...] = ("facts", "slots", "addresses")
    if mapped.no_map:
        found.declined |= dict.fromkeys(needs, "there is no map")
    elif pool.backend not in MAP_KEYS:
        found.declined |= dict.fromkeys(needs, f"{pool.backend} keeps no slot map")
    else:
        found.lacking |= dict.fromkeys(needs, _why_unread(mapped))
    return found


def _why_unread(mapped: _Mapped) -> str:
    if mapped.unreached is not None:
        return mapped.unreached.message
    return "the resource does not tell where its Redis is, and it has no Service"


def _look(api: Api, pool: CachePool, mapped: _Mapped) -> tuple[Look, ForbiddenError | None]:
    """Look around a pool; with what the account may not see of it."""
    lacking: dict[PoolNeed, str] = {}
    refused: ForbiddenError | None = None
    if mapped.survey is None and not mapped.no_map:
        lacking["redis"] = _why_unread(mapped)
    neighbours: tuple[CachePool, ...] = ()
    strangers: tuple[PoolPod, ...] = ()
    if pool.backend in MAP_KEYS:
        try:
            neighbours, strangers = _around(api, pool, ALL)
        except ForbiddenError as error:
            refused = error
            lacking["neighbours"] = error.message
            neighbours, strangers = _around(api, pool, pool.namespace)
    nodes = mapped.survey.facts.nodes if mapped.survey else ()
    look = Look(
        pool,
        nodes,
        no_map=mapped.no_map,
        neighbours=neighbours,
        strangers=strangers,
        health=_health(api, {pod.node for pod in pool.pods if pod.node and not pod.ready}),
        lacking=lacking,
    )
    return look, refused


def _around(
    api: Api, pool: CachePool, where: Where
) -> tuple[tuple[CachePool, ...], tuple[PoolPod, ...]]:
    """Return the other pools, and the cache pods of others."""
    pools = tuple(one for one in list_pools(api, where) if one.full_name != pool.full_name)
    return pools, tuple(pod for pod in list_cache_pods(api, where) if not _is_of(pod, pool))


def _is_of(pod: PoolPod, pool: CachePool) -> bool:
    return (pod.namespace, pod.pool) == (pool.namespace, pool.name)


def _health(api: Api, names: set[str]) -> dict[str, str]:
    """Return what is said against nodes; nothing where all is well."""
    said = {}
    for name in sorted(names):
        try:
            node = api.find(NODE, name)
        except ForbiddenError:
            said[name] = "this account may not read its conditions"
            continue
        if node is None:
            said[name] = "a node that is gone"
            continue
        said[name] = ", ".join(complaints(node))
    return said
