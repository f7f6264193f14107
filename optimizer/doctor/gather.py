"""Gather the facts: from a cluster, and from AIBrix's Redis."""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cluster import labels
from cluster.api import Api, Object
from cluster.errors import ForbiddenError, NotFoundError
from cluster.kinds import DEPLOYMENT, STORM_SERVICE
from optimizer.doctor.facts import Facts, Gateway, Need, Profile, RedisFacts, Serving, Traffic
from optimizer.errors import OptimizerError
from optimizer.fleet.workloads import Workload
from optimizer.live.gateway import list_slots, server_time_s, slot_key
from optimizer.rollout.autoscalers import read_autoscalers
from profiler.interop.aibrix_stored import list_profiles, parse_key

if TYPE_CHECKING:
    import redis

TRACING = "AIBRIX_GPU_OPTIMIZER_TRACING_FLAG"
_GATEWAYS = ("aibrix-gateway-plugins", "gateway-plugins")
_CONTROLLERS = ("aibrix-controller-manager", "controller-manager")


def read_cluster(api: Api, *, model: str | None = None, system: str = "aibrix-system") -> Facts:
    """Return what the cluster says of the models in a namespace.

    Args:
        api: the cluster.
        model: one model; None takes all.
        system: namespace of AIBrix itself. Where it can't be read, the checks that need it stay
            open.

    Raises:
        OptimizerError: nothing serves the model.
        ClusterError: the server refuses or fails.
    """
    found = list(_scalable(api))
    serving = tuple(
        Serving(
            workload,
            ((obj["spec"].get("template") or {}).get("metadata") or {}).get("labels") or {},
            (obj["metadata"].get("labels") or {}).get(labels.MIN_REPLICAS),
        )
        for obj in found
        if (workload := Workload.of(obj)).model and model in (None, workload.model)
    )
    if not serving:
        raise OptimizerError(
            "doctor.no_model",
            f"nothing in namespace {api.namespace} serves "
            + (f"model {model!r}" if model else f"a model: no deployment has {labels.MODEL}"),
            hint="name the namespace with --namespace, and the model as its label does",
            target=model,
        )
    ours = {(one.workload.kind.kind, one.workload.name) for one in serving}
    everything = frozenset((o["kind"], api.namespace, o["metadata"]["name"]) for o in found)
    autoscalers = tuple(
        one
        for one in read_autoscalers(api, None)
        if model is None or (one.target[0], one.target[2]) in ours or one.target not in everything
    )
    gateway, image, missing = _system(api, system)
    return Facts(
        models=tuple(sorted({one.workload.model or "" for one in serving})),
        serving=serving,
        workloads=everything,
        autoscalers=autoscalers,
        controller_image=image,
        gateway=gateway,
        missing=missing,
    )


def read_redis(client: "redis.Redis") -> RedisFacts:
    """Return the profiles and the newest traffic that a Redis holds."""
    return RedisFacts(tuple(_profiles(client)), dict(_traffic(client)))


def _scalable(api: Api) -> Iterator[Object]:
    yield from api.list(DEPLOYMENT)
    try:
        yield from api.list(STORM_SERVICE)
    except NotFoundError:
        return


def _system(api: Api, namespace: str) -> tuple[Gateway | None, str | None, dict[Need, str]]:
    try:
        listed = {found["metadata"]["name"]: found for found in api.list(DEPLOYMENT, namespace)}
    except ForbiddenError as error:
        return None, None, {"gateway": error.message}
    gateway = next((listed[name] for name in _GATEWAYS if name in listed), None)
    controller = next((listed[name] for name in _CONTROLLERS if name in listed), None)
    image = next((c["image"] for c in _containers(controller) if "controller" in c["image"]), None)
    if gateway is None:
        reason = f"no deployment {' or '.join(_GATEWAYS)} is in namespace {namespace}"
        return None, image, {"gateway": reason}
    flags = [
        str(variable.get("value", ""))
        for container in _containers(gateway)
        for variable in container.get("env") or []
        if variable["name"] == TRACING
    ]
    title = f"deployment {namespace}/{gateway['metadata']['name']}"
    replicas = int(gateway["spec"].get("replicas", 1))
    return Gateway(title, replicas, flags[0] if flags else None), image, {}


def _containers(deployment: Object | None) -> list[Mapping[str, Any]]:
    return [] if deployment is None else list(deployment["spec"]["template"]["spec"]["containers"])


def _profiles(client: "redis.Redis") -> Iterator[Profile]:
    for key in sorted(key for keys in list_profiles(client).values() for key in keys):
        raw: Any = client.get(key)
        named = parse_key(key)
        if named and raw is not None:
            yield Profile(key, *named, _object(raw))


def _traffic(client: "redis.Redis") -> Iterator[tuple[str, Traffic]]:
    now_s = server_time_s(client)
    for model, times in list_slots(client).items():
        value = _object(client.get(slot_key(model, times[-1]))) or {}
        requests = value.get("meta_total_reqs", 0)
        count = requests if isinstance(requests, int) else 0
        yield model, Traffic(max(now_s - times[-1], 0.0), count)


def _object(raw: Any) -> dict[str, Any] | None:
    try:
        found = json.loads(raw) if raw is not None else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
