"""Checks of what the cluster says: each yields a line of evidence for every place."""

import re
from collections.abc import Iterator

from cluster import labels
from cluster.kinds import POD_AUTOSCALER
from cluster.objects import conditions
from optimizer.doctor.facts import Facts, Gateway
from optimizer.doctor.gather import TRACING
from optimizer.doctor.redis_checks import outside_sources
from optimizer.rollout.autoscalers import Autoscaler, scaling

_READ = frozenset(
    {
        "max-scale-up-rate",
        "max-scale-down-rate",
        "scale-up-tolerance",
        "scale-down-tolerance",
        "panic-threshold",
        "scale-up-cooldown-window",
        "scale-down-cooldown-window",
        "scale-to-zero",
    }
)
_NAME_LABEL = "app.kubernetes.io/name"
_AFFECTED = re.compile(r":v?0\.7(\.|-|$)")
_VERSIONED = re.compile(r":v?\d+\.\d+")


def tracing_flag(facts: Facts) -> Iterator[str]:
    """The gateway's tracing flag is not ``true``."""
    gateway = _gateway(facts)
    if not gateway.traces:
        found = "is not set" if gateway.tracing is None else f"is {gateway.tracing!r}"
        yield f"{gateway.title}: {TRACING} {found}"


def gateways(facts: Facts) -> Iterator[str]:
    """More than one gateway writes the counts."""
    gateway = _gateway(facts)
    if gateway.replicas > 1 and gateway.traces:
        yield f"{gateway.title} has {gateway.replicas} replicas, and they trace into one Redis"


def name_label(facts: Facts) -> Iterator[str]:
    """A pod's name label is not its deployment's name."""
    for one in facts.serving:
        label = one.pod_labels.get(_NAME_LABEL)
        if label not in (None, one.workload.name):
            yield f"{one.workload.title}: its pods have {_NAME_LABEL}={label}"


def path_ignored(facts: Facts) -> Iterator[str]:
    """A metric source has a path, and the controller is of a version that drops it."""
    image = facts.controller_image
    if image and _VERSIONED.search(image) and not _AFFECTED.search(image):
        return
    version = f"the controller is {image}" if image else "the controller's version is not known"
    for one in _pod_autoscalers(facts):
        for source in outside_sources(one.object["spec"]):
            path = source.get("path")
            if path and path.strip("/") != "metrics":
                yield f"{one.title}: path {path} at {source['endpoint']}; {version}"


def minimum(facts: Facts) -> Iterator[str]:
    """Something keeps replicas of a type that the plan does not use."""
    unwanted = {name for name, count in (facts.planned or {}).items() if count == 0}
    for one in facts.serving:
        if not unwanted & set(one.names):
            continue
        if one.minimum not in (None, "0"):
            yield f"{one.workload.title}: {labels.MIN_REPLICAS}={one.minimum}"
        place = one.workload.kind.kind, one.workload.namespace, one.workload.name
        for scaler in scaling(facts.autoscalers, *place):
            if scaler.minimum > 0:
                yield f"{scaler.title}: minReplicas {scaler.minimum}"


def at_zero(facts: Facts) -> Iterator[str]:
    """A workload has 0 replicas, and its autoscaler takes it for switched off."""
    for one in _pod_autoscalers(facts):
        serving, scheduled = facts.serves(one), one.object["spec"].get("schedules")
        if serving and serving.workload.replicas == 0 and one.minimum and not scheduled:
            yield f"{serving.workload.title} has 0 replicas, {one.title} minReplicas {one.minimum}"


def annotation(facts: Facts) -> Iterator[str]:
    """An annotation looks like AIBrix's, and no code reads it."""
    for one in _pod_autoscalers(facts):
        for key, value in sorted((one.object["metadata"].get("annotations") or {}).items()):
            domain, _, name = key.partition("/")
            ours = domain == "autoscaling.aibrix.ai" and name in _READ
            if domain.endswith("autoscaling.aibrix.ai") and not ours:
                yield f"{one.title}: {key}={value}"


def conflict(facts: Facts) -> Iterator[str]:
    """Several autoscalers have one target, or AIBrix says so."""
    for place in sorted({one.target for one in facts.autoscalers}):
        several = scaling(facts.autoscalers, *place)
        if len(several) > 1:
            names = ", ".join(one.title for one in several)
            yield f"{place[0].lower()} {place[1]}/{place[2]}: {names}"
    for one in _pod_autoscalers(facts):
        # AIBrix sets it, to False, while there is a conflict, and takes it away after.
        found = conditions(one.object).get("MultiPodAutoscalerConflict")
        if found:
            yield f"{one.title}: {found.get('message') or 'MultiPodAutoscalerConflict'}"


def target(facts: Facts) -> Iterator[str]:
    """An autoscaler's target is not there."""
    for one in facts.autoscalers:
        kind, namespace, name = one.target
        if kind in ("Deployment", "StormService") and one.target not in facts.workloads:
            yield f"{one.title}: there is no {kind.lower()} {namespace}/{name}"


def invalid(facts: Facts) -> Iterator[str]:
    """A condition says that the autoscaler can't work."""
    for one in _pod_autoscalers(facts):
        for name in ("ValidSpec", "AbleToScale"):
            found = conditions(one.object).get(name, {})
            if found.get("status") == "False":
                yield f"{one.title}: {name}=False: {found.get('message') or 'no message'}"
                break


def at_maximum(facts: Facts) -> Iterator[str]:
    """An autoscaler wants all that it may have."""
    for one in _pod_autoscalers(facts):
        most = one.object["spec"]["maxReplicas"]
        if (one.object.get("status") or {}).get("desiredScale") == most:
            yield f"{one.title}: maxReplicas {most}"


def unscaled(facts: Facts) -> Iterator[str]:
    """A workload of the model has no autoscaler."""
    scaled = {one.target for one in facts.autoscalers}
    for one in facts.serving:
        found = one.workload
        if (found.kind.kind, found.namespace, found.name) not in scaled:
            yield found.title


def _gateway(facts: Facts) -> Gateway:
    assert facts.gateway is not None
    return facts.gateway


def _pod_autoscalers(facts: Facts) -> Iterator[Autoscaler]:
    return (one for one in facts.autoscalers if one.kind == POD_AUTOSCALER.kind)
