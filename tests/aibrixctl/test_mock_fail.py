"""The mock-fail commands, as a user has them."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from mockfail import scenarios
from mockfail.properties import PROPERTIES

PROGRAM = [sys.executable, "-m", "aibrixctl", "mock-fail"]
COUNT = "import pynvml as n; n.nvmlInit(); print(n.nvmlDeviceGetCount())"
NAP = "import time; print('up', flush=True); time.sleep(60)"


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of this test's own for its mocks; nothing is left in it."""
    folder = tmp_path / "runtime"
    folder.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield folder / "aibrixctl" / "mock"
    subprocess.run([*PROGRAM, "stop", "--all", "-q"], check=True, capture_output=True)
    until(lambda: not list((folder / "aibrixctl" / "mock").glob("*")))


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *words], capture_output=True, text=True, check=False, **options
    )


def test_a_command_runs_under_the_mock_and_nothing_is_left(runtime: Path):
    done = run("run", "--node", "a10x3", "--", sys.executable, "-c", COUNT)
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
    assert done.stderr.startswith("mock run-") and "simulated a10x3" in done.stderr
    until(lambda: not list(runtime.iterdir()))


def test_a_command_under_a_mock_may_start_another_which_then_holds(runtime: Path):
    inner = [*PROGRAM, "run", "--node", "l4x3", "--", sys.executable, "-c", COUNT]
    done = run("run", "--node", "a10x2", "--", *inner)
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
    until(lambda: not list(runtime.iterdir()))


def test_streams_and_exit_code_are_the_commands_own():
    done = run("run", "-q", "--", "sh", "-c", "cat; echo oops >&2; exit 7", input="x")
    assert (done.returncode, done.stdout, done.stderr) == (7, "x", "oops\n")


def test_options_after_the_command_are_the_commands_own():
    done = run("run", "-q", "sh", "-c", 'echo "$@"', "sh", "-q", "--help", "-o", "json")
    assert (done.returncode, done.stdout) == (0, "-q --help -o json\n"), done.stderr
    done = run("run", "-s", "nothing", "--", "sh", "-o", "json")
    assert (done.returncode, done.stdout) == (2, "")


def test_a_signal_ends_the_command_as_it_would_without_us():
    assert run("run", "-q", "--", "sh", "-c", "kill -SEGV $$").returncode == -signal.SIGSEGV
    # SIGPIPE has its default effect again.
    done = run("run", "-q", "--", "sh", "-c", "(while :; do echo x; done; echo $? >&2) | head -1")
    assert done.stdout == "x\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_us_is_one_to_the_command_and_cleans_up(runtime: Path, number: int):
    words = [*PROGRAM, "run", "--", "sh", "-c", '"$0" -c "$1" & wait', sys.executable, NAP]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        below = psutil.Process(process.pid).children(recursive=True)
        assert below
        process.send_signal(number)
        assert process.wait(20) == -number
        until(lambda: not any(child.is_running() for child in below))
    until(lambda: not list(runtime.iterdir()))


def test_the_terminal_is_the_commands_own():
    ours, theirs = pty.openpty()
    words = [*PROGRAM, "run", "-q", "--", sys.executable, "-c"]
    words.append("import os; print(os.isatty(0), os.isatty(1), os.getpgrp() == os.getpid())")
    with subprocess.Popen(
        words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        assert process.wait(20) == 0
    assert os.read(ours, 100) == b"True True True\r\n"
    os.close(ours)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--", "no-such-command"), "no-such-command: command not found"),
        (("--", "/etc/passwd"), "/etc/passwd: not a program that may be run"),
        (("-s", "gpulost", "--", "true"), "did you mean gpu-lost"),
        (("--set", "gpus.0.lots=true", "--", "true"), "did you mean lost"),
        (("--node", "h100x8", "-s", "gpu-lost", "--device", "9", "--", "true"), "GPUs 0 to 7"),
        (("--node", "nothing", "--", "true"), "no known accelerator"),
        (("--mode", "other", "--", "true"), "expected auto, overlay or standalone"),
        (("-s", "ecc-sram", "-s", "retired-pages-sbe", "--", "true"), "different nodes"),
    ],
)
def test_what_can_not_run_is_told_before_anything_starts(
    cli: Callable[..., Any], runtime: Path, words: tuple[str, ...], said: str
):
    outcome = cli("mock-fail", "run", *words)
    assert outcome.code == 2
    assert said in outcome.err
    assert not runtime.exists() or not list(runtime.iterdir())


def test_a_file_without_interpreter_is_refused_and_leaves_nothing(tmp_path: Path, runtime: Path):
    script = tmp_path / "script"
    script.write_text("echo no interpreter named\n")
    script.chmod(0o755)
    done = run("run", "-q", "--", str(script))
    assert done.returncode == 2
    assert "can't be run: Exec format error" in done.stderr
    until(lambda: not list(runtime.iterdir()))


def test_mistakes_of_a_scenario_reach_scripts(cli_json: Callable[..., Any], tmp_path: Path):
    (tmp_path / "bad.toml").write_text('title = "x"\n[[fault]]\ngpu = 0\nset = { lots = true }\n')
    body = cli_json("mock-fail", "show", "./bad.toml")
    (mistake,) = body["errors"][0]["details"]["mistakes"]
    assert (mistake["line"], mistake["key"]) == (4, "fault[0].set.lots")


def test_a_named_mock_is_joined_changed_cleared_and_stopped(
    cli: Callable[..., Any], cli_json: Callable[..., Any], runtime: Path
):
    lines = cli("mock-fail", "start", "lab", "--node", "h100x2")
    assert "undo: aibrixctl mock-fail stop lab" in lines.err
    joined = subprocess.run(
        ["sh", "-c", 'eval "$0"; "$1" -c "$2"', lines.out, sys.executable, COUNT],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert joined.stdout == "2\n"
    made = cli_json(
        "mock-fail", "set", "lab", "gpus.0.lost=true", "-s", "thermal-slowdown", "--device", "1"
    )
    assert made["data"]["faults"] == ["thermal-slowdown", "gpus.0.lost"]
    (row,) = cli_json("mock-fail", "status")["data"]["mocks"]
    assert (row["name"], row["status"], row["mode"]) == ("lab", "running", "standalone")
    assert 3500 < row["expires_in_s"] <= 3600
    assert cli("mock-fail", "clear", "lab", "gpus.0.lots").code == 2
    assert cli_json("mock-fail", "clear", "lab", "-n")["data"]["faults"] == []
    assert cli_json("mock-fail", "clear", "lab", "gpus.0.lost")["data"]["faults"] == [
        "thermal-slowdown"
    ]
    assert cli_json("mock-fail", "clear", "lab")["data"]["faults"] == []
    assert cli_json("mock-fail", "stop", "lab")["data"]["stopped"][0]["was_there"]
    assert not cli_json("mock-fail", "stop", "lab")["data"]["stopped"][0]["was_there"]
    assert cli_json("mock-fail", "status")["data"]["mocks"] == []
    assert not list(runtime.iterdir())


def test_a_dry_run_does_nothing(cli_json: Callable[..., Any], runtime: Path):
    body = cli_json("mock-fail", "start", "lab", "-s", "gpu-lost", "-n")
    assert body["data"]["faults"] == ["gpu-lost"]
    assert not runtime.exists()
    body = cli_json("mock-fail", "stop", "lab", "-n")
    assert body["data"] == {
        "dry_run": True,
        "stopped": [{"name": "lab", "preload": None, "was_there": False}],
    }


def test_a_command_that_runs_can_be_given_faults(cli_json: Callable[..., Any]):
    watch = (
        "import sys, pynvml as n\nn.nvmlInit()\n"
        "print('up', flush=True)\n"
        "while n.nvmlDeviceGetTemperature(n.nvmlDeviceGetHandleByIndex(0), 0) != 97: pass\n"
    )
    words = [*PROGRAM, "run", "-q", "--node", "a10x1", "--", sys.executable, "-c", watch]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        (row,) = cli_json("mock-fail", "status")["data"]["mocks"]
        assert (row["name"], row["pid"]) == (f"run-{process.pid}", process.pid)
        cli_json("mock-fail", "set", row["name"], "gpus.0.temperature_c=97")
        assert process.wait(20) == 0


def test_diagnose_sees_the_mock_that_it_runs_under():
    words = ("--", sys.executable, "-m", "aibrixctl", "diagnose", "-o", "json", "-q")
    done = run("run", "-q", "-s", "gpu-lost-xid79", *words)
    assert done.returncode == 10
    data = json.loads(done.stdout)["data"]
    assert data["simulated"] is True
    assert sorted(f["code"] for f in data["findings"]) == ["NV-GPU-LOST", "NV-XID-79"]


def test_every_built_in_scenario_says_all_that_a_reader_wants(cli_json: Callable[..., Any]):
    rows = cli_json("mock-fail", "list")["data"]["scenarios"]
    assert [row["name"] for row in rows] == scenarios.names()
    assert len(rows) >= 45
    for row in rows:
        scenario = scenarios.load(row["name"])
        for text in ("title", "simulates", "signature", "reference", "action", "node"):
            assert getattr(scenario, text), (row["name"], text)
        assert scenario.expected is not None
        cli_json("mock-fail", "show", row["name"])


def test_the_properties_are_listed(cli_json: Callable[..., Any]):
    rows = cli_json("mock-fail", "properties")["data"]["properties"]
    assert len(rows) == sum(map(len, PROPERTIES.values()))
    assert cli_json("mock-fail", "properties", "--scope", "gpus")["exit_code"] == 2


def test_diagnose_finds_exactly_what_every_scenario_breaks(cli_json: Callable[..., Any]):
    body = cli_json("mock-fail", "check", "--workers", "3")
    assert [trip for trip in body["data"]["scenarios"] if not trip["passed"]] == []
    assert body["data"]["passed"] == len(scenarios.names())


def test_an_interrupted_check_prints_what_was_proved(tmp_path: Path):
    place = tmp_path / "checks"
    place.mkdir()
    both = ["xid-48", "gpu-driver-hang", "--workers", "2", "--timeout", "100s", "-o", "json"]
    with subprocess.Popen(
        [*PROGRAM, "check", *both], env=os.environ | {"TMPDIR": str(place)},
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        until(lambda: len(list(place.iterdir())) == 2)
        until(lambda: len(list(place.iterdir())) == 1)  # the one that hangs is left
        process.send_signal(signal.SIGINT)
        body = json.loads(process.communicate(timeout=30)[0])
    assert (process.returncode, body["status"]) == (130, "partial")
    assert [trip["scenario"] for trip in body["data"]["scenarios"]] == ["xid-48"]
    assert body["errors"][0]["code"] == "mock.interrupted"
    assert not list(place.iterdir())


def test_a_scenario_that_expects_something_else_fails_the_check(
    cli_json: Callable[..., Any], tmp_path: Path
):
    text = '[expect]\nfindings = [{ code = "NV-FAN", gpu = 0 }]\n[[fault]]\ngpu = 1\n'
    (tmp_path / "wrong.toml").write_text(f"{text}set = {{ lost = true }}\n")
    body = cli_json("mock-fail", "check", "./wrong.toml")
    (trip,) = body["data"]["scenarios"]
    assert body["exit_code"] == 10
    assert (trip["missed"], trip["extra"]) == (["NV-FAN gpu 0"], ["NV-GPU-LOST gpu 1"])
    (tmp_path / "silent.toml").write_text("[[fault]]\ngpu = 1\nset = { lost = true }\n")
    assert cli_json("mock-fail", "check", "./silent.toml")["exit_code"] == 2
