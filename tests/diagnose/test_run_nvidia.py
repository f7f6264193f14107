"""Whole diagnoses of simulated GPUs: the real reader, nvidia-ml-py and the native library."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from accelerators.catalog import load_catalog
from diagnose.errors import DiagnoseUsageError
from diagnose.findings import Report
from diagnose.run import Options, diagnose
from diagnose.verdict import verdict
from mockfail import native, state_file
from mockfail.nodes import node
from mockfail.state import Call, Override, Process, State

TYPES = [type_.name for type_ in load_catalog().values() if type_.vendor == "NVIDIA"]
Run = Callable[..., Report]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Diagnose a simulated node: ``run("h100x8", Override(…), calls=…, timeout_s=…)``."""

    def call(spec: str, *overrides: Override, timeout_s: float = 30.0, **more: object) -> Report:
        state = State(node(spec), mode="standalone", overrides=overrides, **more)  # type: ignore[arg-type]
        state_file.write(state, tmp_path / "state")
        environment = {**os.environ, **native.preload_environment(tmp_path)}
        return diagnose(Options(accelerator="nvidia", timeout_s=timeout_s), environment)

    return call


def found(report: Report) -> list[tuple[str, int | None]]:
    return [(finding.code, finding.device.index) for finding in report.findings]


@pytest.mark.parametrize("name", TYPES)
def test_a_healthy_node_of_any_type_has_no_finding(name: str, run: Run) -> None:
    report = run(f"{name}x2")
    assert found(report) == []
    assert [each for each in report.unchecked if not each.skipped] == []
    assert verdict(report) == "healthy"
    assert [device.uuid is not None for device in report.devices] == [True, True]
    assert report.passed >= 28  # of two devices; cards without ECC and links have the fewest
    assert report.simulated


@pytest.mark.parametrize("spec", ["h100", "h100x64", "h100x4,a10x2,l4x2"])
def test_a_healthy_node_of_any_size_has_no_finding(spec: str, run: Run) -> None:
    report = run(spec)
    assert (found(report), verdict(report)) == ([], "healthy")


@pytest.mark.parametrize("name", ["h100-sxm", "a100-80g-pcie", "l4", "t4", "rtx-4090"])
def test_a_healthy_node_at_work_has_no_fault(name: str, run: Run) -> None:
    """At the power limit, some a little hotter and faster than others."""
    at_work = [
        Override("gpu", reading, value, index)
        for index, gpu in enumerate(node(f"{name}x8").gpus)
        for reading, value in _at_work(gpu.values, index).items()
    ]
    report = run(f"{name}x8", *at_work)
    assert {finding.code for finding in report.findings} == {"NV-POWER-CAP"}
    assert verdict(report) == "healthy"


def _at_work(values: Mapping[str, Any], index: int) -> dict[str, Any]:
    return {
        "gpu_utilization_percent": 96 + index % 3,
        "temperature_c": 58 + 2 * index,
        "power_mw": int(values["power_limit_mw"] * (0.9 + 0.01 * index)),
        "throttle_idle": False,
        "throttle_power_cap": index % 2 == 0,
        "performance_state": 0,
        "clock_sm_mhz": int(values["clock_sm_max_mhz"] * (0.95 - 0.01 * index)),
        "clock_memory_mhz": values["clock_memory_max_mhz"],
        "pcie_generation_current": values["pcie_generation_max"],
    }


def test_every_reading_of_a_check_is_read(run: Run) -> None:
    """A name that the reader never gives would skip its check for ever, unseen."""
    from diagnose.nvidia import CHECKS

    given: set[str] = set()
    for spec in ("h100", "a10", "t4", "rtx4090"):
        report = run(spec)
        (gpu,) = report.facts["nvidia"].devices
        given |= gpu.values.keys() | gpu.failures.keys()
    asked = {name for check in CHECKS if check.of_device for name in check.reads}
    assert asked <= given


def test_a_lost_gpu_keeps_its_address_and_the_others_their_verdict(run: Run) -> None:
    report = run("h100x4", Override("gpu", "lost", True, 2))
    (finding,) = report.findings
    assert (finding.code, finding.device.index) == ("NV-GPU-LOST", 2)
    healthy = [each for each in report.facts["nvidia"].devices if each.answers]
    assert [each.device.index for each in healthy] == [0, 1, 3]


def test_gpus_that_can_not_be_opened(run: Run) -> None:
    report = run("h100x2", calls=(Call("nvmlDeviceGetHandleByIndex_v2", error=999),))
    assert found(report) == [("NV-GPU-ERROR", 0), ("NV-GPU-ERROR", 1)]
    assert report.findings[0].evidence == {"error": "NVML: Unknown Error", "nvml_return": 999}


def test_a_gpu_that_hangs_is_found_within_the_timeout(run: Run) -> None:
    started_s = time.monotonic()
    report = run("h100x4", Override("gpu", "hang_ms", 600_000, 1), timeout_s=3)
    assert time.monotonic() - started_s < 4
    (finding,) = report.findings
    assert (finding.code, finding.device.index) == ("DRIVER-HANG", 1)
    assert str(finding.evidence["call"]).startswith("nvmlDevice")


def test_a_driver_that_hangs_at_its_start(run: Run) -> None:
    report = run("h100x2", Override("node", "init_hang_ms", 600_000), timeout_s=2)
    assert found(report) == [("DRIVER-HANG", None)]


def test_one_call_that_fails_leaves_its_check_open_and_no_other(run: Run) -> None:
    report = run("h100x2", calls=(Call("nvmlDeviceGetPcieReplayCounter", 1, error=999),))
    assert (found(report), verdict(report)) == ([], "unknown")
    (open_,) = [each for each in report.unchecked if not each.skipped]
    assert (open_.check, open_.device.index) == ("pcie-replays", 1)


def test_a_call_without_permission_leaves_its_check_open(run: Run) -> None:
    report = run("h100x2", calls=(Call("nvmlDeviceGetComputeRunningProcesses_v3", 0, error=4),))
    assert verdict(report) == "unknown"
    assert {each.check for each in report.unchecked if not each.skipped} >= {"processes"}


def test_processes_are_told_from_leaks_and_zombies(run: Run) -> None:
    own = Process(os.getpid(), 20 * 2**30)
    used = Override("gpu", "memory_used_bytes", 20 * 2**30 + 500_000_000, 0)
    assert found(run("h100", used, processes={0: (own,)})) == []
    gone = Process(4_194_303, 20 * 2**30)
    assert found(run("h100", used, processes={0: (gone,)})) == [("NV-ZOMBIE-PROCESS", 0)]
    assert found(run("h100", used, processes={0: ()})) == [("NV-MEMORY-LEAK", 0)]


def test_the_mocks_pci_tree_tells_how_many_there_should_be(tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "sysfs" / "bus" / "pci" / "devices"
    for gpu in node("h100x4").gpus:
        address = str(gpu.values["pci_bus_id"]).lower().removeprefix("0000")
        (folder / address).mkdir(parents=True)
        for name, value in (("vendor", "0x10de"), ("class", "0x030200"), ("device", "0x2330")):
            (folder / address / name).write_text(value + "\n")
    assert found(run("h100x4")) == []
    report = run("h100x4", Override("gpu", "hidden", True, 2))
    assert found(report) == [("NV-GPU-COUNT", None)]
    assert report.findings[0].evidence["pci_addresses_without_gpu"] == ["0000:52:00.0"]
    lost = run("h100x4", Override("gpu", "lost", True, 2)).findings[0]
    assert lost.device.pci_bus_id in ("0000:52:00.0", "00000000:52:00.0")


def test_a_check_that_does_not_exist_is_refused_before_anything_is_read() -> None:
    with pytest.raises(DiagnoseUsageError, match="did you mean nvlink"):
        diagnose(Options(checks=frozenset({"nvlnk"})))
