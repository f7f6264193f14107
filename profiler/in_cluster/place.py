"""Where a target in the cluster answers, and what it serves: Service, port and AIBrix's labels.

A table is of one replica. AIBrix's Services select by model, so one Service often leads to the
pods of several deployments, on several GPU types: a Service is used only where it leads to one
ready pod of the deployment and to no other; else the pod is asked directly, and that is said.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from cluster.api import Api, Object
from cluster.devices import accelerator_of, product_of, requested
from cluster.errors import ForbiddenError, NotFoundError
from cluster.kinds import DEPLOYMENT, NODE, POD, SERVICE
from cluster.labels import ENGINE, MODEL, PORT
from cluster.pods import is_ready, why_not_ready
from cluster.selectors import labels_text, to_text
from profiler.errors import EngineUnreachableError, ProfilerUsageError

_DEFAULT_PORT, _DEFAULT_ENGINE = 8000, "vllm"
_REF = re.compile(
    r"^k8s:(?P<kind>deployment|service)/((?P<namespace>[a-z0-9-]+)/)?(?P<name>[a-z0-9][a-z0-9.-]*)$"
)
FORMS = "write k8s:deployment/NAME or k8s:service/NAME, with NAMESPACE/ before NAME if need be"


@dataclass(frozen=True)
class Ref:
    """What the user named: ``k8s:deployment/[NAMESPACE/]NAME`` or ``k8s:service/…``."""

    kind: Literal["deployment", "service"]
    name: str
    namespace: str | None = None


@dataclass(frozen=True)
class Place:
    """Where a target answers.

    Attributes:
        namespace: of the target.
        host: a pod's address, or the DNS name of a Service within the cluster.
        port: of the engine's API there.
        forward: what ``kubectl port-forward`` takes for it, such as ``service/foo``.
        model: that it serves by its label; None without one.
        engine: by its label.
        pods: ready pods that it leads to; None where that can't be known.
        notes: what a reader of the figures must know.
        accelerator: of the pod's node, as ``accelerators`` names it; None where it isn't known.
        gpus: that the pod holds; None where it is not one pod, or holds none.
    """

    namespace: str
    host: str
    port: int
    forward: str
    model: str | None
    engine: str
    pods: int | None
    notes: tuple[str, ...] = ()
    accelerator: str | None = None
    gpus: int | None = None

    @property
    def url(self) -> str:
        """The URL by which pods reach it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def to_json(self) -> dict[str, Any]:
        """Return the form shown to users."""
        return {
            "namespace": self.namespace,
            "url": self.url,
            "model": self.model,
            "engine": self.engine,
            "pods": self.pods,
            "notes": list(self.notes),
        }


def parse_ref(text: str) -> Ref:
    """Return what a text such as ``k8s:deployment/foo`` names; raises ProfilerUsageError."""
    match = _REF.match(text)
    if match is None:
        raise ProfilerUsageError(
            "target.k8s", f"{text!r} names nothing in a cluster", hint=FORMS, target=text
        )
    return Ref("deployment" if match["kind"] == "deployment" else "service", match["name"],
               match["namespace"])  # fmt: skip


def deployment_of(where: str | None) -> str | None:
    """Return ``[NAMESPACE/]NAME`` of the Deployment that a target names; None for other targets."""
    match = _REF.match(where or "")
    if match is None or match["kind"] != "deployment":
        return None
    return f"{match['namespace']}/{match['name']}" if match["namespace"] else match["name"]


def locate(api: Api, ref: Ref) -> Place:
    """Return where a target answers.

    Raises:
        ClusterError: there is no such object, or it may not be read.
        EngineUnreachableError: none of its pods is ready.
        ProfilerUsageError: its labels or ports leave open where to ask.
    """
    namespace = ref.namespace or api.namespace
    if ref.kind == "service":
        return _of_service(api, api.get(SERVICE, ref.name, namespace), namespace)
    return _of_deployment(api, api.get(DEPLOYMENT, ref.name, namespace), namespace)


def _of_deployment(api: Api, deployment: Object, namespace: str) -> Place:
    name = deployment["metadata"]["name"]
    template = deployment["spec"]["template"]
    pod_labels = template["metadata"].get("labels") or {}
    labels = {**(deployment["metadata"].get("labels") or {}), **pod_labels}
    port = _port(labels, f"deployment {name}")
    selector = to_text(deployment["spec"]["selector"])
    pods = list(api.list(POD, namespace, labels=selector))
    ready = sorted(filter(_serves, pods), key=lambda pod: str(pod["metadata"]["name"]))
    if not ready:
        raise _none_ready(f"deployment {namespace}/{name}", pods)
    known = (labels.get(MODEL), labels.get(ENGINE) or _DEFAULT_ENGINE)
    reasons = []
    for service in api.list(SERVICE, namespace):
        service_port = _service_port(service, pod_labels, port, template["spec"])
        if service_port is None:
            continue
        title = service["metadata"]["name"]
        behind = _behind(api, service, namespace)
        if [pod["metadata"]["name"] for pod in behind] == [ready[0]["metadata"]["name"]]:
            host = f"{title}.{namespace}.svc"
            found = Place(namespace, host, service_port, f"service/{title}", *known, 1)
            return _with_devices(api, found, ready[0])
        reasons.append(f"service {title} leads to {len(behind)} ready pods")
    pod = ready[0]
    why = "; ".join(reasons) or "no Service leads to it"
    note = (
        f"{why}: pod {pod['metadata']['name']}, 1 of {len(ready)} of {name}, was asked directly, "
        "since a table is of one replica"
    )
    forward = f"pod/{pod['metadata']['name']}"
    found = Place(namespace, pod["status"]["podIP"], port, forward, *known, 1, (note,))
    return _with_devices(api, found, pod)


def _of_service(api: Api, service: Object, namespace: str) -> Place:
    name = service["metadata"]["name"]
    selector = service["spec"].get("selector") or {}
    behind = _behind(api, service, namespace) if selector else None
    if behind is not None and not behind:
        selected = api.list(POD, namespace, labels=labels_text(selector))
        raise _none_ready(f"service {namespace}/{name}", list(selected))
    first = (behind[0]["metadata"].get("labels") or {}) if behind else {}
    labels = {**first, **selector, **(service["metadata"].get("labels") or {})}
    port = _only_port(service, _port(labels, f"service {name}"))
    count = None if behind is None else len(behind)
    notes = () if count in (None, 1) else (f"figures are of the {count} pods of service {name}",)
    found = Place(
        namespace,
        f"{name}.{namespace}.svc",
        port,
        f"service/{name}",
        labels.get(MODEL),
        labels.get(ENGINE) or _DEFAULT_ENGINE,
        count,
        notes,
    )
    return _with_devices(api, found, behind[0]) if behind and count == 1 else found


def _with_devices(api: Api, place: Place, pod: Object) -> Place:
    """Return the place with the GPUs that its pod holds, and a note where their type is unknown."""
    gpus = requested(pod["spec"])
    name = pod["spec"].get("nodeName")
    if not gpus or not name:
        return place
    try:
        product = product_of(api.get(NODE, name))
    except (ForbiddenError, NotFoundError) as error:
        accelerator, why = None, error.message
    else:
        accelerator = accelerator_of(product) if product else None
        why = f"it is labelled {product}" if product else "it has no product label"
    note = f"the type of the GPUs of node {name} is not known: {why}"
    notes = place.notes if accelerator else (*place.notes, note)
    return replace(place, accelerator=accelerator, gpus=gpus, notes=notes)


def _none_ready(what: str, pods: list[Object]) -> EngineUnreachableError:
    reasons = sorted(set(map(why_not_ready, pods)))
    why = f" ({'; '.join(reasons)})" if reasons else ""
    return EngineUnreachableError(
        "k8s.no_ready_pod",
        f"{what} has no ready pod of {len(pods)}{why}",
        hint="scale it up, or wait until a pod is ready",
        target=what,
    )


def _port(labels: Mapping[str, str], what: str) -> int:
    text = labels.get(PORT) or str(_DEFAULT_PORT)
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise ProfilerUsageError("k8s.port", f"label {PORT} of {what} is {text!r}; expected a port")
    return int(text)


def _behind(api: Api, service: Object, namespace: str) -> list[Object]:
    """Return the ready pods that a Service leads to."""
    selector = labels_text(service["spec"]["selector"])
    return list(filter(_serves, api.list(POD, namespace, labels=selector)))


def _serves(pod: Object) -> bool:
    """Return whether a pod takes requests, and says where."""
    return is_ready(pod) and bool(pod["status"].get("podIP"))


def _service_port(
    service: Object, pod_labels: Mapping[str, str], port: int, pod_spec: Object
) -> int | None:
    """Return the port by which a Service leads to a port of pods; None when it does not."""
    selector = service["spec"].get("selector") or {}
    if not selector or not selector.items() <= pod_labels.items():
        return None
    targets = {port, *_port_names(pod_spec, port)}
    for one in service["spec"].get("ports") or []:
        if one.get("targetPort", one["port"]) in targets:
            return int(one["port"])
    return None


def _port_names(pod_spec: Object, port: int) -> Iterator[str]:
    for container in pod_spec.get("containers") or []:
        for one in container.get("ports") or []:
            if one.get("containerPort") == port and one.get("name"):
                yield one["name"]


def _only_port(service: Object, engine_port: int) -> int:
    """Return the port of a Service that leads to the engine's API."""
    ports = service["spec"].get("ports") or []
    fitting = [one for one in ports if one.get("targetPort", one["port"]) == engine_port]
    chosen = fitting[0] if fitting else ports[0] if len(ports) == 1 else None
    if chosen is None:
        listed = ", ".join(f"{one.get('name', '?')} {one['port']}" for one in ports) or "none"
        raise ProfilerUsageError(
            "k8s.port",
            f"service {service['metadata']['name']} has ports {listed}; which is the API?",
            hint=f"label it {PORT}=PORT",
        )
    return int(chosen["port"])
