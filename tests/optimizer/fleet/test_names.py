"""What a type's deployment is called without a cluster, by the order that ``match`` goes by."""

import pytest

from optimizer.errors import OptimizerUsageError
from optimizer.fleet.names import DeploymentName, check_apart, deployment_name, names_of


def test_a_given_name_wins_over_what_was_measured_and_that_over_the_type() -> None:
    named, measured = {"l20": "x/mine"}, {"l20": "serving/llama-l20", "a10": "a10"}
    assert names_of("l20", named, measured) == ["x/mine"]
    assert names_of("l20", {}, measured) == ["serving/llama-l20", "l20"]
    assert names_of("a10", {}, measured) == ["a10"]
    assert names_of("t4", {}, {"t4": None}) == ["t4"]


def test_a_namespace_is_that_of_the_name_then_the_given_one_then_the_usual_one() -> None:
    measured = {"l20": "serving/llama-l20", "a10": "llama-a10"}
    assert deployment_name("l20", {}, measured, "ns") == DeploymentName("serving", "llama-l20")
    assert deployment_name("a10", {}, measured, "ns") == DeploymentName("ns", "llama-a10")
    assumed = deployment_name("a10", {}, measured)
    assert (str(assumed), assumed.assumed) == ("default/llama-a10", True)


@pytest.mark.parametrize("name", ["A10", "a_10", "-a", "a/", "/a", "a/b/c", "n.s/a", "a" * 240])
def test_what_can_not_be_there_is_refused(name: str) -> None:
    with pytest.raises(OptimizerUsageError, match="Kubernetes can't have") as caught:
        deployment_name("l20", {"l20": name}, {})
    assert "--deployment l20=" in caught.value.hint


def test_two_types_have_two_deployments() -> None:
    taken = {"l20": DeploymentName("a", "llama")}
    check_apart("a10", DeploymentName("b", "llama"), taken)
    with pytest.raises(OptimizerUsageError, match="stands for two types, l20 and a10"):
        check_apart("a10", DeploymentName("a", "llama", assumed=True), taken)
