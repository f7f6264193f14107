"""Gather the facts: from a cluster, and from AIBrix's Redis."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cluster import labels
from cluster.api import Api, Object
from cluster.errors import ForbiddenError, NotFoundError
from cluster.kinds import DEPLOYMENT, STORM_SERVICE
from optimizer.doctor.facts import Facts, Gateway, Need, Profile, RedisFacts, Serving, Traffic
from optimizer.errors import OptimizerError
from optimizer.fleet.workloads import Workload
from optimizer.rollout.autoscalers import read_autoscalers

if TYPE_CHECKING:
    import redis

TRACING = "AIBRIX_GPU_OPTIMIZER_TRACING_FLAG"
_GATEWAYS = ("aibrix-gateway-plugins", "gateway-plugins")
_CONTROLLERS = ("aibrix-controller-manager", "controller-manager")
_PROFILE = re.compile(r"aibrix:profile_(.+)_([^_]+)", re.DOTALL)
_TRACE = re.compile(r"aibrix:(.+)_request_trace_(\d{1,12})", re.DOTALL)


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
    answer: Any = client.time()
    return RedisFacts(
        tuple(_profiles(client)), _traffic(client, float(answer[0]) + float(answer[1]) / 1e6)
    )


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
    listed: Any = client.scan_iter("aibrix:profile_*", count=1000, _type="string")
    for key in sorted(key.decode("utf-8", "replace") for key in set(listed)):
        match = _PROFILE.fullmatch(key)
        raw: Any = client.get(key)
        if match and raw is not None:
            yield Profile(key, match[1], match[2], _object(raw))


def _traffic(client: "redis.Redis", now_s: float) -> dict[str, Traffic]:
    listed: Any = client.scan_iter("aibrix:*_request_trace_*", count=1000)
    newest: dict[str, tuple[int, str]] = {}
    for key in (key.decode("utf-8", "replace") for key in listed):
        match = _TRACE.fullmatch(key)
        if match:
            newest[match[1]] = max(newest.get(match[1], (0, "")), (int(match[2]), key))
    found = {}
    for model, (at_s, key) in sorted(newest.items()):
        value = _object(client.get(key)) or {}
        requests = value.get("meta_total_reqs", 0)
        count = requests if isinstance(requests, int) else 0
        found[model] = Traffic(max(now_s - at_s, 0.0), count)
    return found


def _object(raw: Any) -> dict[str, Any] | None:
    try:
        found = json.loads(raw) if raw is not None else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
