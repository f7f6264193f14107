"""``aibrixctl kv pools``: the cache pools in a Kubernetes cluster."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aibrixctl.command import command
from aibrixctl.kube_options import AllNamespaces, Context, Kubeconfig, Namespace
from aibrixctl.redis_access import PasswordFile
from aibrixctl.result import Problem, Result

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from cluster.access import Access
    from kvpool.errors import KvPoolError
    from kvpool.k8s.resources import CachePool
    from kvpool.k8s.slot_map import Slots


@command(
    "kv pools",
    examples=(
        ("aibrixctl kv pools", "in the context's namespace"),
        ("aibrixctl kv pools -A -o wide", "in every namespace, with the metadata's address"),
    ),
)
def pools(
    all_namespaces: AllNamespaces = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="TIME", help="For each pool's Redis.")
    ] = "1s",
    password_file: PasswordFile = None,
) -> Result:
    """List AIBrix's cache pools in a cluster: what each wants and has, and its URL.

    No controller writes the status of a KVCache resource, so its pods are counted. Slots are read
    from the pool's Redis; where that does not answer they are left out, with a warning. The URL is
    what other kv commands take; `kv doctor k8s:NAME` says what is wrong with a pool.
    """
    from aibrixctl import quantities
    from aibrixctl.kube_options import access, scope
    from aibrixctl.redis_access import redis_password
    from cluster.access import connect
    from cluster.api import ALL
    from kvpool.k8s.discovery import list_pools
    from kvpool.k8s.slot_map import read_maps
    from kvpool.pool import open_pool

    timeout_s = quantities.duration("--timeout", timeout)
    password = redis_password(password_file)
    way = access(kubeconfig, context, namespace)
    with connect(way) as api:
        found = list_pools(api, ALL if all_namespaces else None)
        where = scope(api, all_namespaces=all_namespaces)
    maps = read_maps(found, lambda url: open_pool(url, password=password, timeout_s=timeout_s))
    return _result(found, maps, way, where)


def _result(
    found: "Sequence[CachePool]",
    maps: "Mapping[str, Slots | KvPoolError]",
    way: "Access",
    where: str,
) -> Result:
    from kvpool.errors import KvPoolError

    rows: list[dict[str, Any]] = []
    dark: dict[str, KvPoolError] = {}
    for pool in found:
        slots = maps.get(pool.full_name)
        if isinstance(slots, KvPoolError):
            dark[pool.full_name] = slots
            rows.append({**pool.to_json(), "slots": None, "slots_unknown": slots.message})
        else:
            known = slots.to_json() if slots else None
            rows.append({**pool.to_json(), "slots": known, "slots_unknown": None})

    def view(console: "Console", wide: bool) -> None:
        from aibrixctl.kv_k8s_view import draw_pools

        draw_pools(console, rows, where, wide=wide)

    return Result(
        {"pools": rows}, rows=rows, record="pool", view=view, warnings=_warnings(found, dark, way)
    )


def _warnings(
    found: "Sequence[CachePool]", dark: "Mapping[str, KvPoolError]", way: "Access"
) -> tuple[Problem, ...]:
    """Return one warning for all pools whose slots are not known."""
    if not dark:
        return ()
    from aibrixctl.kv_k8s import way_in

    first = next(pool for pool in found if pool.full_name in dark)
    error = dark[first.full_name]
    names = ", ".join(list(dark)[:3]) + (f" and {len(dark) - 3} more" if len(dark) > 3 else "")
    hint = way_in(first, way) if error.kind == "unreachable" else error.hint
    message = f"the slots of {names} are not known: {error.message}"
    return (Problem("kv.pools.slots_unknown", message, first.full_name, hint),)
