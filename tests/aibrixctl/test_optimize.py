import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import psutil
import pytest
from syrupy.assertion import SnapshotAssertion

from aibrixctl import schemas
from optimizer import melange
from optimizer.limits import Limits, apply
from optimizer.plan import parse
from optimizer.verify import verify
from profiler.table import save
from tests.optimizer.problems import MELANGE, make_table

TRACE = ["TIMESTAMP,ContextTokens,GeneratedTokens"] + [
    f"2024-01-01 00:00:{second:02d},{100 if second % 3 else 400},{30 if second % 2 else 120}"
    for second in range(60)
]
Cli = Callable[..., Any]


@pytest.fixture(autouse=True)
def _inputs(tmp_path: Path) -> None:
    """Tables of two types, a trace and a Mélange configuration, where the command stands."""
    Path("profiles").mkdir()
    small = make_table("small", [[6.0, 3.0], [2.0, 0]], cost=0.5, source="simulated")
    large = make_table("large", [[20.0, 14.0], [9.0, 5.0]], cost=2.0)
    for table in (small, large):
        save(table, f"profiles/{table.target}.table.json")
    Path("trace.csv").write_text("\n".join(TRACE) + "\n")
    Path("melange.json").write_text(json.dumps(MELANGE))


def plan_of(cli: Cli, *words: str) -> Any:
    return cli("optimize", "plan", *words)


TABLES = ("--profiles", "profiles", "--workload", "trace.csv")


def test_a_plan_as_a_person_reads_it(cli: Cli, snapshot: SnapshotAssertion) -> None:
    outcome = plan_of(
        cli, *TABLES, "--rate", "20", "--available", "small=3", "--headroom", "10%",
        "--current", "large=4", "--out", "plan.json",
    )  # fmt: skip
    assert outcome.code == 0
    assert outcome.out == snapshot
    assert outcome.err == snapshot(name="stderr")
    again = cli("optimize", "show", "plan.json")
    assert again.out == outcome.out
    assert cli("optimize", "show", "plan.json", "-o", "wide").out == snapshot(name="wide")


def test_melange_as_a_person_reads_it(cli: Cli, snapshot: SnapshotAssertion) -> None:
    assert plan_of(cli, "--problem", "melange.json").out == snapshot


def test_json_holds_the_plan_document(cli_json: Cli) -> None:
    body = plan_of(cli_json, "--problem", "melange.json", "--headroom", "10%", "--out", "p.json")
    assert (body["status"], body["exit_code"]) == ("success", 0)
    assert max(body["data"]["utilization"].values()) <= 0.9 + 1e-6
    assert json.loads(Path("p.json").read_text()) == body["data"]
    limited = apply(melange.load("melange.json"), Limits(headroom=0.1))
    assert verify(parse(body["data"], "p"), limited) == []
    shown = cli_json("optimize", "show", "p.json")
    assert shown["data"] == body["data"]


def test_rows_are_routes(cli: Cli) -> None:
    lines = plan_of(cli, "--problem", "melange.json", "-o", "csv").out.splitlines()
    assert lines[0].startswith("bucket,input_tokens,output_tokens,type,share,requests_per_s")
    records = plan_of(cli, "--problem", "melange.json", "-o", "jsonl").out.splitlines()
    assert [json.loads(line)["type"] for line in records][-1] == "summary"
    assert len(records) == len(lines)


def test_tables_may_follow_as_a_shell_expands_them(cli_json: Cli) -> None:
    spread = plan_of(
        cli_json, "--workload", "trace.csv", "--profiles", "profiles/large.table.json",
        "profiles/small.table.json",
    )  # fmt: skip
    assert spread["data"]["replicas"].keys() == {"large", "small"}


def test_no_feasible_plan_is_exit_11_with_relaxations(cli_json: Cli, cli: Cli) -> None:
    body = plan_of(cli_json, *TABLES, "--rate", "50", "--available", "small=1,large=2")
    assert (body["exit_code"], body["status"], body["data"]) == (11, "error", None)
    kinds = {r["kind"] for r in body["errors"][0]["details"]["relaxations"]}
    assert kinds == {"rate", "availability"}
    assert "any of these would do" in body["errors"][0]["hint"]
    unserved = plan_of(cli_json, *TABLES, "--available", "large=0")
    assert unserved["exit_code"] == 11
    assert [u["bucket"] for u in unserved["errors"][0]["details"]["unserved"]] == ["512x128"]
    forgiven = plan_of(cli, *TABLES, "--available", "large=0", "--exit-zero")
    assert (forgiven.code, forgiven.out) == (0, "")
    assert "error: " in forgiven.err
    silent = plan_of(cli, *TABLES, "--available", "large=0", "--exit-zero", "-q")
    assert (silent.code, silent.out, silent.err) == (0, "", "")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((), "option.missing"),
        (("--profiles", "profiles"), "option.missing"),
        (("--problem", "melange.json", "--workload", "trace.csv"), "option.conflict"),
        (("--problem", "none.json"), "file.unreadable"),
        (("--problem", "trace.csv"), "file.not_json"),
        ((*TABLES, "--available", "smal=1"), "problem.unknown_type"),
        ((*TABLES, "--available", "small"), "option.assignment"),
        ((*TABLES, "--available", "small=1,small=2"), "option.twice"),
        ((*TABLES, "--max", "small=1.5"), "option.assignment"),
        ((*TABLES, "--cost", "small=0"), "problem.cost"),
        ((*TABLES, "--headroom", "120%"), "units.range"),
        ((*TABLES, "--headroom", "100%"), "problem.headroom"),
        ((*TABLES, "--slo", "ttft_p99<=1s"), "tables.slo"),
        ((*TABLES, "--out-of-range", "maybe"), "option.out_of_range"),
        ((*TABLES, "--gap", "-1"), "units.range"),
        ((*TABLES, "--gap", "100%"), "option.gap"),
        ((*TABLES, "--time-limit", "0s"), "option.time_limit"),
        ((*TABLES, "--rate", "0"), "workload.rate"),
        ((*TABLES, "--rate", "nan"), "workload.rate"),
        ((*TABLES, "--budget", "-1"), "problem.budget"),
        ((*TABLES, "--current", "medium=1"), "problem.unknown_type"),
    ],
)
def test_bad_input_is_a_usage_error(cli_json: Cli, words: tuple[str, ...], code: str) -> None:
    body = plan_of(cli_json, *words)
    assert (body["exit_code"], body["errors"][0]["code"]) == (2, code)


def test_a_full_disk_leaves_no_half_plan(cli_json: Cli) -> None:
    Path("plan.json").write_text("old")
    body = plan_of(cli_json, "--problem", "melange.json", "--out", "missing/plan.json")
    assert body["exit_code"] == 1
    assert Path("plan.json").read_text() == "old"


def hard_problem() -> dict[str, Any]:
    import numpy as np

    random = np.random.default_rng(4)
    return {
        "gpu_info": {
            f"g{g:02d}": {
                "cost": random.uniform(2.9, 3.1),
                "tputs": (random.uniform(0.5, 1.5, (24, 24)) * 0.1).tolist(),
            }
            for g in range(24)
        },
        "workload_distribution": np.full((24, 24), 1 / 576).tolist(),
        "total_request_rate": 5,
    }


def test_sigint_prints_the_best_plan_so_far_and_leaves_no_process(tmp_path: Path) -> None:
    Path("hard.json").write_text(json.dumps(hard_problem()))
    process = subprocess.Popen(
        [sys.executable, "-m", "aibrixctl", "optimize", "plan", "--problem", "hard.json",
         "--gap", "0", "--time-limit", "60s", "-o", "json"],
        stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONWARNINGS": "error"},
    )  # fmt: skip
    children: list[psutil.Process] = []
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        children = psutil.Process(process.pid).children()
        if children and children[0].cpu_times().user > 1:
            break
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    body = json.loads(out)
    assert (process.returncode, body["exit_code"], body["status"]) == (130, 130, "partial")
    assert body["data"]["solver_status"] == "feasible"
    assert children
    assert not any(child.is_running() for child in children)


def test_workload_show(cli: Cli, cli_json: Cli, snapshot: SnapshotAssertion) -> None:
    assert cli("optimize", "workload", "show", "trace.csv").out == snapshot
    body = cli_json("optimize", "workload", "show", "trace.csv", "--input-tokens", "128,512")
    buckets = body["data"]["histogram"]["buckets"]
    assert sum(bucket["share"] for bucket in buckets) == pytest.approx(1)
    assert {bucket["input_tokens"] for bucket in buckets} == {128, 512}
    bad = cli_json("optimize", "workload", "show", "trace.csv", "--input-tokens", "9,3")
    assert bad["errors"][0]["code"] == "option.ticks"


def test_workload_synth(cli_json: Cli) -> None:
    words = ("optimize", "workload", "synth", "--rate", "20", "--duration", "60s", "--out")
    first, again = (cli_json(*words, name)["data"] for name in ("a.csv", "b.csv"))
    assert first["digest"] == again["digest"]
    assert cli_json(*words, "c.csv", "--seed", "1")["data"]["digest"] != first["digest"]
    own = cli_json(*words, "d.csv", "--input-sizes", "fixed:mean=64", "--output-sizes",
                   "uniform:min=5,max=9")["data"]  # fmt: skip
    assert (own["input_tokens"]["max"], own["output_tokens"]["max"]) == (64, 9)
    half = cli_json(*words, "e.csv", "--input-sizes", "fixed:mean=64")
    assert half["errors"][0]["code"] == "option.conflict"
    unknown = cli_json(*words, "f.csv", "--mix", "chat=1")
    assert unknown["errors"][0]["code"] == "synth.preset"
    nowhere = cli_json(*words, "none/f.csv")
    assert nowhere["exit_code"] == 1


def test_a_saved_histogram_plans_like_its_trace(cli_json: Cli) -> None:
    cli_json("optimize", "workload", "show", "trace.csv", "--save-histogram", "h.json")
    jsonschema.validate(json.loads(Path("h.json").read_text()), schemas.get("workload-histogram"))
    from_histogram = plan_of(cli_json, "--profiles", "profiles", "--workload", "h.json")
    from_trace = plan_of(cli_json, *TABLES)
    assert from_histogram["data"]["replicas"] == from_trace["data"]["replicas"]
