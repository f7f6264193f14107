"""What a plan would change in a cluster, and what speaks against it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cluster.api import FIELD_MANAGER as OURS
from cluster.api import Api, Object
from cluster.diff import Difference, differences
from cluster.errors import ConflictError
from cluster.kinds import DEPLOYMENT, KINDS, POD_AUTOSCALER, STORM_SERVICE
from optimizer.fleet.workloads import Workload, match, measured_on
from optimizer.plan import Plan
from optimizer.rollout.autoscalers import (
    Autoscaler,
    is_autoscaler,
    owners,
    read_autoscalers,
    scaling,
)
from optimizer.rollout.errors import ChangedError, RefusedError
from optimizer.rollout.step import Ref, Step

Target = Literal["deployment", "podautoscaler", "stormservice"]
_TRIES = 8


@dataclass(frozen=True)
class Draft:
    """A rollout that has not begun.

    Attributes:
        target: what is written.
        host: URL of the API server.
        steps: in the order in which they are taken.
        changes: what each would change, as the server says in a dry run.
        unchanged: types that are as planned.
        notes: what a person must know first.
    """

    target: Target
    host: str
    steps: tuple[Step, ...]
    changes: tuple[tuple[Difference, ...], ...]
    unchanged: tuple[str, ...]
    notes: tuple[str, ...]


def draft(
    api: Api, plan: Plan, target: Target = "deployment", named: Mapping[str, str] | None = None
) -> Draft:
    """Return what applying a plan would do; changes nothing.

    Args:
        api: the cluster.
        plan: what is to run.
        target: what to write: ``replicas`` of Deployments or StormServices, or the bounds of the
            PodAutoscalers that scale them.
        named: name of a type to ``[NAMESPACE/]NAME`` of what runs it.

    Raises:
        ChangedError: the cluster is not what the plan saw.
        RefusedError: nothing runs a type, or an autoscaler stands in the way.
        OptimizerUsageError: ``named`` names what is not there.
        ClusterError: the server refuses or fails.
    """
    workloads = _workloads(api, plan, target, named or {})
    changing = {t: w for t, w in workloads.items() if w.replicas != plan.replicas[t]}
    watched = workloads if target == "podautoscaler" else changing
    autoscalers = [
        one
        for namespace in sorted({workload.namespace for workload in watched.values()})
        for one in read_autoscalers(api, namespace)
    ]
    steps: list[Step] = []
    notes: list[str] = []
    for kind, workload in sorted(watched.items()):
        found = scaling(autoscalers, workload.kind.kind, workload.namespace, workload.name)
        replicas = plan.replicas[kind]
        if target == "podautoscaler":
            steps += _bounds(kind, workload, replicas, _only(workload, found), notes)
        else:
            _refuse_scaled(workload, found)
            steps.append(_replicas(kind, workload, replicas))
    ordered = sorted(steps, key=lambda step: step.lowers("after"))
    seen = [_preview(api, step, notes) for step in ordered]
    changed = {step.type for step in steps}
    return Draft(
        target=target,
        host=api.host,
        steps=tuple(ordered),
        changes=tuple(seen),
        unchanged=tuple(sorted(workloads.keys() - changed)),
        notes=tuple(notes),
    )


def _workloads(
    api: Api, plan: Plan, target: Target, named: Mapping[str, str]
) -> dict[str, Workload]:
    """Return the workload of every type that has one; those planned at 0 may have none."""
    seen = plan.inputs.get("cluster")
    recorded = seen["workloads"] if seen else {}
    found = {
        kind: _as_planned(api, body, plan.replicas[kind])
        for kind, body in recorded.items()
        if kind not in named
    }
    types = named if seen else plan.replicas
    matched = match(api, types, plan.model, named, measured_on(plan.inputs))
    found |= matched.of_type
    missing = {**(seen or {}).get("without_workload", {}), **matched.without_workload}
    again = ", and plan again" if seen else ""
    wanted = STORM_SERVICE if target == "stormservice" else DEPLOYMENT
    for kind, count in sorted(plan.replicas.items()):
        if kind not in found and count:
            raise RefusedError(
                "rollout.no_workload",
                f"the plan wants {count} replicas of {kind}, and nothing runs that type: "
                f"{missing.get(kind, 'the plan saw none')}",
                hint=f"name what runs it, --deployment {kind}=NAME; or make a deployment named "
                f"{kind}{again}",
                target=kind,
            )
        if kind in found and target != "podautoscaler" and found[kind].kind is not wanted:
            raise RefusedError(
                "rollout.target",
                f"{kind} is {found[kind].title}, not a {target}",
                hint=f"--target {found[kind].kind.kind.lower()}",
                target=kind,
            )
    return found


def _as_planned(api: Api, body: Mapping[str, Any], planned: int) -> Workload:
    """Return a workload that a plan recorded, refusing one that has changed since.

    Its status may have: only replicas and generation, which counts changes of the spec, are
    compared. One that has the planned replicas already is no longer to be changed.
    """
    kind = next(k for k in KINDS.values() if k.kind == body["kind"])
    ref = Ref(kind, body["namespace"], body["name"], body["uid"])
    workload = Workload.of(ref.read(api))
    if workload.replicas in (planned, body["replicas"]) and (
        workload.replicas == planned or workload.generation == body["generation"]
    ):
        return workload
    what = (
        f"{body['replicas']} replicas then, {workload.replicas} now"
        if workload.replicas != body["replicas"]
        else f"its spec is of generation {workload.generation}, not {body['generation']}"
    )
    raise ChangedError(
        "rollout.changed",
        f"{workload.title} is not what the plan saw: {what}",
        hint="plan again, with --current k8s",
        target=workload.title,
    )


def _refuse_scaled(workload: Workload, found: list[Autoscaler]) -> None:
    if not found:
        return
    names = ", ".join(one.title for one in found)
    mine = any(one.kind == POD_AUTOSCALER.kind for one in found)
    raise RefusedError(
        "rollout.autoscaled",
        f"{names} scales {workload.title} and would undo it",
        hint="--target podautoscaler sets its bounds instead" if mine else "delete it first",
        target=workload.title,
    )


def _only(workload: Workload, found: list[Autoscaler]) -> Object:
    """Return the one PodAutoscaler of a workload whose bounds decide alone."""
    names = ", ".join(one.title for one in found)
    target = workload.title
    if not found or found[0].kind != POD_AUTOSCALER.kind:
        raise RefusedError(
            "rollout.no_autoscaler",
            f"no podautoscaler scales {target}" + (f", only {names}" if names else ""),
            hint="--target deployment sets its replicas",
            target=target,
        )
    if len(found) > 1:
        raise RefusedError(
            "rollout.autoscalers",
            f"{len(found)} autoscalers scale {target}: {names}",
            hint="keep one of them",
            target=target,
        )
    spec = found[0].object["spec"]
    for field in ("schedules", "subTargetSelector"):
        if spec.get(field):
            raise RefusedError(
                "rollout.autoscaler",
                f"{names} has {field}, which decide beside its bounds",
                hint=f"take {field} out, or leave this autoscaler alone",
                target=target,
            )
    return found[0].object


def _ref(obj: Mapping[str, Any]) -> Ref:
    metadata = obj["metadata"]
    kind = KINDS[obj["apiVersion"], obj["kind"]]
    return Ref(kind, metadata["namespace"], metadata["name"], metadata["uid"])


def _replicas(kind: str, workload: Workload, replicas: int) -> Step:
    ref = Ref(workload.kind, workload.namespace, workload.name, workload.uid)
    return Step(
        type=kind,
        object=ref,
        workload=ref,
        before={"replicas": workload.replicas},
        after={"replicas": replicas},
        replicas_before=workload.replicas,
        replicas_after=replicas,
    )


def _bounds(
    kind: str, workload: Workload, replicas: int, autoscaler: Object, notes: list[str]
) -> Iterator[Step]:
    """Yield the steps that pin an autoscaler to a number of replicas.

    It does not leave 0 while minReplicas is above 0, and refuses maxReplicas 0; from and to 0
    the workload's own replicas are written too.
    """
    spec = autoscaler["spec"]
    before = {"minReplicas": spec.get("minReplicas"), "maxReplicas": spec["maxReplicas"]}
    after = {"minReplicas": replicas, "maxReplicas": max(replicas, 1)}
    own = _replicas(kind, workload, replicas)
    if before != after:
        yield Step(
            type=kind,
            object=_ref(autoscaler),
            workload=own.workload,
            before=before,
            after=after,
            replicas_before=workload.replicas,
            replicas_after=replicas,
        )
    if workload.replicas != replicas and 0 in (workload.replicas, replicas):
        yield own
    if not replicas:
        notes.append(f"{kind}: an autoscaler's maxReplicas can't be 0, so it may start 1 replica")


def _preview(api: Api, step: Step, notes: list[str]) -> tuple[Difference, ...]:
    """Return what the server says a step would change; note who else writes its fields."""
    for _ in range(_TRIES):
        now = step.object.read(api)
        if step.current(now) != dict(step.before):
            break
        try:
            version = now["metadata"]["resourceVersion"]
            made = api.apply(step.body("after", version), dry_run=True, force=True)
        except ConflictError:
            continue  # Only its status may have changed.
        notes += _other_writers(step, now)
        return differences(now, made)
    raise ChangedError(
        "rollout.contended",
        f"{step.object.title} changes while it is read",
        hint="find out what writes it",
        target=step.object.title,
    )


def _other_writers(step: Step, now: Object) -> Iterator[str]:
    others = sorted({name for field in step.after for name in owners(now, "spec", field)} - {OURS})
    fields = " and ".join(f"spec.{field}" for field in step.after)
    if others:
        names = ", ".join(others)
        yield f"{step.object.title}: {names} wrote {fields}, and may set it back"
    if any(map(is_autoscaler, others)) and step.object == step.workload:
        yield f"{step.object.title}: one of these is an autoscaler, but none is seen there now"
