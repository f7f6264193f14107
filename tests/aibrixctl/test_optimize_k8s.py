"""A plan made against a cluster: what runs, what there is, and where each value came from."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from cluster.api import Api
from optimizer.plan import load
from profiler.table import save
from tests import fleet
from tests.kube import Server
from tests.optimizer.problems import make_table

Cli = Callable[..., Any]
TABLES = ("--profiles", "profiles", "--workload", "trace.csv", "--rate", "30")


@pytest.fixture
def reached(kube: Server, api: Api, monkeypatch: pytest.MonkeyPatch) -> Iterator[fleet.MakeNode]:
    """Tables of an A10 and an L20 and a trace, and the cluster as the default one."""
    monkeypatch.setenv("KUBECONFIG", str(kube.kubeconfig))
    Path("profiles").mkdir()
    for name, rates, cost in (("a10", [[6.0, 3.0], [2.0, 1.0]], 0.5),
                              ("l20", [[20.0, 14.0], [9.0, 5.0]], 2.0)):  # fmt: skip
        save(make_table(name, rates, cost=cost), f"profiles/{name}.table.json")
    lines = [
        f"2024-01-01 00:00:{second:02d},100,{30 if second % 2 else 120}" for second in range(60)
    ]
    Path("trace.csv").write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *lines]))
    with fleet.nodes(api) as make:
        yield make


def test_plans_with_what_runs_and_what_there_is(
    cli: Cli, api: Api, reached: fleet.MakeNode, snapshot: SnapshotAssertion
) -> None:
    api.create(fleet.deployment("a10", 2))
    api.create(fleet.deployment("llama-l20", 3))
    api.create(fleet.pod("theirs", reached("NVIDIA-A10", 4), 1))
    broken = reached("NVIDIA-A10", 8, healthy="False")
    words = (*TABLES, "--current", "k8s", "-n", api.namespace)
    outcome = cli(
        "optimize", "plan", *words, "--deployment", "l20=llama-l20", "--available", "l20=16",
        "--out", "plan.json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    shown = outcome.out.replace(api.namespace, "NAMESPACE").replace(api.host, "HOST")
    assert shown.replace(broken, "NODE") == snapshot
    plan = load("plan.json")
    assert plan.savings.current is not None
    assert plan.savings.current.replicas == {"a10": 2, "l20": 3}
    assert plan.inputs["limits"]["available_gpus"] == {"a10": 3, "l20": 16}
    assert plan.replicas["a10"] <= 3


def test_a_plan_without_gpus_says_so(cli: Cli, api: Api, reached: fleet.MakeNode) -> None:
    outcome = cli("optimize", "plan", *TABLES, "--current", "k8s", "-n", api.namespace)
    assert outcome.code == 11
    assert "available a10: 0 GPUs = 0 on 0 nodes" in outcome.err


def test_plans_nothing_for_a_namespace_that_is_not_there(cli: Cli, reached: fleet.MakeNode) -> None:
    outcome = cli("optimize", "plan", *TABLES, "--current", "k8s", "-n", "nothere")
    assert outcome.code == 1
    assert "there is no namespace nothere" in outcome.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--current", "k8s", "--current", "a10=1"), "exclude each other"),
        (("--deployment", "a10=x"), "--deployment is for what is in a cluster"),
        (("--current", "k8s", "--deployment", "a10"), "is not TYPE=NAME"),
        (("--current", "k8s", "--deployment", "b10=x"), "did you mean"),
    ],
)
def test_refuses_what_makes_no_sense(
    cli: Cli, reached: fleet.MakeNode, words: tuple[str, ...], said: str
) -> None:
    outcome = cli("optimize", "plan", *TABLES, *words)
    assert outcome.code == 2
    assert said in outcome.err


def test_names_the_right_that_is_missing(
    cli: Cli, kube: Server, api: Api, reached: fleet.MakeNode
) -> None:
    rules = [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list"]},
             {"apiGroups": ["orchestration.aibrix.ai"], "resources": ["stormservices"],
              "verbs": ["get"]}]  # fmt: skip
    account = kube.account(api, "planner", rules, api.namespace)
    words = (*TABLES, "--current", "k8s", "--kubeconfig", str(account))
    outcome = cli("optimize", "plan", *words)
    assert outcome.code == 13
    assert "may not list nodes" in outcome.err
    outcome = cli("optimize", "plan", *words, "--available", "a10=9,l20=9")
    assert outcome.code == 0, outcome.err
