"""Checks of what AIBrix's Redis holds: each yields a line of evidence for every place."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from accelerators.units import format_duration
from optimizer.doctor.facts import Facts, Profile, RedisFacts

_ROUTED_BY = ("tpot", "ttft", "tpat", "e2e")
_MATRICES = ("tputs", "e2e", "ttft", "tpot")


def tracing_off(facts: Facts) -> Iterator[str]:
    """No model's traffic is in Redis at all."""
    traffic = _redis(facts).traffic
    for model in facts.models:
        if model not in traffic:
            yield f"Redis has no key aibrix:{model}_request_trace_*; they are kept for 10 minutes"


def tracing_stale(facts: Facts) -> Iterator[str]:
    """The newest record is older than it should be."""
    for model in facts.models:
        seen = _redis(facts).traffic.get(model)
        if seen is not None and seen.newest_age_s > facts.stale_s:
            yield f"{model}: the newest key is {format_duration(seen.newest_age_s)} old"


def profile_missing(facts: Facts) -> Iterator[str]:
    """No profile has a deployment's name."""
    keys = {profile.key for profile in _redis(facts).profiles}
    for one in facts.serving:
        key = f"aibrix:profile_{one.workload.model}_{one.workload.name}"
        if key not in keys:
            yield f"{one.workload.title}: Redis has no {key}"


def profile_broken(facts: Facts) -> Iterator[str]:
    """A profile is no JSON object or lacks a field."""
    for profile in _ours(facts):
        if profile.document is None:
            yield f"{profile.key} holds no JSON object"
        elif lacking := [
            n for n in ("gpu", "cost", "tputs", "indexes") if n not in profile.document
        ]:
            yield f"{profile.key} lacks {', '.join(lacking)}"


def profile_name(facts: Facts) -> Iterator[str]:
    """A profile's key or ``gpu`` is not a deployment's name."""
    for profile in _ours(facts):
        names = {n for one in facts.serving if one.workload.model == profile.model
                 for n in one.names}  # fmt: skip
        gpu = (profile.document or {}).get("gpu", profile.deployment)
        if profile.deployment not in names:
            yield f"{profile.key}: no deployment {profile.deployment} serves {profile.model}"
        elif gpu not in names:
            yield f"{profile.key} says gpu {gpu!r}, which no deployment of {profile.model} is"
        elif str(gpu).rpartition("/")[2] != profile.deployment:
            yield f"{profile.key} says gpu {gpu!r}, which is another deployment"


def profile_shapes(facts: Facts) -> Iterator[str]:
    """Profiles of a model differ in buckets, or a matrix does not fit its own."""
    by_model: dict[str, list[tuple[Profile, Mapping[str, Any]]]] = defaultdict(list)
    for profile in _ours(facts):
        if profile.document and "indexes" in profile.document:
            by_model[profile.model].append((profile, profile.document))
    for members in by_model.values():
        first, reference = members[0]
        for profile, document in members:
            if document["indexes"] != reference["indexes"]:
                yield (
                    f"{profile.key} has indexes {document['indexes']}, {first.key} has "
                    f"{reference['indexes']}"
                )
            wanted = _sizes(document["indexes"])
            for name in _MATRICES:
                found = _shape(document[name]) if name in document else wanted
                if found != wanted:
                    yield f"{profile.key}: {name} is of shape {found}, its indexes of {wanted}"


def profile_slo(facts: Facts) -> Iterator[str]:
    """A profile lacks an objective, or the latencies, that the gateway routes by."""
    for profile in _ours(facts):
        document = profile.document
        if document is None:
            continue
        slos = document.get("slos")
        if not isinstance(slos, dict) or not any(slos.get(name) for name in _ROUTED_BY):
            yield f"{profile.key}: slos has none of {', '.join(_ROUTED_BY)}"
        if "e2e" not in document:
            yield f"{profile.key} has no matrix e2e"


def model_prefix(facts: Facts) -> Iterator[str]:
    """Profiles of one model are found in the scan for another."""
    profiles = _redis(facts).profiles
    for model in facts.models:
        for profile in profiles:
            if profile.model.startswith(f"{model}_"):
                yield f"the scan for {model} finds {profile.key} of {profile.model}"


def metric_zero(facts: Facts) -> Iterator[str]:
    """An autoscaler by an outside metric stays at its minimum while requests come in."""
    for one in facts.autoscalers:
        serving = facts.serves(one)
        seen = _redis(facts).traffic.get(serving.workload.model or "") if serving else None
        status = one.object.get("status") or {}
        if serving is None or seen is None or "desiredScale" not in status:
            continue
        busy = seen.requests > 0 and seen.newest_age_s <= facts.stale_s
        if busy and status["desiredScale"] <= one.minimum and outside_sources(one.object["spec"]):
            yield (
                f"{one.title} wants {status['desiredScale']}, its minimum, while the gateway saw "
                f"{seen.requests} requests in 10 s"
            )


def outside_sources(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the metric sources that are asked over HTTP at an endpoint of their own."""
    return [
        source
        for source in spec.get("metricsSources") or []
        if source["metricSourceType"] in ("domain", "external") and source.get("endpoint")
    ]


def _redis(facts: Facts) -> RedisFacts:
    assert facts.redis is not None
    return facts.redis


def _ours(facts: Facts) -> Iterator[Profile]:
    return (profile for profile in _redis(facts).profiles if profile.model in facts.models)


def _sizes(indexes: Any) -> tuple[int, ...]:
    ticks = indexes if isinstance(indexes, list) else []
    return tuple(len(axis) if isinstance(axis, list) else 0 for axis in ticks)


def _shape(matrix: Any) -> tuple[int, ...]:
    rows = matrix if isinstance(matrix, list) else []
    widths = {len(row) if isinstance(row, list) else 0 for row in rows}
    return (len(rows), widths.pop()) if len(widths) == 1 else (len(rows), 0)
