import json
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from profiler.journal import NAME
from profiler.table import load

RUN = (
    "profile", "run", "--model", "deepseek-coder-6.7b", "--slo", "ttft_p90<=1s",
    "--slo", "tpot_p90<=60ms", "--tolerance", "10%",
)  # fmt: skip
SMALL = (*RUN, "--target", "a10=sim:a10", "--input-tokens", "128,512", "--output-tokens", "16,64")
ONE = (*RUN, "--target", "a10=sim:a10", "--input-tokens", "128", "--output-tokens", "16")


@pytest.fixture(autouse=True)
def _fixed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")


def test_a_simulated_table(cli: Callable[..., Any]) -> None:
    outcome = cli(*SMALL, "--out", "p")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert lines[0].startswith("a10 (a10)  deepseek-coder-6.7b  $")
    assert lines[1] == (
        "SIMULATED, not measured (sim:a10), tolerance 10%, seed 0, 2026-01-01T00:00:00Z"
    )
    assert lines[2] == "SLO: tpot_p90<=60ms  ttft_p90<=1s"
    assert [line.split()[0] for line in lines[5:7]] == ["16", "64"]
    assert "wrote p/a10.table.json" in lines
    assert "simulated, not measured: a10" in outcome.err


def test_json_is_a_table_and_what_was_done(cli_json: Callable[..., Any]) -> None:
    body = cli_json(*ONE, "--out", "p")
    assert (body["status"], body["data"]["complete"]) == ("success", True)
    assert body["data"]["files"] == ["p/a10.table.json"]
    (table,) = body["data"]["tables"]
    assert table == json.loads(Path("p/a10.table.json").read_text())
    assert table["cost_usd_per_hour"] > 0
    assert body["warnings"][0]["code"] == "profile.simulated"


def test_targets_with_own_costs_and_types(cli_json: Callable[..., Any]) -> None:
    Path("own.toml").write_text("[accelerators.a10]\nprice_usd_per_hour = 0.5\n")
    more = ("--target", "l20=sim:l20", "--target", "h20=sim:h20", "--accelerators", "own.toml")
    body = cli_json(*ONE, *more, "--cost", "l20=3,h20=2.5", "--out", "p")
    costs = {table["target"]: table["cost_usd_per_hour"] for table in body["data"]["tables"]}
    assert costs == {"a10": 0.5, "l20": 3.0, "h20": 2.5}


def test_csv_has_one_line_per_cell(cli: Callable[..., Any]) -> None:
    outcome = cli(*SMALL, "--out", "p", "-o", "csv")
    header, *lines = outcome.out.splitlines()
    assert header.startswith("target,model,accelerator")
    assert len(lines) == 4


def test_dry_run_shows_cells_and_time_and_writes_nothing(
    cli: Callable[..., Any], cli_json: Callable[..., Any], snapshot: SnapshotAssertion
) -> None:
    real = ("--target", "l20=http://127.0.0.1:9", "--cost", "l20=1.1")
    outcome = cli(*SMALL, *real, "--out", "p", "--dry-run")
    assert outcome.code == 0
    assert outcome.out == snapshot
    body = cli_json(*SMALL, *real, "--out", "p", "--dry-run")
    assert len(body["data"]["cells"]) == 4
    simulated, measured = body["data"]["targets"]
    assert measured["estimate_s"] > simulated["estimate_s"] > 0
    assert not Path("p").exists()


@pytest.mark.parametrize("model", ["no-such-model", "llama-2-70b"])
def test_dry_run_refuses_a_model_that_the_run_would(model: str, cli: Callable[..., Any]) -> None:
    outcome = cli(*ONE, "--model", model, "--out", "p", "--dry-run")
    assert outcome.code == 2
    assert model in outcome.err


def test_an_existing_run_needs_resume(cli: Callable[..., Any]) -> None:
    assert cli(*ONE, "--out", "p").code == 0
    before = Path("p/a10.table.json").read_bytes()
    refused = cli(*ONE, "--out", "p")
    assert refused.code == 2
    assert "--resume" in refused.err
    assert cli(*ONE, "--out", "p", "--resume").code == 0
    assert Path("p/a10.table.json").read_bytes() == before
    other = cli(*ONE, "--seed", "7", "--out", "p", "--resume")
    assert other.code == 2
    assert "seed: 0 then, 7 now" in other.err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--target", "b=sim:a11"), 2, "did you mean a10"),
        (("--target", "b=sim:v100-16g", "--model", "llama-2-70b"), 2, "does not fit"),
        (("--slo", "ttft<=1s"), 2, "not an SLO"),
        (("--tolerance", "0%"), 2, "tolerance is 0"),
        (("--input-tokens", "128,x"), 2, "--input-tokens is '128,x'"),
        (("--input-tokens", "0"), 2, "--input-tokens is '0'"),
        (("--seed", "-1"), 2, "seed is -1"),
        (("--duration", "-3s"), 2, "negative"),
        (("--model", "no-such-model"), 2, "no-such-model"),
        (("--cost", "h100=3"), 2, "names 'h100'"),
        (("--token-file", "missing"), 2, "cannot read missing"),
        (("--target", "b=http://127.0.0.1:9"), 13, "127.0.0.1:9"),
    ],
)
def test_bad_input_is_refused_in_words(
    words: tuple[str, ...], code: int, message: str, cli: Callable[..., Any]
) -> None:
    outcome = cli(*ONE, *words, "--out", "p")
    assert outcome.code == code
    assert message in outcome.err


def test_a_full_disk_ends_the_run_with_a_clear_error(cli_json: Callable[..., Any]) -> None:
    Path("p").mkdir()
    Path("p", NAME).symlink_to("/dev/full")
    body = cli_json(*ONE, "--out", "p")
    assert (body["status"], body["exit_code"]) == ("error", 1)
    assert body["errors"][0]["code"] == "file.disk_full"


def test_a_disk_that_fills_in_mid_run_loses_nothing_and_the_run_resumes(
    cli: Callable[..., Any],
) -> None:
    """A limit on the size of files cuts a write short, as a full disk does."""
    done = subprocess.run(
        [sys.executable, "-m", "aibrixctl", *SMALL, "--out", "p"],
        check=False,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)),
    )
    assert done.returncode == 1
    assert "probes.jsonl" in done.stderr
    assert "Traceback" not in done.stderr
    journal = Path("p", NAME).read_text()
    assert journal.endswith("\n")
    probes = journal.count('"type": "probe"')
    assert probes > 1
    assert cli(*SMALL, "--out", "p", "--resume").code == 0
    assert Path("p", NAME).read_text().startswith(journal)
    assert cli(*SMALL, "--out", "whole").code == 0
    assert Path("p/a10.table.json").read_bytes() == Path("whole/a10.table.json").read_bytes()


@contextmanager
def served(speed: str) -> Iterator[str]:
    """Run a simulated engine in a process of its own; give its URL."""
    words = ("serve-sim", "--accelerator", "a10", "--model", "deepseek-coder-6.7b", "--port", "0")
    process = subprocess.Popen(
        [sys.executable, "-m", "aibrixctl", "profile", *words, "--speed", speed],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        found = re.search(r"http://[\d.]+:\d+", process.stderr.readline())
        assert found is not None
        yield found[0]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)


def on_engine(url: str, *more: str) -> list[str]:
    return [
        "profile", "run", "--target", f"a10={url}", "--model", "deepseek-coder-6.7b",
        "--input-tokens", "32", "--output-tokens", "4", "--slo", "e2e_p50<=150ms",
        "--duration", "0.3s", "--warmup", "0s", "--out", "p", *more,
    ]  # fmt: skip


def test_a_simulator_over_http_is_searched_like_an_engine_and_named(
    cli_json: Callable[..., Any],
) -> None:
    with served(speed="20") as url:
        body = cli_json(*on_engine(url, "--tolerance", "100%", "--max-probes", "6"))
    (table,) = body["data"]["tables"]
    assert table["provenance"]["source"] == "simulated"
    assert table["provenance"]["where"] == url
    assert table["provenance"]["engine"] == "aibrixctl-simulator-20x-speed"
    (cell,) = table["cells"]
    assert cell["status"] in ("measured", "client_limited")
    assert cell["max_request_rate"] > 0
    events = [json.loads(line) for line in Path("p", NAME).read_text().splitlines()]
    assert [e["type"] for e in events if e["type"] != "probe"] == ["config", "cell", "summary"]
    probes = [e for e in events if e["type"] == "probe"]
    assert len(probes) == body["data"]["probes"]
    assert all(probe["summary"]["requests"]["failed"] == 0 for probe in probes)


def test_an_unknown_model_is_named_before_any_load(cli: Callable[..., Any]) -> None:
    with served(speed="20") as url:
        outcome = cli(*on_engine(url, "--model", "other"))
    assert outcome.code == 2
    assert "deepseek-coder-6.7b" in outcome.err


def test_sigint_keeps_what_was_measured() -> None:
    with served(speed="1") as url:
        words = on_engine(url, "--input-tokens", "32,64", "--slo", "e2e_p99<=9s", "-o", "json")
        run = subprocess.Popen(
            [sys.executable, "-m", "aibrixctl", *words, "-v"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert run.stderr is not None
        first = run.stderr.readline()
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=30)
    assert "one at a time pass" in first
    assert run.returncode == 130, err
    body = json.loads(out)
    assert (body["status"], body["data"]["interrupted"]) == ("partial", True)
    assert body["errors"][0]["code"] == "profile.interrupted"
    table = load("p/a10.table.json")
    assert {cell.status for cell in table.cells} == {"not_measured"}
    lines = Path("p", NAME).read_text().splitlines()
    assert json.loads(lines[1])["outcome"]["verdict"] == "pass"
