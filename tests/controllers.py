"""What controllers would do, where none runs: start replicas, keep to autoscalers' bounds."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cluster.access import Access, connect
from cluster.api import Api, Object
from cluster.errors import ClusterError, NotFoundError
from cluster.kinds import DEPLOYMENT, POD_AUTOSCALER, STORM_SERVICE, Kind

_GLANCE_S = 0.05
Starts = Callable[[str, int], int]
"""How many of a workload's replicas come up, by its name and how many are wanted."""


def all_start(name: str, wanted: int) -> int:
    return wanted


@contextmanager
def controllers(access: Access, starts: Starts = all_start) -> Iterator[None]:
    """Run them for the block, in one namespace."""
    done = threading.Event()
    thread = threading.Thread(target=_run, args=(access, starts, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(30)


def _run(access: Access, starts: Starts, done: threading.Event) -> None:
    with connect(access) as api:
        while not done.wait(_GLANCE_S):
            try:
                settle(api, starts)
            except ClusterError:
                continue  # An object changed meanwhile, or the server restarts.


def settle(api: Api, starts: Starts = all_start) -> None:
    """Bring workloads and their status to what their spec and their autoscalers say, once."""
    for scaler in _known(api, POD_AUTOSCALER):
        _scale(api, scaler)
    for kind in (DEPLOYMENT, STORM_SERVICE):
        for found in _known(api, kind):
            wanted = found["spec"].get("replicas", 1)
            status = {
                "observedGeneration": found["metadata"]["generation"],
                "replicas": wanted,
                "readyReplicas": starts(found["metadata"]["name"], wanted),
            }
            if any((found.get("status") or {}).get(k, 0) != v for k, v in status.items()):
                api.patch(kind, found["metadata"]["name"], {"status": status},
                          subresource="status")  # fmt: skip


def _known(api: Api, kind: Kind) -> Iterator[Object]:
    try:
        yield from api.list(kind)
    except NotFoundError:
        return  # A server without AIBrix's types.


def _scale(api: Api, scaler: Object) -> None:
    """Keep a workload within the bounds, as AIBrix does: one at 0 stays there unless min is 0."""
    spec = scaler["spec"]
    name = spec["scaleTargetRef"]["name"]
    kind = STORM_SERVICE if spec["scaleTargetRef"]["kind"] == STORM_SERVICE.kind else DEPLOYMENT
    now = api.get(kind, name)["spec"]["replicas"]
    low, high = spec.get("minReplicas", 1), spec["maxReplicas"]
    wanted = now if now == 0 else min(max(now, low), high)
    if wanted != now:
        api.patch(kind, name, {"spec": {"replicas": wanted}})
