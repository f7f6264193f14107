"""Mocks on disk: made, changed while programs look, over, removed; and their guardian."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from accelerators import mocked
from accelerators.errors import ToolError, UsageError
from mockfail import environment, guardian, machine, plan, runner
from mockfail.errors import MockError, MockUsageError
from mockfail.layer import Codes, Layer, LogLine, merge, transitions
from mockfail.native import preload_environment
from mockfail.nodes import node
from mockfail.state import Override, When
from tests.mockfail.programs import compile_program

CLIENT = """
import sys, pynvml as n
n.nvmlInit()
for line in sys.stdin:
    gpu = n.nvmlDeviceGetHandleByIndex(int(line))
    print(n.nvmlDeviceGetTemperature(gpu, 0), flush=True)
"""


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def made(folder: Path, *sets: str, for_s: float | None = None) -> environment.Record:
    wanted = plan.plan(plan.asked([], list(sets)), "h100x2")
    record = environment.new(
        folder.name, wanted.node, wanted.mode, layers=wanted.layers, for_s=for_s
    )
    environment.create(folder, record)
    return record


def with_setting(text: str) -> Callable[[environment.Record], environment.Record]:
    def edit(record: environment.Record) -> environment.Record:
        layers = plan.bound(plan.asked([], [text]), record.healthy(), record.mode)
        return record.with_layers(list(layers), machine.now_s())

    return edit


def test_a_record_is_read_back_as_it_was_written(tmp_path: Path):
    wanted = plan.plan(plan.asked(["gpu-lost-xid79", "ascend-combined"], []), "h100x8,910bx8")
    record = environment.new("a", wanted.node, wanted.mode, layers=wanted.layers, for_s=60)
    record = replace(record, command=runner.this_process(["sleep", "1"]))
    environment.create(tmp_path / "a", record)
    assert environment.read(tmp_path / "a") == record


def test_a_change_reaches_a_program_that_runs_within_a_second(tmp_path: Path):
    folder = tmp_path / "lab"
    made(folder)
    variables = {**os.environ, **preload_environment(folder)}
    words = [sys.executable, "-c", CLIENT]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables, text=True
    ) as client:
        assert client.stdin is not None and client.stdout is not None
        stdin, stdout = client.stdin, client.stdout

        def temperature() -> int:
            stdin.write("1\n")
            stdin.flush()
            return int(stdout.readline())

        healthy = temperature()
        environment.change(folder, with_setting("gpus.1.temperature_c=97"))
        until(lambda: temperature() == 97, 1.0)
        environment.change(folder, lambda record: record.without(None))
        until(lambda: temperature() == healthy, 1.0)
        stdin.close()


def test_changes_by_many_at_once_are_all_kept(tmp_path: Path):
    folder = tmp_path / "lab"
    made(folder)
    names = ["temperature_c", "power_mw", "clock_sm_mhz", "pcie_replays", "fans", "energy_mj"]
    threads = [
        threading.Thread(target=environment.change, args=(folder, with_setting(f"gpus.0.{name}=1")))
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = {layer.name for layer in environment.read(folder).layers}
    assert found == {f"gpus.0.{name}" for name in names}


def test_a_setting_replaces_the_one_of_the_same_path(tmp_path: Path):
    folder = tmp_path / "lab"
    made(folder, "gpus.0.temperature_c=90", "gpus.1.lost=true")
    record = environment.change(folder, with_setting("gpus.0.temperature_c=97"))
    assert [layer.name for layer in record.layers] == ["gpus.1.lost", "gpus.0.temperature_c"]
    with pytest.raises(MockUsageError, match=r"did you mean gpus\.1\.lost"):
        record.without(["gpus.1.lots"])


def test_what_joins_a_running_mock_counts_its_time_from_then(tmp_path: Path):
    record = made(tmp_path / "lab")
    layer = Layer("late", log=(LogLine("x", 2.0),), codes=(Codes(0, (1,), When(3.0, 4.0)),))
    joined = record.with_layers([layer], record.started_s + 100).layers[0]
    assert joined.log[0].start_s == pytest.approx(102)
    assert transitions([joined]) == pytest.approx([102, 103, 107])
    codes = [merge(node("910bx1"), [joined], moment).codes for moment in (102, 104, 108)]
    assert codes == [{}, {0: (1,)}, {}]


def test_the_kernel_log_grows_by_appending_and_shrinks_when_cleared(tmp_path: Path):
    folder = tmp_path / "lab"
    made(folder, "gpus.0.xid=79")
    log = mocked.Mock(folder).kernel_log
    inode, text = log.stat().st_ino, log.read_text()
    assert "Xid (PCI:0000:1b:00): 79" in text
    environment.change(folder, with_setting("gpus.1.xid=63"))
    assert (log.stat().st_ino, log.read_text()[: len(text)]) == (inode, text)
    environment.change(folder, lambda record: record.without(None))
    assert log.read_text() == ""


def test_a_name_in_use_is_refused_and_one_that_is_over_gives_way(tmp_path: Path):
    folder = tmp_path / "lab"
    record = made(folder)
    with pytest.raises(MockUsageError, match="is running"):
        made(folder)
    environment.remove(folder)
    old = replace(record, boot="another boot")
    environment.create(folder, old)
    with pytest.raises(MockError, match="has ended"):
        environment.change(folder, lambda current: current)
    assert made(folder).boot == machine.boot_id()


def test_a_damaged_record_is_told_and_can_be_removed(tmp_path: Path):
    folder = tmp_path / "lab"
    made(folder)
    (folder / environment.RECORD).write_text('{"schema": "aibrixctl/mock/v1"}')
    with pytest.raises(MockError, match="damaged"):
        environment.read(folder)
    environment.remove(folder)
    environment.remove(folder)
    with pytest.raises(MockError, match="no mock 'lab'"):
        environment.read(folder)


def test_a_name_that_leads_elsewhere_is_refused():
    for name in ("../x", "a/b", "", ".x", "-n"):
        with pytest.raises(MockUsageError):
            environment.folder_of(name)


def test_the_guardian_removes_a_mock_when_its_time_is_over(tmp_path: Path):
    folder = tmp_path / "lab"
    made(folder, for_s=0.5)
    guardian.start(folder)
    until(lambda: not folder.exists())


def test_the_guardian_writes_what_is_due_later(tmp_path: Path):
    folder = tmp_path / "lab"
    record = made(folder)
    late = Layer("late", log=(LogLine("a line of later", 0.4),))
    environment.change(folder, lambda now: now.with_layers([late], record.started_s))
    assert "later" not in mocked.Mock(folder).kernel_log.read_text()
    guardian.start(folder)
    until(lambda: "a line of later" in mocked.Mock(folder).kernel_log.read_text())
    environment.remove(folder)


def test_real_devices_are_overlaid_at_their_own_addresses(tmp_path: Path):
    device = tmp_path / "bus" / "pci" / "devices" / "0001:18:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x10de\n")
    (device / "class").write_text("0x030200\n")
    assert machine.resolve("auto", node_given=False, sysfs=tmp_path) == "auto"
    assert machine.resolve("auto", node_given=True, sysfs=tmp_path) == "standalone"
    assert machine.resolve("overlay", node_given=True, sysfs=tmp_path) == "overlay"
    with pytest.raises(UsageError, match="no NVIDIA or Ascend device"):
        machine.resolve("overlay", node_given=False, sysfs=tmp_path / "empty")
    over = machine.node("h100x8", "auto", tmp_path)
    assert [gpu.values["pci_bus_id"] for gpu in over.gpus] == ["00000001:18:00.0"]


def test_kernel_lines_go_to_the_machine_too_when_that_was_asked_for(tmp_path: Path):
    folder = tmp_path / "lab"
    made(folder, "gpus.0.xid=79")
    kmsg = tmp_path / "kmsg"
    kmsg.touch()
    keeper = guardian.Guardian(folder, kmsg)
    record = replace(environment.read(folder), kmsg=True)
    keeper.follow(record)
    keeper.follow(record)
    lines = kmsg.read_text().splitlines()
    assert sum("Xid (PCI:0000:1b:00): 79" in line for line in lines) == 1
    assert all(line.startswith("<4>NVRM: ") for line in lines)


def test_a_record_holds_no_more_than_json(tmp_path: Path):
    made(tmp_path / "lab", "gpus.0.xid=79")
    body = json.loads((tmp_path / "lab" / environment.RECORD).read_text())
    assert body["schema"] == "aibrixctl/mock/v1"
    assert (
        environment.Record.from_json(body).to_json() == environment.read(tmp_path / "lab").to_json()
    )


def test_what_the_state_can_not_hold_leaves_everything_as_it_was(tmp_path: Path):
    folder = tmp_path / "lab"
    made(folder, "gpus.0.temperature_c=90")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    many = Layer(
        "many",
        overrides=tuple(
            Override("gpu", "temperature_c", 1, when=When(start_s=step)) for step in range(1, 2000)
        ),
        log=(LogLine("not to be seen"),),
    )
    with pytest.raises(MockUsageError):
        environment.change(folder, lambda record: record.with_layers([many], 0.0))
    assert {path: path.read_bytes() for path in before} == before
    other = environment.new("other", "h100x2", "standalone", layers=(many,))
    with pytest.raises(MockUsageError):
        environment.create(tmp_path / "other", other)
    assert not (tmp_path / "other").exists()


def test_a_place_that_can_not_be_written_says_how_to_choose_another(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(ToolError, match="cannot write") as refused:
        made(tmp_path / "file" / "lab", "gpus.0.xid=63")
    assert "XDG_RUNTIME_DIR" in refused.value.hint


def test_a_change_that_can_not_be_written_whole_is_taken_back(tmp_path: Path):
    folder = tmp_path / "lab"
    made(folder, "gpus.0.xid=63")
    before = (folder / "kernel.log").read_bytes()
    width = folder / "sysfs/bus/pci/devices/0000:1b:00.0/current_link_width"
    assert width.read_text() == "16\n"
    (folder / f".{environment.RECORD}.new").mkdir()  # so that the record can't be replaced
    for text in ("gpus.0.pcie_width_current=8", "gpus.0.xid=79"):
        with pytest.raises(ToolError, match="cannot write"):
            environment.change(folder, with_setting(text))
    assert (folder / "kernel.log").read_bytes() == before
    assert width.read_text() == "16\n"
    (folder / f".{environment.RECORD}.new").rmdir()
    assert environment.change(folder, with_setting("gpus.0.xid=79")).layers


def test_what_a_killed_guardian_or_a_restart_left_is_cleaned_up_by_the_next_mock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    mocks = environment.root()
    alive = made(mocks / "alive")
    made(mocks / "expired", for_s=0.0)
    record = environment.new("run-1", "h100x2", "standalone")
    environment.create(mocks / "run-1", replace(record, boot="another"))
    for name in ("half-made", "being-made"):
        (mocks / name).mkdir()
    os.utime(mocks / "half-made", (0, 0))
    guardian.sweep()
    until(lambda: sorted(path.name for path in mocks.iterdir()) == ["alive", "being-made"])
    assert environment.read(mocks / "alive") == alive


def test_a_program_that_no_library_can_be_preloaded_into_is_told(tmp_path: Path):
    source = tmp_path / "program.c"
    source.write_text("int main(void) { return 0; }\n")
    dynamic = compile_program("program", source)
    static = compile_program("program-static", source, ["-static"])
    assert runner.out_of_reach(static) == "statically linked"
    assert runner.out_of_reach(dynamic) is None
    assert runner.out_of_reach(sys.executable) is None
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    assert runner.out_of_reach(script) is None
    foreign = bytearray(dynamic.read_bytes())
    foreign[18] ^= 1  # the processor
    (tmp_path / "foreign").write_bytes(foreign)
    assert "another processor" in (runner.out_of_reach(tmp_path / "foreign") or "")
    (tmp_path / "cut").write_bytes(dynamic.read_bytes()[:30])
    assert runner.out_of_reach(tmp_path / "cut") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_a_setuid_program_of_another_user_is_told(tmp_path: Path):
    program = tmp_path / "program"
    program.write_bytes(Path("/bin/true").read_bytes())
    os.chown(program, 65534, 65534)
    program.chmod(0o4755)
    assert runner.out_of_reach(program) == "setuid"
    os.chown(program, 0, 0)
    program.chmod(0o4755)
    assert runner.out_of_reach(program) is None
