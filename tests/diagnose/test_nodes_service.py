"""How many nodes may go: within the limit, the worst first, and as many as it allows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelerators.errors import UsageError
from diagnose.nodes.node import Node, node_of
from diagnose.nodes.service import Limit, choose, parse_limit
from tests.kube_nodes import node

STATES = ("open", "cordoned", "not ready", "tainted")


def of(name: str, state: str) -> Node:
    obj = node(name, ready="False" if state == "not ready" else "True")
    obj["metadata"] |= {"resourceVersion": "1"}
    taint = {"key": "aibrixctl/accelerator", "value": "unhealthy", "effect": "NoSchedule"}
    obj["spec"] = {"unschedulable": state == "cordoned"}
    obj["spec"]["taints"] = [taint] if state == "tainted" else []
    found = node_of(obj)
    assert found is not None
    return found


@given(data=st.data(), limit=st.builds(Limit, st.integers(0, 5), st.integers(0, 100)))
def test_never_more_out_than_the_limit_and_never_fewer_than_it_allows(
    data: st.DataObject, limit: Limit
) -> None:
    states = data.draw(st.lists(st.sampled_from(STATES), max_size=30))
    pool = [of(f"n{number}", state) for number, state in enumerate(states)]
    names = [one.name for one in pool]
    sick = data.draw(st.permutations(names)) if names else []
    sick = sick[: data.draw(st.integers(0, len(sick)))]
    choice = choose(sick, pool, limit)
    before = {one.name for one in pool if not one.available}
    after = before | set(choice.out)
    most = max(limit.nodes, len(pool) * limit.percent // 100)
    assert len(after) <= max(most, len(before))
    assert not before & set(choice.out)
    assert sorted((*choice.out, *choice.already, *choice.left)) == sorted(sick)
    assert set(choice.already) == before & set(sick)
    if choice.left:
        assert len(after) >= most
    assert [*choice.out, *choice.left] == [name for name in sick if name not in before]


@given(data=st.data(), limit=st.builds(Limit, st.integers(0, 5), st.integers(0, 100)))
def test_one_at_a_time_is_the_same_as_all_at_once(data: st.DataObject, limit: Limit) -> None:
    states = data.draw(st.lists(st.sampled_from(STATES), min_size=1, max_size=12))
    sick = [f"n{number}" for number in range(len(states))]
    at_once = choose(sick, [of(f"n{n}", state) for n, state in enumerate(states)], limit)
    out = []
    for number, name in enumerate(sick):
        pool = [of(f"n{n}", state) for n, state in enumerate(states)]
        if choose([name], pool, limit).out:
            out.append(name)
            states[number] = "cordoned"
    assert tuple(out) == at_once.out


@pytest.mark.parametrize(
    ("text", "total", "most"),
    [("1", 3, 1), ("0", 30, 0), ("25%", 8, 2), ("10%", 3, 1), ("0%", 30, 0), ("7", 3, 7)],
)
def test_a_limit_is_a_number_or_a_share(text: str, total: int, most: int) -> None:
    assert parse_limit(text).of(total) == most


def test_by_default_one_node_or_a_tenth() -> None:
    assert [Limit().of(total) for total in (0, 5, 19, 20, 1000)] == [1, 1, 1, 2, 100]


@pytest.mark.parametrize("text", ["", "-1", "x", "10 %", "101%", "1.5"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected a number of nodes or a share"):
        parse_limit(text)
