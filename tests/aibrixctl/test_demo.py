"""The demo makes what it says, its commands make it again, and its plan holds."""

import bisect
import csv
import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from aibrixctl import schemas

TRACE = Path(__file__).parents[3] / "shared" / "data" / "azure_llm_2023_conv.csv"
ENVIRONMENT = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
PATH = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def run_demo(folder: Path, *words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "aibrixctl", "demo", "--out", str(folder), "-o", "json"]
    done = subprocess.run(
        [*command, *words], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    body: dict[str, Any] = json.loads(done.stdout)
    jsonschema.Draft202012Validator(schemas.get("demo")).validate(body)
    return body


def documents(folder: Path) -> dict[str, list[bytes]]:
    """Return name to lines of every document; the journal's sorted, as targets run side by side."""
    lines = {
        str(path.relative_to(folder)): path.read_bytes().splitlines()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "commands.sh"
    }
    return {name: sorted(found) if "probes" in name else found for name, found in lines.items()}


def check_plan(folder: Path, trace: Path) -> None:
    """Check the plan with arithmetic of our own, from the files alone."""
    plan = json.loads((folder / "plan.json").read_text())
    tables = {
        path.name.split(".")[0]: json.loads(path.read_text())
        for path in (folder / "profiles").glob("*.table.json")
    }
    first = next(iter(tables.values()))
    inputs, outputs = first["input_tokens"], first["output_tokens"]
    work: dict[tuple[int, int], float] = defaultdict(float)
    with trace.open() as file:
        rows = [(int(r["ContextTokens"]), int(r["GeneratedTokens"])) for r in csv.DictReader(file)]
    for tokens_in, tokens_out in rows:
        bucket = (
            inputs[min(bisect.bisect_left(inputs, tokens_in), len(inputs) - 1)],
            outputs[min(bisect.bisect_left(outputs, tokens_out), len(outputs) - 1)],
        )
        extra = max(tokens_in / inputs[-1], 1) * max(tokens_out / outputs[-1], 1)
        work[bucket] += extra * plan["request_rate"] / len(rows)
    share: dict[tuple[int, int], float] = defaultdict(float)
    busy: dict[str, float] = defaultdict(float)
    for route in plan["routing"]:
        bucket = (route["input_tokens"], route["output_tokens"])
        rate = next(
            cell["max_request_rate"]
            for cell in tables[route["type"]]["cells"]
            if (cell["input_tokens"], cell["output_tokens"]) == bucket
        )
        assert rate > 0
        share[bucket] += route["share"]
        busy[route["type"]] += route["share"] * work[bucket] / rate
    assert share.keys() == work.keys()
    assert all(total == pytest.approx(1, abs=1e-6) for total in share.values())
    for name, load in busy.items():
        assert load <= plan["replicas"][name] * (1 + 1e-5)
    cost = sum(n * tables[name]["cost_usd_per_hour"] for name, n in plan["replicas"].items())
    assert plan["cost_usd_per_hour"] == pytest.approx(cost)


def test_demo_and_its_commands_make_the_same_documents(tmp_path: Path) -> None:
    body = run_demo(tmp_path / "one")
    made = documents(tmp_path / "one")
    assert set(made) == {
        "workload.csv",
        "profiles/probes.jsonl",
        "profiles/a10.table.json",
        "profiles/l20.table.json",
        "plan.json",
        "demo-report.html",
    }
    assert b"Predicted by a simulator, not measured" in b"".join(made["demo-report.html"])
    assert body["data"]["plan"]["provenance"] == "simulated"
    assert body["data"]["comparison"]["saving_share"] >= 0
    check_plan(tmp_path / "one", tmp_path / "one" / "workload.csv")

    again = tmp_path / "two"
    again.mkdir()
    script = str(tmp_path / "one" / "commands.sh")
    subprocess.run(
        ["sh", script], cwd=again, env=ENVIRONMENT | PATH, capture_output=True, check=True
    )
    remade = documents(again)
    assert [name for name in made if remade[name] != made[name]] == []


def test_a_signal_leaves_a_partial_demo(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "aibrixctl", "demo", "--out", "d", "-o", "json", "-v"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    next(line for line in process.stderr if "one at a time" in line)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    body = json.loads(out)
    jsonschema.Draft202012Validator(schemas.get("demo")).validate(body)
    assert (process.returncode, body["status"], body["data"]["plan"]) == (143, "partial", None)
    assert body["data"]["documents"] == ["workload.csv", "profiles", "commands.sh"]
    assert "--resume" not in err


@pytest.mark.skipif(not TRACE.exists(), reason="the public Azure trace is not at hand")
def test_demo_on_a_real_trace_is_feasible(tmp_path: Path) -> None:
    run_demo(tmp_path / "demo", "--trace", str(TRACE))
    check_plan(tmp_path / "demo", TRACE)


def test_a_folder_with_other_things_is_left_alone(cli: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    outcome = cli("demo", "--out", str(tmp_path / "mine"))
    assert outcome.code == 2
    assert "holds no earlier demo" in outcome.err
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_trace_that_is_none_stops_before_profiling(
    cli: Callable[..., Any], tmp_path: Path
) -> None:
    outcome = cli("demo", "--out", str(tmp_path / "d"), "--trace", str(tmp_path / "no.csv"))
    assert outcome.code == 2
    assert "no.csv" in outcome.err
    assert not (tmp_path / "d" / "profiles").exists()
