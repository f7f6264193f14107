"""Ascend NPUs, read by the real reader through the real native library, and judged."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from accelerators import mocked
from diagnose.ascend import dcmi
from diagnose.findings import Report
from diagnose.run import Options, diagnose
from mockfail import native, state_file
from mockfail.native import build
from mockfail.nodes import node
from mockfail.state import Call, Override, State, Value

NODE = State(node("ascend-910bx8"), mode="standalone")
Diagnose = Callable[..., Report]


@pytest.fixture(scope="session", autouse=True)
def libraries() -> None:
    newest = max(path.stat().st_mtime for path in build.HERE.iterdir() if path.suffix != ".so")
    for name, file in build.FILES.items():
        path = build.HERE / file
        if not path.exists() or path.stat().st_mtime < newest:
            build.compile_library(name, path)


def lay_pci_tree(sysfs: Path, widths: dict[int, int] | None = None) -> None:
    """Lay out the eight NPUs of the node, and a NIC of the same vendor that is none."""
    addresses = [str(npu["pci_bus_id"]).lower()[4:] for npu in NODE.node.npus]
    for index, address in enumerate([*addresses, "0000:f0:00.0"]):
        folder = sysfs / "bus" / "pci" / "devices" / address
        folder.mkdir(parents=True, exist_ok=True)
        files = {
            "vendor": "0x19e5",
            "device": "0xd802",
            "class": "0x120000" if index < 8 else "0x020000",
            "current_link_width": str((widths or {}).get(index, 16)),
            "max_link_width": "16",
        }
        for name, text in files.items():
            (folder / name).write_text(text + "\n")


@pytest.fixture
def run(tmp_path: Path) -> Diagnose:
    """Diagnose a simulated node with some readings and codes set."""
    folder = tmp_path / "mock"
    folder.mkdir()

    def diagnose_node(
        *overrides: Override,
        codes: dict[int, tuple[int, ...]] | None = None,
        calls: tuple[Call, ...] = (),
        widths: dict[int, int] | None = None,
        options: Options | None = None,
    ) -> Report:
        lay_pci_tree(mocked.Mock(folder).sysfs, widths)
        state = replace(NODE, overrides=overrides, codes=codes or {}, calls=calls)
        state_file.write(state, mocked.Mock(folder).state)
        environment = os.environ | native.preload_environment(folder, {})
        return diagnose(options or Options(accelerator="ascend"), environment)

    return diagnose_node


def npu(name: str, value: Value, index: int = 0) -> Override:
    return Override("npu", name, value, index)


def found(report: Report) -> list[tuple[str, str, int | None]]:
    return [(each.code, each.severity, each.device.index) for each in report.findings]


def test_a_healthy_node_has_no_finding_and_nothing_unread(run: Diagnose):
    report = run()
    assert found(report) == []
    assert not [each for each in report.unchecked if not each.skipped]
    assert report.simulated
    assert [device.index for device in report.devices] == list(range(8))
    first = report.devices[0]
    assert (first.kind, first.name, first.pci_bus_id) == ("npu", "910B3", "0000:01:00.0")
    assert first.uuid is not None and len(first.uuid.split()) == 5


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("lost", True, ("ASCEND-LOST", "fatal")),
        ("health", 1, ("ASCEND-HEALTH", "warning")),
        ("health", 2, ("ASCEND-HEALTH", "degraded")),
        ("health", 3, ("ASCEND-HEALTH", "fatal")),
        ("health", 0xFFFFFFFF, ("ASCEND-HEALTH", "fatal")),
        ("temperature_c", 95, ("ASCEND-TEMPERATURE", "warning")),
        ("temperature_c", 105, ("ASCEND-TEMPERATURE", "degraded")),
        ("hbm_temperature_c", 106, ("ASCEND-TEMPERATURE", "degraded")),
        ("hbm_double_bit_errors", 1, ("ASCEND-HBM-ECC", "degraded")),
        ("hbm_single_bit_errors", 1000, ("ASCEND-HBM-ECC", "warning")),
        ("hbm_isolated_double_bit_pages", 17, ("ASCEND-HBM-ECC", "warning")),
        ("hbm_isolated_double_bit_pages", 64, ("ASCEND-HBM-ECC", "fatal")),
        ("network_health", 2, ("ASCEND-NETWORK", "degraded")),
        ("network_health", 7, ("ASCEND-NETWORK", "warning")),
        ("network_health", 255, ("ASCEND-NETWORK", "degraded")),
        ("temperature_c", 94, ("ASCEND-OUTLIER", "warning")),
        ("temperature_c", 50, None),
        ("hbm_single_bit_errors", 999, None),
        ("hbm_isolated_double_bit_pages", 16, None),
        ("hbm_double_bit_errors_total", 3, None),  # of former times, dealt with
        ("network_health", 6, None),  # no detection address is set
    ],
)
def test_one_bad_reading_is_one_finding(run: Diagnose, name: str, value: Value, expected):
    assert found(run(npu(name, value, 5))) == ([(*expected, 5)] if expected else [])


def test_one_of_eight_that_runs_slower_under_load_is_found(run: Diagnose):
    loaded = [
        npu(name, value, index)
        for index in range(8)
        for name, value in (("aicore_utilization_percent", 97), ("power_mw", 310_000 + 900 * index))
    ]
    assert found(run(*loaded)) == []
    slow = npu("aicore_clock_mhz", 1200, 6)
    assert found(run(*loaded, slow)) == [("ASCEND-OUTLIER", "warning", 6)]


@pytest.mark.parametrize(
    ("code", "severity"),
    [
        (0x80E01801, "degraded"),
        (0x80E18402, "fatal"),
        (0x80C98000, "degraded"),
        (0x80FA4E00, "fatal"),
        (0x80E20207, "warning"),
        (0x80E38003, "info"),
        (0x12345678, "degraded"),
    ],
)
def test_a_fault_code_is_judged_by_its_handling_level(run: Diagnose, code: int, severity: str):
    report = run(codes={3: (code,)})
    assert found(report) == [(f"ASCEND-FAULT-{code:08X}", severity, 3)]
    assert report.findings[0].number == f"{code:08X}"
    assert report.findings[0].action


def test_a_code_takes_the_counters_that_belong_to_it_as_evidence(run: Diagnose):
    report = run(
        npu("hbm_double_bit_errors", 2, 1), npu("health", 3, 1), codes={1: (0x80E01801, 0xA8028802)}
    )
    assert found(report) == [("ASCEND-FAULT-80E01801", "degraded", 1)]
    evidence = report.findings[0].evidence
    assert evidence["hbm_double_bit_errors"] == 2
    assert evidence["handling"] == "RestartBusiness"
    assert evidence["explains"] == ["ASCEND-FAULT-A8028802"]


def test_bad_health_beside_a_harmless_code_is_still_a_finding(run: Diagnose):
    report = run(npu("health", 3, 1), codes={1: (0x80E38003,)})
    assert found(report) == [("ASCEND-HEALTH", "fatal", 1), ("ASCEND-FAULT-80E38003", "info", 1)]


def test_health_that_is_worse_than_what_else_is_seen_is_a_finding_of_its_own(run: Diagnose):
    hot = npu("temperature_c", 96, 2)
    assert found(run(hot, npu("health", 1, 2))) == [("ASCEND-TEMPERATURE", "warning", 2)]


def test_a_missing_npu_is_found_by_the_pci_bus(run: Diagnose):
    report = run(npu("hidden", True, 3))
    assert found(report) == [("ASCEND-COUNT", "fatal", None)]
    missing = str(NODE.node.npus[3]["pci_bus_id"]).lower().removeprefix("0000")
    assert report.findings[0].evidence["pci_addresses_without_npu"] == [missing]
    assert [device.index for device in report.devices] == [0, 1, 2, 4, 5, 6, 7]


def test_the_user_says_how_many_there_are(run: Diagnose):
    report = run(options=Options(accelerator="ascend", expect_count=16))
    assert found(report) == [("ASCEND-COUNT", "fatal", None)]


def test_the_user_says_what_they_are(run: Diagnose):
    options = Options(accelerator="ascend", expect_type="ascend-910b")
    assert found(run(npu("name", "310P3", 2), options=options)) == [("ASCEND-TYPE", "warning", 2)]


def test_fewer_lanes_are_seen_in_sysfs(run: Diagnose):
    report = run(widths={4: 8})
    assert found(report) == [("ASCEND-PCIE", "degraded", 4)]
    assert report.findings[0].evidence["pcie_width_current"] == 8


def test_a_code_of_the_pcie_controller_explains_fewer_lanes(run: Diagnose):
    report = run(codes={4: (0x80B98000,)}, widths={4: 8})
    assert found(report) == [("ASCEND-FAULT-80B98000", "fatal", 4)]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (-8005, "ASCEND-DRIVER-INIT"),
        (-8012, "ASCEND-DRIVER-INIT"),
        (-8002, "ASCEND-NO-PERMISSION"),
    ],
)
def test_a_driver_that_does_not_start_leaves_nothing_known(run: Diagnose, error: int, code: str):
    report = run(Override("node", "dcmi_init_error", error))
    assert found(report) == [(code, "fatal", None)]
    assert "health" in {each.check for each in report.unchecked if not each.skipped}


def test_one_reading_that_is_not_ready_is_unknown_and_loses_no_npu(run: Diagnose):
    report = run(calls=(Call("dcmi_get_device_network_health", gpu=3, error=-8012),))
    assert found(report) == []
    (unread,) = [each for each in report.unchecked if not each.skipped]
    assert (unread.check, unread.device.index) == ("network", 3)
    assert "device not ready (-8012)" in unread.reason


def test_a_reading_that_the_driver_lacks_is_skipped(run: Diagnose):
    report = run(calls=(Call("dcmi_get_device_network_health", error=-8255),))
    assert found(report) == []
    assert {each.check for each in report.unchecked} == {"network"}
    assert all(each.skipped for each in report.unchecked)


def test_a_hung_npu_costs_the_timeout_and_hides_no_other(run: Diagnose):
    report = run(
        npu("hang_ms", 60_000, 2),
        npu("temperature_c", 99, 6),
        options=Options(accelerator="ascend", timeout_s=1.5),
    )
    assert found(report) == [("DRIVER-HANG", "fatal", 2), ("ASCEND-TEMPERATURE", "warning", 6)]


def test_a_driver_that_hangs_in_its_start_is_a_finding_of_the_node(run: Diagnose):
    report = run(
        Override("node", "dcmi_init_hang_ms", 60_000),
        options=Options(accelerator="ascend", timeout_s=1.0),
    )
    assert found(report) == [("DRIVER-HANG", "fatal", None)]
    assert report.findings[0].evidence["call"] == "dcmi_init"


@pytest.mark.parametrize("count", [1, 16, 64])
def test_healthy_nodes_of_any_size_have_no_finding(tmp_path: Path, count: int):
    state_file.write(State(node(f"ascend-910bx{count}"), mode="standalone"), tmp_path / "state")
    environment = os.environ | native.preload_environment(tmp_path, {})
    report = diagnose(Options(accelerator="ascend"), environment)
    assert found(report) == []
    assert len(report.devices) == count


@pytest.mark.skipif(
    any(Path(path).exists() for path in dcmi.PATHS[1:]), reason="an Ascend driver is installed"
)
def test_a_library_that_does_not_load_is_missing():
    report = diagnose(Options(accelerator="ascend"), {"PATH": os.environ["PATH"]})
    assert [each.code for each in report.findings] == ["ASCEND-LIBRARY-MISSING"]
    assert not report.simulated
