import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml
from syrupy.assertion import SnapshotAssertion

from aibrixctl import schemas
from optimizer.schedule.podautoscaler import by_minute, schedules
from profiler.table import load, save
from tests.optimizer.problems import make_table

Cli = Callable[..., Any]
WORDS = ("optimize", "schedule", "--profiles", "profiles", "--workload", "week.csv")


@pytest.fixture(autouse=True)
def _inputs(tmp_path: Path) -> None:
    """Two types, and a week with busy days and quiet nights."""
    Path("profiles").mkdir()
    for table in (
        make_table("small", [[0.15, 0.08], [0.05, 0.025]], cost=1.0),
        make_table("large", [[0.5, 0.35], [0.22, 0.125]], cost=3.2),
    ):
        save(table, f"profiles/{table.target}.table.json")
    start = np.datetime64("2024-01-01T00:00:00", "s")
    rows = []
    for hour in range(168):
        busy = 8 <= hour % 24 < 20 and hour // 24 < 5
        gap_s = 3 if busy else 30
        for second in range(0, 3600, gap_s):
            time = str(start + np.timedelta64(hour * 3600 + second, "s")).replace("T", " ")
            size = (100, 30) if second % 2 else (400, 120)
            rows.append(f"{time},{size[0]},{size[1]}")
    Path("week.csv").write_text(
        "\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]) + "\n"
    )


def test_a_schedule_as_a_person_reads_it(cli: Cli, snapshot: SnapshotAssertion) -> None:
    outcome = cli(*WORDS, "--headroom", "10%", "--startup", "10m")
    assert outcome.code == 0, outcome.err
    assert outcome.out == snapshot
    assert len(cli(*WORDS, "-o", "wide").out.splitlines()) > 168


def test_the_documents_and_the_manifest(cli_json: Cli) -> None:
    body = cli_json(*WORDS, "--out", "schedule.json", "--manifest", "scalers.yaml")
    data = body["data"]
    assert (data["period"], len(data["hours"])) == ("week", 168)
    assert data["cost"]["total_usd"] <= data["constant"]["total_usd"]
    assert data["cost"]["total_usd"] <= data["hourly"]["total_usd"]
    saved = json.loads(Path("schedule.json").read_text())
    jsonschema.Draft202012Validator(schemas.get("schedule")).validate(saved)
    assert saved == {name: value for name, value in data.items() if name != "pod_autoscalers"}
    manifests = list(yaml.safe_load_all(Path("scalers.yaml").read_text()))
    assert {m["spec"]["scaleTargetRef"]["name"]: m for m in manifests} == data["pod_autoscalers"]
    peak = max(hour["replicas"]["small"] for hour in data["hours"])
    assert data["pod_autoscalers"]["small"]["spec"]["maxReplicas"] == peak


def test_the_manifest_scales_the_deployments_that_were_measured(cli_json: Cli) -> None:
    for name, where in (("small", "k8s:deployment/llama-s"), ("large", "k8s:deployment/b/llama")):
        measured_in(name, where)
    write = (*WORDS, "--manifest", "scalers.yaml")
    body = cli_json(*write, "--namespace", "serving")
    assert "schedule.namespace" not in {warning["code"] for warning in body["warnings"]}
    assert scaled("scalers.yaml") == {
        ("serving", "podautoscaler-llama-s", "llama-s", "/metrics/serving/llama-s"),
        ("b", "podautoscaler-llama", "llama", "/metrics/b/llama"),
    }
    (warning,) = (w for w in cli_json(*write)["warnings"] if w["code"] == "schedule.namespace")
    assert warning["message"].startswith("nothing says the namespace of llama-s:")
    assert ("default", "podautoscaler-llama-s", "llama-s", "/metrics/default/llama-s") in scaled(
        "scalers.yaml"
    )
    cli_json(*write, "--deployment", "small=x/s,large=l", "--namespace", "y")
    assert {(place, name) for place, _, name, _ in scaled("scalers.yaml")} == {
        ("x", "s"),
        ("y", "l"),
    }


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--deployment", "small=Bad_Name"), "fleet.name"),
        (("--deployment", "small=a/b/c"), "fleet.name"),
        (("--deployment", "small=llama,large=llama"), "fleet.twice"),
        (("--deployment", "smal=llama"), "problem.unknown_type"),
        (("--namespace", "bad.name"), "cluster.name"),
        (("--namespace", "n" * 64), "cluster.name"),
    ],
)
def test_refuses_what_kubernetes_can_not_have(
    words: tuple[str, ...], code: str, cli_json: Cli
) -> None:
    body = cli_json(*WORDS, *words, "--manifest", "scalers.yaml")
    assert (body["exit_code"], body["errors"][0]["code"]) == (2, code)
    assert body["errors"][0]["hint"]
    assert not Path("scalers.yaml").exists()


def test_a_type_that_can_be_no_deployment_has_a_schedule_but_no_manifest(cli_json: Cli) -> None:
    save(make_table("A_10", [[0.5, 0.35], [0.22, 0.125]]), "profiles/A_10.table.json")
    body = cli_json(*WORDS)
    assert set(body["data"]["pod_autoscalers"]) == {"small", "large"}
    assert [w["target"] for w in body["warnings"] if w["code"] == "schedule.deployment"] == ["A_10"]
    refused = cli_json(*WORDS, "--manifest", "scalers.yaml")
    assert (refused["exit_code"], refused["errors"][0]["target"]) == (2, "A_10")


@pytest.mark.parametrize("missing", ["--out", "--manifest"])
def test_both_files_are_written_or_none(missing: str, cli_json: Cli) -> None:
    there = {"--out": "--manifest", "--manifest": "--out"}[missing]
    body = cli_json(*WORDS, there, "there", missing, "no-folder/file")
    assert (body["exit_code"], body["errors"][0]["code"]) == (1, "file.unwritable")
    assert not Path("there").exists()


def test_help_says_what_a_schedule_of_none_allows(cli: Cli) -> None:
    (entry,) = schedules(by_minute([0] * 24), "UTC")
    bounds = f"minReplicas {entry['minReplicas']} and maxReplicas {entry['maxReplicas']}"
    assert bounds in " ".join(cli("optimize", "schedule", "--help").out.split())


def test_a_start_takes_no_longer_than_the_schedule(cli_json: Cli) -> None:
    body = cli_json(*WORDS, "--startup", "1e9s")
    assert (body["exit_code"], body["errors"][0]["code"]) == (2, "option.startup")
    assert "expected 168h at most" in body["errors"][0]["message"]
    assert cli_json(*WORDS, "--startup", "7d", "--switch-cost", "1")["exit_code"] == 0


def measured_in(name: str, where: str) -> None:
    """Let a table say that it was measured on a deployment."""
    path = f"profiles/{name}.table.json"
    table = load(path)
    save(replace(table, provenance=replace(table.provenance, where=where)), path)


def scaled(path: str) -> set[tuple[str, str, str, str]]:
    """Return namespace, name, target and metric path of every PodAutoscaler in a manifest."""
    return {
        (
            one["metadata"]["namespace"],
            one["metadata"]["name"],
            one["spec"]["scaleTargetRef"]["name"],
            one["spec"]["metricsSources"][0]["path"],
        )
        for one in yaml.safe_load_all(Path(path).read_text())
    }


def test_a_dear_start_keeps_the_fleet(cli_json: Cli) -> None:
    cheap = cli_json(*WORDS, "--switch-cost", "0")["data"]
    dear = cli_json(*WORDS, "--switch-cost", "1000")["data"]
    assert cheap["cost"]["starting_usd"] == 0
    assert dear["cost"] == dear["constant"]
    assert dear["cost"]["total_usd"] > cheap["cost"]["total_usd"]


def test_limits_and_refusals(cli_json: Cli) -> None:
    limited = cli_json(*WORDS, "--available", "large=1,small=1")
    assert (limited["exit_code"], limited["errors"][0]["code"]) == (11, "plan.infeasible")
    assert "any of these would do" in limited["errors"][0]["hint"]
    unserved = cli_json(*WORDS, "--available", "large=0,small=0")
    assert (unserved["exit_code"], unserved["errors"][0]["code"]) == (11, "plan.unserved")
    for words, code in (
        (("--timezone", "Nowhere"), "schedule.timezone"),
        (("--workload", "redis://127.0.0.1"), "option.workload"),
        (("--time-limit", "0s"), "option.limit"),
        (("--model", "foo"), "option.model"),
        (("--out-of-range", "x"), "option.out_of_range"),
        (("--switch-cost", "inf"), "option.switch_cost"),
        (("--switch-cost", "1e308"), "option.switch_cost"),
    ):
        body = cli_json(*WORDS, *words)
        assert (body["errors"][0]["code"], body["exit_code"]) == (code, 2)
