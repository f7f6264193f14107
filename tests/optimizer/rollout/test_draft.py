"""What a rollout would change, and what speaks against it."""

from dataclasses import replace
from typing import Any

import pytest

from cluster.api import Api
from cluster.kinds import DEPLOYMENT, HORIZONTAL_POD_AUTOSCALER, POD_AUTOSCALER
from optimizer.fleet.snapshot import read_snapshot
from optimizer.plan import Plan, Savings
from optimizer.rollout.draft import draft
from optimizer.rollout.errors import ChangedError, RefusedError
from tests import fleet


def plan_of(replicas: dict[str, int], **inputs: Any) -> Plan:
    """Return a plan of these replicas; the rest of it matters to nobody here."""
    zeros: dict[str, float] = dict.fromkeys(replicas, 0.0)
    return Plan(
        replicas=replicas, gpus=replicas, replica_usd_per_hour=zeros, cost_usd_per_hour=1.0,
        lower_bound_usd_per_hour=1.0, lp_bound_usd_per_hour=1.0, gap=0.0, solver_status="optimal",
        routing=(), utilization={}, savings=Savings(None, {}), binding=(), next_gpu=(),
        provenance="measured", model="m", slos=(), request_rate=1.0, headroom=0.0, inputs=inputs,
        warnings=(),
    )  # fmt: skip


def planned(api: Api, replicas: dict[str, int]) -> Plan:
    """Return the same, made with --current k8s."""
    from optimizer.problem import GpuType

    seen = read_snapshot(api, [GpuType(name, 1.0, ()) for name in replicas], "m")
    return plan_of(replicas, cluster=seen.to_json())


def autoscaler(name: str, target: str, low: int | None, high: int, **more: Any) -> dict[str, Any]:
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target},
        "maxReplicas": high,
        "scalingStrategy": "KPA",
        **more,
    }
    return {
        "apiVersion": POD_AUTOSCALER.api_version,
        "kind": POD_AUTOSCALER.kind,
        "metadata": {"name": name},
        "spec": spec if low is None else spec | {"minReplicas": low},
    }


def test_more_replicas_come_before_fewer_and_nothing_is_changed_yet(api: Api) -> None:
    for name, count in (("a", 4), ("b", 1), ("c", 2), ("other", 5)):
        api.create(fleet.deployment(name, count))
    found = draft(api, plan_of({"a": 1, "b": 3, "c": 2, "none": 0}))
    assert [step.line() for step in found.steps] == [
        f"deployment {api.namespace}/b: replicas 1 -> 3",
        f"deployment {api.namespace}/a: replicas 4 -> 1",
    ]
    assert [[str(c) for c in changes] for changes in found.changes] == [
        ["~ spec.replicas: 1 -> 3"],
        ["~ spec.replicas: 4 -> 1"],
    ]
    assert found.unchanged == ("c",)
    assert api.get(DEPLOYMENT, "b")["spec"]["replicas"] == 1


def test_a_type_that_nothing_runs_is_refused_unless_it_is_planned_at_0(api: Api) -> None:
    with pytest.raises(RefusedError, match="wants 2 replicas of a, and nothing runs"):
        draft(api, plan_of({"a": 2}))
    assert draft(api, plan_of({"a": 0})).steps == ()


def test_refuses_what_is_not_as_the_plan_saw_it(api: Api) -> None:
    api.create(fleet.deployment("a", 4))
    plan = planned(api, {"a": 2})
    api.patch(DEPLOYMENT, "a", {"status": {"readyReplicas": 4, "replicas": 4}},
              subresource="status")  # fmt: skip
    assert len(draft(api, plan).steps) == 1
    api.patch(DEPLOYMENT, "a", {"spec": {"replicas": 6}})
    with pytest.raises(ChangedError, match="4 replicas then, 6 now"):
        draft(api, plan)
    api.patch(DEPLOYMENT, "a", {"spec": {"replicas": 4}})
    with pytest.raises(ChangedError, match="its spec is of generation 3, not 1"):
        draft(api, plan)
    api.patch(DEPLOYMENT, "a", {"spec": {"replicas": 2}})
    assert draft(api, plan).unchanged == ("a",)
    api.delete(DEPLOYMENT, "a")
    api.create(fleet.deployment("a", 4))
    with pytest.raises(ChangedError, match="deleted and made anew"):
        draft(api, plan)


def test_what_is_named_is_read_anew_and_the_rest_is_as_planned(api: Api) -> None:
    for name in ("a", "b", "spare"):
        api.create(fleet.deployment(name, 4))
    plan = planned(api, {"a": 2, "b": 3})
    found = draft(api, plan, named={"a": "spare"})
    assert [step.object.name for step in found.steps] == ["spare", "b"]
    api.patch(DEPLOYMENT, "b", {"spec": {"replicas": 6}})
    with pytest.raises(ChangedError, match="4 replicas then, 6 now"):
        draft(api, plan, named={"a": "spare"})


def test_a_status_that_changes_meanwhile_is_no_conflict(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.create(fleet.deployment("a", 4))
    apply, disturbed = Api.apply, iter(range(3))

    def contended(own: Api, obj: Any, **more: Any) -> Any:
        if (number := next(disturbed, None)) is not None:
            own.patch(DEPLOYMENT, "a", {"metadata": {"annotations": {"n": str(number)}}})
        return apply(own, obj, **more)

    monkeypatch.setattr(Api, "apply", contended)
    assert draft(api, plan_of({"a": 2})).changes
    assert next(disturbed, None) is None


def test_names_the_autoscaler_that_would_undo_it(api: Api) -> None:
    api.create(fleet.deployment("a", 4))
    api.create(fleet.deployment("b", 1))
    api.create(autoscaler("p", "a", 0, 10))
    with pytest.raises(RefusedError, match=f"podautoscaler {api.namespace}/p scales") as refused:
        draft(api, plan_of({"a": 2, "b": 1}))
    assert "--target podautoscaler" in refused.value.hint
    hpa = {
        "apiVersion": HORIZONTAL_POD_AUTOSCALER.api_version,
        "kind": HORIZONTAL_POD_AUTOSCALER.kind,
        "metadata": {"name": "h"},
        "spec": {
            "maxReplicas": 3,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "b"},
        },
    }
    api.create(hpa)
    with pytest.raises(RefusedError, match=r"horizontalpodautoscaler .*/h scales"):
        draft(api, plan_of({"b": 2}))
    with pytest.raises(RefusedError, match=r"no podautoscaler scales .*, only horizontal"):
        draft(api, plan_of({"b": 2}), "podautoscaler")


def test_says_who_else_sets_the_replicas(api: Api) -> None:
    api.apply(fleet.deployment("a", 4), manager="argocd")
    assert "argocd wrote spec.replicas" in draft(api, plan_of({"a": 2})).notes[0]
    api.apply(fleet.deployment("b", 4), manager="aibrix-controller-manager")
    assert "one of these is an autoscaler" in draft(api, plan_of({"b": 2})).notes[1]


@pytest.mark.parametrize(
    ("running", "wanted", "bounds", "writes"),
    [
        (4, 6, (6, 6), ["podautoscaler"]),
        (4, 4, (4, 4), ["podautoscaler"]),
        (0, 2, (2, 2), ["podautoscaler", "deployment"]),
        (3, 0, (0, 1), ["podautoscaler", "deployment"]),
    ],
)
def test_pins_an_autoscaler_and_moves_what_it_would_not_move_itself(
    api: Api, running: int, wanted: int, bounds: tuple[int, int], writes: list[str]
) -> None:
    api.create(fleet.deployment("a", running))
    api.create(autoscaler("p", "a", None, 10))
    found = draft(api, plan_of({"a": wanted}), "podautoscaler")
    assert [step.object.kind.kind.lower() for step in found.steps] == writes
    assert found.steps[0].after == {"minReplicas": bounds[0], "maxReplicas": bounds[1]}
    assert found.steps[0].before == {"minReplicas": None, "maxReplicas": 10}


def test_refuses_autoscalers_whose_bounds_do_not_decide_alone(api: Api) -> None:
    api.create(fleet.deployment("a", 4))
    hours = {"name": "day", "startTime": "08:00", "endTime": "20:00", "minReplicas": 3}
    api.create(autoscaler("p", "a", 0, 10, schedules=[hours]))
    with pytest.raises(RefusedError, match="has schedules"):
        draft(api, plan_of({"a": 2}), "podautoscaler")
    api.create(autoscaler("q", "a", 0, 10))
    with pytest.raises(RefusedError, match="2 autoscalers scale"):
        draft(api, plan_of({"a": 2}), "podautoscaler")


def test_the_kind_of_the_target_must_be_that_of_the_workload(api: Api) -> None:
    api.create(fleet.storm_service("pd", 3))
    with pytest.raises(RefusedError, match=r"is stormservice .*, not a deployment") as refused:
        draft(api, plan_of({"pd": 4}))
    assert refused.value.hint == "--target stormservice"
    found = draft(api, plan_of({"pd": 4}), "stormservice")
    assert [str(change) for change in found.changes[0]] == ["~ spec.replicas: 3 -> 4"]


def test_a_plan_without_the_cluster_is_applied_to_what_is_there(api: Api) -> None:
    api.create(fleet.deployment("llama-a", 4))
    plan = replace(plan_of({"a": 2}), model="other")
    assert [step.line() for step in draft(api, plan, named={"a": "llama-a"}).steps] == [
        f"deployment {api.namespace}/llama-a: replicas 4 -> 2"
    ]
