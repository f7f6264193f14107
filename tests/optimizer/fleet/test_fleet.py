"""What a plan sees of a cluster: workloads by type, and GPUs that there are."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.api import Api
from cluster.devices import requested
from cluster.kinds import POD
from cluster.nodes import TAINT
from optimizer.errors import OptimizerUsageError
from optimizer.fleet.capacity import read_inventory
from optimizer.fleet.snapshot import read_snapshot
from optimizer.fleet.workloads import find, match, measured_on
from optimizer.problem import GpuType
from tests import fleet

L20 = GpuType("l20", 1.0, (), accelerator="l20")


@pytest.fixture
def node(api: Api) -> Iterator[fleet.MakeNode]:
    with fleet.nodes(api) as make:
        yield make


def test_types_are_the_deployments_of_their_names(api: Api) -> None:
    api.create(fleet.deployment("llama-l20", 4))
    api.create(fleet.deployment("llama-a10", 2))
    api.create(fleet.deployment("llama-t4", 7))
    api.create(fleet.deployment("other", 1, model="n"))
    found = match(api, ["llama-l20", f"{api.namespace}/llama-a10", "llama-l4", "other"], "m")
    assert {kind: w.replicas for kind, w in found.of_type.items()} == {
        "llama-l20": 4,
        f"{api.namespace}/llama-a10": 2,
    }
    assert found.without_workload == {
        "llama-l4": "no deployment is named llama-l4",
        "other": f"deployment {api.namespace}/other serves n, not m",
    }
    assert [workload.name for workload in found.without_type] == ["llama-t4"]


def test_a_type_may_be_named_otherwise_or_be_a_storm_service(api: Api) -> None:
    api.create(fleet.deployment("other", 1, model="n"))
    api.create(fleet.storm_service("pd", 3))
    found = match(api, ["l20", "pd"], "m", {"l20": "other"})
    assert {k: (w.kind.kind, w.replicas) for k, w in found.of_type.items()} == {
        "l20": ("Deployment", 1),
        "pd": ("StormService", 3),
    }
    with pytest.raises(OptimizerUsageError, match="there is no such deployment"):
        match(api, ["l20"], "m", {"l20": "none"})
    with pytest.raises(OptimizerUsageError, match="stands for two types, l20 and other"):
        match(api, ["l20", "other"], "n", {"l20": "other"})


def test_a_type_is_the_deployment_that_was_measured(api: Api) -> None:
    for name in ("llama-l20", "l20", "a10"):
        api.create(fleet.deployment(name, 1))
    inputs = {"tables": [{"target": "l20", "deployment": "llama-l20"}, {"target": "h100"},
                         {"target": "a10", "deployment": "gone"}]}  # fmt: skip
    measured = measured_on(inputs)
    found = match(api, ["l20", "a10"], "m", measured=measured)
    assert {kind: one.name for kind, one in found.of_type.items()} == {
        "l20": "llama-l20",
        "a10": "a10",
    }
    found = match(api, ["l20"], "m", {"l20": "l20"}, measured)
    assert found.of_type["l20"].name == "l20"
    missing = match(api, ["t4"], "m", measured={"t4": "llama-t4"}).without_workload
    assert missing == {"t4": "no deployment is named llama-t4 or t4"}


@pytest.mark.parametrize("name", ["A100 80GB", "a/b/c", "", "..", "x/../y", "a?b"])
def test_names_that_no_object_can_have_are_not_looked_up(api: Api, name: str) -> None:
    assert find(api, name) is None


def test_counts_what_nodes_offer_less_what_others_request(api: Api, node: fleet.MakeNode) -> None:
    first, second = node("NVIDIA-L20", 8), node("NVIDIA-L20", 4)
    api.create(fleet.pod("theirs", first, 3))
    api.create(fleet.pod("init", first, 1, init_gpus=2))
    api.create(fleet.pod("ours", second, 4, labels={"app": "l20"}))
    ended = api.create(fleet.pod("ended", second, 4))
    api.patch(POD, ended["metadata"]["name"], {"status": {"phase": "Succeeded"}},
              subresource="status")  # fmt: skip
    api.create(fleet.deployment("l20", 4))
    ours = find(api, "l20")
    assert ours is not None
    capacity = read_inventory(api, [ours]).of("l20")
    assert (capacity.nodes, capacity.gpus, capacity.taken, capacity.available) == (2, 12, 5, 7)
    assert read_inventory(api, []).of("l20").available == 3


def test_leaves_out_nodes_that_can_not_be_used(api: Api, node: fleet.MakeNode) -> None:
    node("NVIDIA-L20", 1)
    node("NVIDIA-L20", 2, cordoned=True)
    node("NVIDIA-L20", 4, ready="Unknown")
    node("NVIDIA-L20", 8, ready=None)
    node("NVIDIA-L20", 16, healthy="False")
    node("NVIDIA-L20", 32, healthy="True")
    node("NVIDIA-L20", 64, healthy="True", taints=[TAINT])  # healed, and not yet returned
    capacity = read_inventory(api, []).of("l20")
    assert capacity.available == 33
    assert sorted((out.gpus, out.reason) for out in capacity.left_out) == [
        (2, "cordoned"),
        (4, "not ready (KubeletReady)"),
        (8, "not ready"),
        (16, "AcceleratorHealthy is False (NV-XID-79)"),
        (64, "tainted aibrixctl/accelerator=unhealthy:NoSchedule"),
    ]


def test_a_node_that_lost_devices_owes_nothing_to_the_others(
    api: Api, node: fleet.MakeNode
) -> None:
    node("NVIDIA-L20", 4)
    api.create(fleet.pod("theirs", node("NVIDIA-L20", 1), 3))
    assert read_inventory(api, []).of("l20").available == 4


def test_knows_labels_of_other_vendors_and_names_what_it_does_not_know(
    api: Api, node: fleet.MakeNode
) -> None:
    ascend = node("910B3", 8, label="node.kubernetes.io/npu.chip.name",
                  resource="huawei.com/Ascend910")  # fmt: skip
    api.create(fleet.pod("theirs", ascend, 2, resource="huawei.com/Ascend910"))
    node("NVIDIA-L20", 4, label="machine.cluster.vke.volcengine.com/gpu-name")
    node("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", 7)
    node("AMD_Instinct_MI300X", 8, label="amd.com/gpu.product-name", resource="amd.com/gpu")
    node(None, 2)
    node(None, 0)
    found = read_inventory(api, [])
    assert {name: c.available for name, c in found.capacities.items()} == {
        "ascend-910b": 6,
        "l20": 4,
    }
    assert found.unknown == {
        "AMD_Instinct_MI300X": 1,
        "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb": 1,
        "no product label": 1,
    }


def test_what_was_given_wins_over_what_the_cluster_says(api: Api, node: fleet.MakeNode) -> None:
    node("NVIDIA-L20", 4)
    types = [L20, GpuType("big", 1.0, (), accelerator="l20"), GpuType("x", 1.0, ())]
    seen = read_snapshot(api, types, "m", given={"l20": 9})
    assert (seen.available, seen.inventory) == ({"l20": 9}, None)
    seen = read_snapshot(api, types, "m", given={"big": 2, "x": 1})
    assert seen.available == {"l20": 4, "big": 2, "x": 1}
    assert seen.available_from == {"l20": "cluster", "big": "option", "x": "option"}
    none = read_snapshot(api, [GpuType("h", 1.0, (), accelerator="h200")], "m")
    assert none.available == {"h200": 0}


def test_a_type_of_an_unknown_accelerator_is_said_to_be_without_limit(api: Api) -> None:
    types = [GpuType(name, 1.0, ()) for name in ("mine", "yours")]
    seen = read_snapshot(api, types, None, given={"yours": 2})
    assert seen.unlimited == ("mine",)
    assert any("mine: its accelerator is not known" in note for note in seen.notes())


def test_says_what_a_reader_must_know(api: Api) -> None:
    api.create(fleet.deployment("l20", 4))
    api.create(fleet.deployment("spare", 1))
    assert read_snapshot(api, [L20, GpuType("a10", 1.0, ())], "m").notes()[:3] == (
        "a10: no deployment is named a10",
        f"deployment {api.namespace}/spare serves m too, and no table stands for it",
        "l20: 0 of 4 replicas are ready",
    )


counts = st.lists(st.integers(0, 8), max_size=4)


@given(counts, counts, counts)
def test_a_pod_holds_what_runs_together_or_what_came_before(
    main: list[int], lasting: list[int], before: list[int]
) -> None:
    def containers(amounts: list[int], **more: Any) -> list[dict[str, Any]]:
        return [
            {"resources": {"requests": {"nvidia.com/gpu": str(n), "cpu": "500m"}}, **more}
            for n in amounts
        ]

    spec = {
        "containers": containers(main),
        "initContainers": containers(before) + containers(lasting, restartPolicy="Always"),
    }
    assert requested(spec) == max([sum(main) + sum(lasting), *before])
