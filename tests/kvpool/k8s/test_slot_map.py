"""Every node of a map leads to one pod, to a stranger, or nowhere."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from kvpool.entry import Node
from kvpool.k8s.pods import PoolPod
from kvpool.k8s.resources import CachePool
from kvpool.k8s.slot_map import count_slots, join, read_maps
from kvpool.placement import TOTAL_SLOTS

_HOSTS = st.sampled_from([f"10.0.0.{number}" for number in range(6)])


def pod(name: str, host: str, *, ready: bool = True, phase: str = "Running") -> PoolPod:
    return PoolPod("ns", name, "kv", "cache", "node", phase, False, ready, "", (host,), ())


def pool(pods: Sequence[PoolPod]) -> CachePool:
    wanted = {"cache": len(pods), "metadata": 1, "kvwatcher": 1}
    return CachePool("ns", "kv", "distributed", "infinistore", wanted, None, tuple(pods))


_PODS = st.lists(st.tuples(_HOSTS, st.booleans(), st.booleans()), max_size=5).map(
    lambda rows: [
        pod(f"kv-{n}", host, ready=ready, phase="Running" if runs else "Pending")
        for n, (host, ready, runs) in enumerate(rows)
    ]
)
_RANGES = st.lists(st.tuples(st.integers(-3, 4100), st.integers(-3, 4100)), max_size=4).map(tuple)
_NODES = st.lists(
    st.builds(
        lambda number, host, slots: Node(f"kv-{number}", f"{host}:1", slots),
        st.integers(0, 6),
        _HOSTS,
        _RANGES,
    ),
    max_size=6,
)


@given(_PODS, _NODES, _HOSTS)
def test_no_node_is_lost_or_told_twice(
    pods: list[PoolPod], nodes: list[Node], stranger: str
) -> None:
    other = replace(pod("other-0", stranger), pool="other")
    found = join(pool(pods), nodes, [other])
    told = [n for part in (found.matched, found.foreign, found.stale) for n, _ in part]
    assert sorted(told, key=repr) == sorted(nodes, key=repr)
    for node, owner in found.matched:
        assert owner.phase == "Running"
        assert node.address == f"{owner.addresses[0]}:1"
    assert not {p for n, p in found.matched if n.slot_count} & set(found.unmapped)
    assert {p.name for p in found.unmapped} <= {p.name for p in pods}


@given(_PODS, _NODES)
def test_slots_behind_ready_pods_are_some_of_those_held(
    pods: list[PoolPod], nodes: list[Node]
) -> None:
    counted = count_slots(pool(pods), nodes)
    assert 0 <= counted.on_ready_pods <= counted.held <= counted.total == TOTAL_SLOTS
    if not any(p.ready and p.phase == "Running" for p in pods):
        assert counted.on_ready_pods == 0


def test_pools_without_a_map_are_not_asked() -> None:
    def opener(url: object) -> None:
        raise AssertionError(url)

    assert read_maps([pool([])], opener) == {}  # type: ignore[arg-type]
