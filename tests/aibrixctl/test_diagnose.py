"""``aibrixctl diagnose`` and its family on mocks, and where there is nothing."""

import json
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import psutil
import pytest

from aibrixctl import runbook, schemas
from mockfail import native, state_file
from mockfail.nodes import node
from mockfail.state import Override, State

ROOT = Path(__file__).parents[2]
Mocked = Callable[..., Path]


def write(folder: Path, spec: str, *overrides: Override) -> None:
    state_file.write(State(node(spec), mode="standalone", overrides=overrides), folder / "state")


@pytest.fixture
def mocked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mocked:
    """Put what this process starts under a mock: ``mocked("h100x8", Override(…))``."""

    def start(spec: str, *overrides: Override) -> Path:
        folder = tmp_path / "mock"
        folder.mkdir(exist_ok=True)
        write(folder, spec, *overrides)
        for name, value in native.preload_environment(folder).items():
            monkeypatch.setenv(name, value)
        return folder

    return start


def test_a_healthy_simulated_node(mocked: Mocked, cli_json: Callable[..., Any]) -> None:
    mocked("h100x8")
    body = cli_json("diagnose")
    assert (body["exit_code"], body["status"]) == (0, "success")
    data = body["data"]
    assert (data["verdict"], data["simulated"], data["findings"]) == ("healthy", True, [])
    assert [device["health"] for device in data["devices"]] == ["healthy"] * 8
    assert body["warnings"][0]["code"] == "diagnose.simulated"


def test_a_fault_has_its_code_evidence_and_action(
    mocked: Mocked, cli: Callable[..., Any], cli_json: Callable[..., Any]
) -> None:
    mocked("h100x2", Override("gpu", "remap_pending", True, 1))
    body = cli_json("diagnose")
    assert (body["exit_code"], body["status"]) == (10, "success")
    (finding,) = body["data"]["findings"]
    assert (finding["code"], finding["device"]["index"]) == ("NV-ROW-REMAP-PENDING", 1)
    assert finding["move_workload"] is True
    shown = cli("diagnose").out
    assert "SIMULATED" in shown and "1 fault found" in shown
    assert "DEGRADED NV-ROW-REMAP-PENDING  GPU 1" in shown
    assert cli("diagnose", "--exit-zero").code == 0
    row = cli("diagnose", "-o", "csv").out.splitlines()[1]
    assert row.startswith("NV-ROW-REMAP-PENDING,degraded")


def test_a_users_actions_change_what_is_said_and_how_bad_it_is(
    mocked: Mocked, cli_json: Callable[..., Any]
) -> None:
    mocked("h100x2", Override("gpu", "remap_pending", True, 1))
    Path("own.toml").write_text('[NV-ROW-REMAP-PENDING]\nseverity = "info"\naction = "Wait."\n')
    body = cli_json("diagnose", "--actions", "own.toml")
    assert body["exit_code"] == 0
    assert body["data"]["findings"][0]["action"] == "Wait."


def test_checks_are_chosen_by_name(mocked: Mocked, cli_json: Callable[..., Any]) -> None:
    mocked("h100x2", Override("gpu", "remap_pending", True, 1))
    assert cli_json("diagnose", "--checks", "ecc,pcie-width")["exit_code"] == 0
    assert cli_json("diagnose", "--skip", "row-remap")["exit_code"] == 0
    body = cli_json("diagnose", "--skip", "row-remapping")
    assert (body["exit_code"], body["errors"][0]["code"]) == (2, "diagnose.unknown_check")
    assert "row-remap" in body["errors"][0]["message"]


def test_what_is_expected_is_held_against_what_is_there(
    mocked: Mocked, cli_json: Callable[..., Any]
) -> None:
    mocked("h100x2")
    assert cli_json("diagnose", "--expect-gpus", "2", "--expect", "h100")["exit_code"] == 0
    body = cli_json("diagnose", "--expect-gpus", "8", "--expect", "a10")
    codes = [finding["code"] for finding in body["data"]["findings"]]
    assert codes == ["NV-GPU-COUNT", "NV-GPU-TYPE", "NV-GPU-TYPE"]


def test_a_kernel_log_that_the_user_names(mocked: Mocked, cli_json: Callable[..., Any]) -> None:
    mocked("h100x2")
    Path("dmesg.txt").write_text("[ 1.0] NVRM: Xid (PCI:0000:43:00): 48, pid=1, name=x, DBE\n")
    (finding,) = cli_json("diagnose", "--kernel-log", "dmesg.txt")["data"]["findings"]
    assert (finding["code"], finding["number"], finding["device"]["index"]) == (
        "NV-XID-48", "48", 1
    )  # fmt: skip
    assert cli_json("diagnose", "--kernel-log", "none.txt")["exit_code"] == 2


def test_no_permission_is_exit_13_and_unknown_is_exit_3(
    mocked: Mocked, cli_json: Callable[..., Any]
) -> None:
    mocked("h100x2", Override("node", "init_error", 4))
    body = cli_json("diagnose")
    assert (body["exit_code"], body["data"]["verdict"]) == (13, "no_access")
    folder = mocked("h100x2")
    (folder / "kernel.log").mkdir()
    body = cli_json("diagnose")
    assert (body["exit_code"], body["status"], body["data"]["verdict"]) == (3, "partial", "unknown")


def test_nothing_to_check_is_not_healthy(
    cli_json: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mock" / "sysfs" / "bus" / "pci" / "devices").mkdir(parents=True)
    monkeypatch.setenv("AIBRIXCTL_MOCK_DIR", str(tmp_path / "mock"))  # and no preloaded library
    body = cli_json("diagnose", "--timeout", "20s")
    assert (body["exit_code"], body["errors"][0]["code"]) == (13, "diagnose.no_accelerator")
    body = cli_json("diagnose", "--accelerator", "nvidia")
    assert [finding["code"] for finding in body["data"]["findings"]] == ["NV-LIBRARY-MISSING"]


@pytest.mark.parametrize(
    "words",
    [
        ("--accelerator", "amd"),
        ("--timeout", "0s"),
        ("--timeout", "10"),
        ("--active", "medium"),
        ("--device", "tpu"),
        ("--expect", "h1000"),
        ("--since", "yesterday"),
        ("--since", "1h", "--kernel-log", "dmesg.txt"),
    ],
)
def test_options_that_can_not_be_are_usage_errors(
    words: tuple[str, ...], cli_json: Callable[..., Any]
) -> None:
    assert cli_json("diagnose", *words)["exit_code"] == 2


@pytest.mark.parametrize("words", [("79",), ("XID", "79"), ("NV-XID-79",)])
def test_explain_takes_a_code_as_people_write_it(
    words: tuple[str, ...], cli_json: Callable[..., Any]
) -> None:
    data = cli_json("diagnose", "explain", *words)["data"]
    assert (data["code"], data["severity"], data["move_workload"]) == ("NV-XID-79", "fatal", True)


def test_explain_of_an_unknown_code(cli_json: Callable[..., Any]) -> None:
    body = cli_json("diagnose", "explain", "NV-FANS")
    assert (body["exit_code"], body["errors"][0]["code"]) == (2, "diagnose.unknown_code")
    assert "NV-FAN" in body["errors"][0]["message"]


def test_list_checks_names_what_each_reads_and_finds(cli_json: Callable[..., Any]) -> None:
    checks = cli_json("diagnose", "list-checks")["data"]["checks"]
    ecc = next(check for check in checks if check["check"] == "ecc")
    assert "NV-ECC-UNCORRECTABLE" in ecc["codes"]
    assert "ecc_uncorrected_volatile_total" in ecc["reads"]
    assert {check["accelerator"] for check in checks} >= {"nvidia", "ascend"}


def test_the_runbook_is_current() -> None:
    committed = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    assert committed == runbook.render(), "run `python -m aibrixctl.runbook docs/runbook.md`"


@pytest.fixture
def watching(mocked: Mocked, tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A watch over a simulated node, in a process of its own."""
    folder = mocked("h100x2")
    words = ["diagnose", "watch", "--interval", "100ms", "--textfile", str(tmp_path / "d.prom")]
    with subprocess.Popen(
        [sys.executable, "-m", "aibrixctl", *words],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
    ) as process:  # fmt: skip
        yield folder, process
        process.kill()


def test_watch_reports_changes_only_and_ends_cleanly(
    watching: tuple[Path, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    folder, process = watching
    stream = process.stdout
    assert stream is not None

    def read() -> Any:
        ready, _, _ = select.select([stream], [], [], 30)
        assert ready, "no change was reported within 30 s"
        return json.loads(stream.readline())

    assert [read()["type"], read()["type"]] == ["device_appeared"] * 2
    write(folder, "h100x2", Override("gpu", "lost", True, 1))
    appeared = read()
    assert (appeared["type"], appeared["finding"]["code"]) == ("finding_appeared", "NV-GPU-LOST")
    write(folder, "h100x2", Override("node", "init_error", 9))
    restarting = read()
    assert restarting["finding"]["code"] == "NV-DRIVER-NOT-LOADED"
    write(folder, "h100x2")
    cleared = [read(), read()]
    assert {line["finding"]["code"] for line in cleared} == {"NV-GPU-LOST", "NV-DRIVER-NOT-LOADED"}
    assert {line["type"] for line in cleared} == {"finding_cleared"}
    process.send_signal(signal.SIGTERM)
    summary = read()
    assert process.wait(30) == 0
    assert (summary["type"], summary["data"]["changes"]) == ("summary", 6)
    body = {key: value for key, value in summary.items() if key != "type"}
    jsonschema.Draft202012Validator(schemas.get("diagnose-watch")).validate(body)
    assert "aibrixctl_diagnose_healthy 1\n" in (tmp_path / "d.prom").read_text()


def test_watch_goes_on_when_its_textfile_can_not_be_written_any_more(
    mocked: Mocked, tmp_path: Path
) -> None:
    mocked("h100x2")
    path = tmp_path / "collector" / "d.prom"
    with watch(path) as process:
        assert process.wait(30) == 1  # a folder that was never there is a mistake
    path.parent.mkdir()
    with watch(path) as process:
        poll(path.exists)
        shutil.rmtree(path.parent)
        assert process.stderr is not None
        said = process.stderr.readline().decode()
        assert said.startswith("warning: cannot write") and str(path) in said
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_watch_ends_when_its_reader_has_gone_though_nothing_changes(mocked: Mocked) -> None:
    mocked("h100x2")
    words = [sys.executable, "-m", "aibrixctl", "diagnose", "watch", "--interval", "1h"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b'{"device"')
        process.stdout.close()
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()


def test_watch_on_a_full_disk_ends_with_a_message(mocked: Mocked) -> None:
    mocked("h100x2")
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        words = [sys.executable, "-m", "aibrixctl", "diagnose", "watch", "--count", "1"]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, check=False, timeout=60)
    assert done.returncode == 1
    assert b"cannot write stdout: No space left" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("verb", [(), ("watch",)])
def test_a_signal_does_not_wait_for_a_driver_that_hangs(
    verb: tuple[str, ...], mocked: Mocked
) -> None:
    mocked("h100x2", Override("node", "init_hang_ms", 600_000))
    words = [sys.executable, "-m", "aibrixctl", "diagnose", *verb, "--timeout", "100s"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        us = psutil.Process(process.pid)
        poll(lambda: any("diagnose.nvidia.reader" in child.cmdline() for child in us.children()))
        readers = us.children()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == (0 if verb else 143)
    _, alive = psutil.wait_procs(readers, timeout=10)
    assert alive == []


def watch(textfile: Path) -> subprocess.Popen[bytes]:
    words = ["diagnose", "watch", "--interval", "100ms", "--textfile", str(textfile)]
    return subprocess.Popen(
        [sys.executable, "-m", "aibrixctl", *words],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, bufsize=0,
    )  # fmt: skip


def poll(holds: Callable[[], bool]) -> None:
    until_s = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < until_s
        time.sleep(0.02)


def test_watch_writes_to_stdout_only(cli: Callable[..., Any]) -> None:
    assert cli("diagnose", "watch", "-o", "csv").code == 2
