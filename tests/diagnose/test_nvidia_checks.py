import dataclasses
from typing import Any

import pytest

from diagnose.checks import Context
from diagnose.facts import Failure
from diagnose.kernel_events import Event
from diagnose.kernel_log import KernelLog
from diagnose.pci import PciFunction
from tests.diagnose.facts import BUSES, UNSUPPORTED, facts, found, gpu, judge

ON_BUS = tuple(PciFunction(f"0000:{bus}:00.0", 0x10DE, 0x2330) for bus in BUSES)
LINKS = [{"link": number, "active": True} for number in range(18)]


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("not_loaded", "NV-DRIVER-NOT-LOADED"),
        ("library_missing", "NV-LIBRARY-MISSING"),
        ("mismatch", "NV-DRIVER-MISMATCH"),
        ("no_permission", "NV-NO-PERMISSION"),
        ("error", "NV-DRIVER-ERROR"),
    ],
)
def test_a_driver_that_refuses_is_one_finding_and_the_rest_is_not_known(
    kind: Any, code: str
) -> None:
    read = facts(error=Failure(kind, "NVML: no", 9))
    outcome = judge(read, context=Context(pci=ON_BUS))
    assert [finding.code for finding in outcome.findings] == [code]
    assert outcome.unchecked
    assert not any(each.skipped for each in outcome.unchecked)


def test_a_driver_that_hangs_names_the_call() -> None:
    (finding,) = judge(facts(hung_in="nvmlInit_v2"), context=Context(timeout_s=2)).findings
    assert (finding.code, finding.device.kind) == ("DRIVER-HANG", "node")
    assert finding.evidence == {"call": "nvmlInit_v2", "timeout_s": 2}


def test_a_gpu_that_is_lost_is_not_also_missing() -> None:
    lost = gpu(3, error=Failure("lost", "NVML: GPU is lost", 15))
    read = facts(gpu(0), gpu(1), gpu(2), lost)
    assert found(read, context=Context(pci=ON_BUS[:4])) == [("NV-GPU-LOST", 3)]


def test_a_gpu_that_can_not_be_opened_is_a_fault() -> None:
    """As NVML answers for many a GPU that fell off the bus, with or without an XID."""
    read = facts(gpu(0), gpu(1, error=Failure("error", "NVML: Unknown Error", 999)))
    line = Event("nvrm", None, "NVRM: RmInitAdapter failed!")
    context = Context(pci=ON_BUS[:2], kernel_log=KernelLog("log", (line,)))
    outcome = judge(read, "gpus", "kernel-log", context=context)
    assert [(each.code, each.severity, each.evidence["explains"]) for each in outcome.findings] == [
        ("NV-GPU-ERROR", "fatal", ["NV-NVRM"])
    ]


@pytest.mark.parametrize(
    "failure",
    [Failure("error", "the process that read the device died"), Failure("no_permission", "no", 4)],
)
def test_our_own_trouble_with_a_gpu_is_no_fault_of_it(failure: Failure) -> None:
    outcome = judge(facts(gpu(0, error=failure)), "gpus")
    assert outcome.findings == []
    assert [(each.skipped, each.reason) for each in outcome.unchecked] == [(False, failure.text)]


def test_a_driver_that_was_never_asked_is_not_known() -> None:
    outcome = judge(facts(error=Failure("not_started", "no process")), "driver", "ecc")
    assert outcome.findings == []
    assert {each.check for each in outcome.unchecked if not each.skipped} == {"driver", "ecc"}


@pytest.mark.parametrize("silent", [{"hung_in": "ask"}, {"error": Failure("lost", "gone", 15)}])
@pytest.mark.parametrize("check", ["ecc", "nvlink", "outliers"])
def test_a_silent_gpu_is_not_healthy_to_any_chosen_check(silent: Any, check: str) -> None:
    outcome = judge(facts(gpu(0), gpu(1, **silent)), check)
    assert outcome.findings == []
    (open_,) = [each for each in outcome.unchecked if not each.skipped]
    assert (open_.check, open_.device.index) == (check, 1)


def test_fewer_gpus_than_on_the_bus_names_the_addresses() -> None:
    read = facts(gpu(0), gpu(2))
    (finding,) = judge(read, "count", context=Context(pci=ON_BUS[:3])).findings
    assert finding.code == "NV-GPU-COUNT"
    assert finding.evidence["pci_addresses_without_gpu"] == ["0000:43:00.0"]


def test_the_users_count_goes_before_the_bus() -> None:
    read = facts(gpu(0), gpu(1))
    assert found(read, "count", context=Context(expect_count=2, pci=ON_BUS)) == []
    assert found(read, "count", context=Context(expect_count=1)) == [("NV-GPU-COUNT", None)]


def test_in_a_container_the_bus_is_no_yardstick() -> None:
    context = Context(pci=ON_BUS, pci_unknown="a container sees only what it was given")
    outcome = judge(facts(gpu(0)), "count", context=context)
    assert outcome.findings == []
    assert outcome.unchecked[0].skipped


def test_another_type_than_expected() -> None:
    assert found(facts(gpu(0)), "type", context=Context(expect_type="h100-sxm")) == []
    assert found(facts(gpu(0)), "type", context=Context(expect_type="a10")) == [("NV-GPU-TYPE", 0)]


def test_a_driver_that_is_older_than_the_card_or_the_software() -> None:
    hopper = gpu(0, compute_capability_major=9, compute_capability_minor=0)
    assert found(facts(hopper, values={"cuda_version": 11040}), "cuda") == [("NV-CUDA-MISMATCH", 0)]
    assert found(facts(hopper, values={"cuda_version": 12020}), "cuda") == []
    newer = Context(toolkits={"torch": "13.0"})
    assert found(facts(hopper, values={"cuda_version": 12020}), "cuda", context=newer) == [
        ("NV-CUDA-MISMATCH", None)
    ]
    same_major = Context(toolkits={"torch": "12.8"})
    assert found(facts(hopper, values={"cuda_version": 12020}), "cuda", context=same_major) == []


@pytest.mark.parametrize(
    ("values", "codes"),
    [
        ({"ecc_uncorrected_volatile_dram": 1, "ecc_uncorrected_volatile_total": 1,
          "ecc_uncorrected_aggregate_total": 4}, ["NV-ECC-UNCORRECTABLE"]),
        ({"ecc_uncorrected_aggregate_total": 4}, ["NV-ECC-UNCORRECTABLE-AGGREGATE"]),
        ({"ecc_uncorrected_volatile_total": 2}, ["NV-ECC-UNCORRECTABLE"]),
        ({"ecc_uncorrected_volatile_total": 2, "ecc_uncorrected_volatile_dram": 0},
         ["NV-ECC-SRAM"]),
        ({"sram_threshold_exceeded": True}, ["NV-ECC-SRAM"]),
        ({"ecc_corrected_volatile_total": 999}, []),
        ({"ecc_corrected_volatile_total": 1000}, ["NV-ECC-CORRECTABLE"]),
        ({"remap_pending": 1, "ecc_uncorrected_aggregate_total": 1}, ["NV-ROW-REMAP-PENDING"]),
        ({"remap_failure": 1}, ["NV-ROW-REMAP-FAILURE"]),
        ({"remap_banks_none": 1}, ["NV-ROW-REMAP-EXHAUSTED"]),
        ({"retired_pages_sbe": 3}, ["NV-RETIRED-PAGES-SBE"]),
        ({"retired_pages_dbe": 3, "ecc_uncorrected_aggregate_total": 3}, ["NV-RETIRED-PAGES-DBE"]),
        ({"retired_pages_pending": True}, ["NV-RETIRED-PAGES-PENDING"]),
        ({"pcie_width_current": 8, "pcie_width_max": 16}, ["NV-PCIE-WIDTH"]),
        ({"pcie_generation_current": 1, "pcie_generation_max": 5}, []),
        ({"pcie_generation_current": 1, "pcie_generation_max": 5, "gpu_utilization_percent": 95},
         ["NV-PCIE-GENERATION"]),
        ({"pcie_replays": 5000}, ["NV-PCIE-REPLAYS"]),
        ({"temperature_c": 88, "threshold_slowdown_c": 90, "threshold_gpu_max_c": 87},
         ["NV-TEMPERATURE"]),
        ({"memory_temperature_c": 96, "threshold_memory_max_c": 95}, ["NV-TEMPERATURE"]),
        ({"throttle_reasons": 0x1}, []),
        ({"throttle_reasons": 0x48, "temperature_c": 95, "threshold_slowdown_c": 90},
         ["NV-THERMAL-SLOWDOWN"]),
        ({"throttle_reasons": 0x20}, ["NV-THERMAL-SLOWDOWN"]),
        ({"throttle_reasons": 0x88}, ["NV-POWER-BRAKE"]),
        ({"throttle_reasons": 0x8}, ["NV-HW-SLOWDOWN"]),
        ({"throttle_reasons": 0x4}, ["NV-POWER-CAP"]),
        ({"clock_sm_mhz": 345, "clock_sm_max_mhz": 1980, "gpu_utilization_percent": 99},
         ["NV-CLOCKS-LOW"]),
        ({"clock_sm_mhz": 345, "clock_sm_max_mhz": 1980, "gpu_utilization_percent": 0}, []),
        ({"clock_sm_mhz": 345, "clock_sm_max_mhz": 1980, "gpu_utilization_percent": 99,
          "throttle_reasons": 0x2}, []),
        ({"fan_speeds_percent": [60, 60], "fan_speeds_rpm": [3000, 0]}, ["NV-FAN"]),
        ({"fan_speeds_percent": [0], "fan_speeds_rpm": [0], "temperature_c": 40}, []),
        ({"inforom_valid": False}, ["NV-INFOROM"]),
        ({"recovery_action": 1}, ["NV-RECOVERY-ACTION"]),
        ({"recovery_action": 1, "remap_pending": 1}, ["NV-ROW-REMAP-PENDING"]),
        ({"fabric_state": 0, "fabric_status": 0}, []),
        ({"fabric_state": 3, "fabric_status": 0, "fabric_health_mask": 0b10101010}, []),
        ({"fabric_state": 1, "fabric_status": 0}, ["NV-FABRIC-NOT-READY"]),
        ({"fabric_state": 3, "fabric_health_mask": 0b01}, ["NV-FABRIC-NOT-READY"]),
        ({"ecc_mode_current": 0, "ecc_mode_pending": 1}, ["NV-ECC-MODE-PENDING"]),
        ({"mig_mode_current": 0, "mig_mode_pending": 1}, ["NV-MIG-DRIFT"]),
        ({"persistence_mode": 0}, ["NV-PERSISTENCE-OFF"]),
        ({"nvlinks": [{**LINKS[0], "crc_flit_errors": 5000}, *LINKS[1:]]}, ["NV-NVLINK-ERRORS"]),
        ({"nvlinks": [{**LINKS[0], "active": False}, *LINKS[1:]]}, ["NV-NVLINK-DOWN"]),
    ],
)  # fmt: skip
def test_one_reading_gives_one_finding(values: dict[str, Any], codes: list[str]) -> None:
    assert [code for code, _ in found(facts(gpu(0, **values)))] == codes


def test_a_consequence_stands_in_the_evidence_of_its_cause() -> None:
    read = facts(gpu(0, throttle_reasons=0x48, temperature_c=95, threshold_slowdown_c=90))
    (finding,) = judge(read).findings
    assert finding.evidence["explains"] == ["NV-TEMPERATURE"]


def test_cards_without_nvlink_have_none_down() -> None:
    without = gpu(0, name="NVIDIA A10", failures={"nvlinks": UNSUPPORTED})
    outcome = judge(facts(without), "nvlink", "nvlink-errors")
    assert outcome.findings == []
    assert all(each.skipped for each in outcome.unchecked)


def test_links_of_a_pcie_card_depend_on_its_bridges() -> None:
    name = "NVIDIA A100 80GB PCIe"
    idle = [{**link, "active": False} for link in LINKS[:12]]
    half = [{**link, "active": link["link"] < 6} for link in LINKS[:12]]
    alone = [gpu(0, name=name, nvlinks=idle), gpu(1, name=name, nvlinks=idle)]
    bridged = [gpu(0, name=name, nvlinks=half), gpu(1, name=name, nvlinks=half)]
    bridged.append(gpu(2, name=name, nvlinks=idle))
    broken = [gpu(0, name=name, nvlinks=[{**half[0], "active": False}, *half[1:]]), bridged[1]]
    assert found(facts(*alone), "nvlink") == []
    assert found(facts(*bridged), "nvlink") == []
    assert found(facts(*broken), "nvlink") == [("NV-NVLINK-DOWN", 0)]


def test_a_module_whose_links_are_all_down_while_its_peers_are_up() -> None:
    idle = [{**link, "active": False} for link in LINKS]
    read = facts(gpu(0, nvlinks=idle), gpu(1, nvlinks=LINKS))
    assert found(read, "nvlink") == [("NV-NVLINK-DOWN", 0)]
    everywhere = facts(gpu(0, nvlinks=idle), gpu(1, nvlinks=idle))
    assert found(everywhere, "nvlink") == []


def test_memory_that_no_process_holds() -> None:
    held = [{"pid": 1, "used_bytes": 10 * 2**30}]
    read = facts(gpu(0, memory_used_bytes=60 * 2**30, compute_processes=held))
    context = Context(pids=frozenset({1}))
    assert found(read, "memory-use", context=context) == [("NV-MEMORY-LEAK", 0)]
    (finding,) = judge(read, "memory-use").findings  # a container hides processes
    assert finding.severity == "info"
    small = facts(gpu(0, memory_used_bytes=10 * 2**30 + 2**29, compute_processes=held))
    assert found(small, "memory-use", context=context) == []


def test_a_process_that_does_not_exist() -> None:
    listed = [{"pid": 4711, "used_bytes": 2**30}]
    read = facts(gpu(0, compute_processes=listed, graphics_processes=listed))
    context = Context(pids=frozenset({1, 2}))
    assert found(read, "processes", context=context) == [("NV-ZOMBIE-PROCESS", 0)]
    assert found(read, "processes") == []


def test_settings_that_differ_name_the_minority() -> None:
    modes = [1, 1, 0, 1]
    read = facts(*(gpu(i, persistence_mode=m, ecc_mode_current=m) for i, m in enumerate(modes)))
    assert found(read, "persistence", "ecc-mode") == [
        ("NV-PERSISTENCE-DRIFT", 2),
        ("NV-ECC-MODE-DRIFT", 2),
    ]


@pytest.mark.parametrize(
    ("reading", "usual", "odd"),
    [("clock_sm_mhz", 1980, 1386), ("temperature_c", 60, 80), ("power_mw", 650_000, 400_000)],
)
def test_one_of_eight_that_is_slower_or_hotter(reading: str, usual: int, odd: int) -> None:
    values = [usual + i * usual // 500 for i in range(7)] + [odd]
    read = facts(
        *(gpu(i, gpu_utilization_percent=97, **{reading: value}) for i, value in enumerate(values))
    )
    assert found(read, "outliers") == [("NV-OUTLIER", 7)]


def test_gpus_under_another_load_are_no_outliers() -> None:
    busy = [gpu(i, gpu_utilization_percent=97, temperature_c=75) for i in range(5)]
    idle = [gpu(i, gpu_utilization_percent=0, temperature_c=35) for i in range(5, 8)]
    assert found(facts(*busy, *idle), "outliers") == []


def test_rates_need_two_rounds_and_survive_a_reset_of_the_counters() -> None:
    before = facts(gpu(0, pcie_replays=100, ecc_corrected_volatile_total=50))
    now = facts(gpu(0, pcie_replays=110, ecc_corrected_volatile_total=200))
    context = Context(previous=before, interval_s=60)
    assert found(now, context=context) == [("NV-ECC-CORRECTABLE", 0), ("NV-PCIE-REPLAYS", 0)]
    reset = facts(gpu(0, pcie_replays=0, ecc_corrected_volatile_total=0))
    assert found(reset, context=context) == []


def test_a_reading_that_failed_leaves_the_check_open_and_what_is_missing_skips_it() -> None:
    broken = Failure("error", "NVML: Unknown Error", 999)
    read = facts(gpu(0, failures={"pcie_replays": broken, "throttle_reasons": UNSUPPORTED}))
    outcome = judge(read, "pcie-replays", "throttle")
    assert [(each.check, each.skipped) for each in outcome.unchecked] == [
        ("pcie-replays", False),
        ("throttle", True),
    ]


def test_log_lines_reach_the_gpu_that_they_name() -> None:
    xid = Event("xid", "0000:43:00.0", "NVRM: Xid …", 79)
    switch = Event("sxid", "0000:c4:00.0", "SXid …", 20009, grade="Non-fatal")
    fatal = Event("sxid", "0000:c4:00.0", "SXid …", 23001, grade="Fatal")
    port = Event("aer", "0000:42:01.0", "AER …", grade="Corrected")
    disk = Event("aer", "0000:01:00.0", "AER …", grade="Fatal")
    bus = (PciFunction("0000:43:00.0", 0x10DE, 0x2330, ("0000:42:01.0",)),)
    context = Context(pci=bus, kernel_log=KernelLog("log", (xid, switch, fatal, port, disk)))
    outcome = judge(facts(gpu(1)), "kernel-log", context=context)
    assert [(f.code, f.severity, f.device.index, f.number) for f in outcome.findings] == [
        ("NV-XID-79", "fatal", 1, "79"),
        ("NV-SXID-20009", "warning", None, "20009"),
        ("NV-SXID-23001", "fatal", None, "23001"),
        ("PCIE-AER", "info", 1, None),
    ]


def test_a_log_that_can_not_be_read_is_not_a_clean_one() -> None:
    context = Context(kernel_log=KernelLog(error="/dev/kmsg: Permission denied"))
    outcome = judge(facts(gpu(0)), "kernel-log", context=context)
    assert [(each.check, each.skipped) for each in outcome.unchecked] == [("kernel-log", False)]


def test_an_override_sets_severity_also_where_the_check_has_its_own() -> None:
    from diagnose.checks import run_checks
    from tests.diagnose.facts import NVIDIA

    read = facts(gpu(0, temperature_c=95, threshold_slowdown_c=90))
    own = {"NV-TEMPERATURE": {"severity": "info", "action": "Open the door."}}
    (finding,) = run_checks(NVIDIA.checks, read, Context(), own, NVIDIA.causes).findings
    assert (finding.severity, finding.action) == ("info", "Open the door.")
    assert dataclasses.asdict(finding)["evidence"]["temperature_c"] == 95


def test_a_reading_that_failed_leaves_checks_over_all_gpus_open_too() -> None:
    broken = gpu(1, failures={"persistence_mode": Failure("error", "NVML: Unknown Error", 999)})
    (open_,) = judge(facts(gpu(0, persistence_mode=1), broken), "persistence").unchecked
    assert (open_.check, open_.device.index, open_.skipped) == ("persistence", 1, False)


@pytest.mark.parametrize(
    ("check", "values"),
    [
        ("pcie-width", {"pcie_width_current": 8}),
        ("pcie-generation", {"pcie_generation_current": 3, "gpu_utilization_percent": 90}),
        ("clocks", {"clock_sm_mhz": 300, "clock_sm_max_mhz": 1980}),
        ("memory-use", {"memory_used_bytes": 2**40}),
        ("throttle", {"power_mw": 300_000}),
        ("temperature", {"temperature_c": 99}),
    ],
)
def test_too_little_to_judge_by_is_no_pass(check: str, values: dict[str, Any]) -> None:
    outcome = judge(facts(gpu(0, **values)), check)
    assert (outcome.findings, outcome.passed) == ([], 0)
    assert [each.skipped for each in outcome.unchecked] == [True]


@pytest.mark.parametrize(
    ("margin_c", "severity"),
    [(30, None), (1, None), (0, "warning"), (-1, "warning"), (-2, "degraded")],
)
def test_a_card_that_tells_only_margins_is_judged_by_them(
    margin_c: int, severity: str | None
) -> None:
    limits = {"margin_slowdown_c": -2, "margin_gpu_max_c": 0}  # of an H100
    hot = gpu(0, temperature_c=80, temperature_margin_c=margin_c, **limits)
    outcome = judge(facts(hot), "temperature")
    assert [each.severity for each in outcome.findings] == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("single", "double", "severities"),
    [
        (62, 0, ["info"]),
        (63, 0, ["fatal"]),
        (0, 15, ["warning"]),
        (0, 16, ["degraded"]),
        (40, 23, ["fatal", "fatal"]),
    ],
)
def test_retired_pages_are_graded_by_the_limits_of_dcgm(
    single: int, double: int, severities: list[str]
) -> None:
    pages = gpu(0, retired_pages_sbe=single, retired_pages_dbe=double)
    found_ = judge(facts(pages), "retired-pages").findings
    assert [finding.severity for finding in found_] == severities


def test_an_early_module_may_have_links_to_gpus_that_its_machine_lacks() -> None:
    def volta(index: int, active: set[int]) -> Any:
        links = [{"link": number, "active": number in active} for number in range(6)]
        return gpu(index, name="Tesla V100-SXM2-16GB", compute_capability_major=7, nvlinks=links)

    four_of_eight = [volta(0, {0, 1, 2, 3}), volta(1, {2, 3, 4, 5}), volta(2, {0, 1, 4, 5})]
    assert found(facts(*four_of_eight), "nvlink") == []
    assert found(facts(*four_of_eight[:2], volta(2, {0, 1, 4})), "nvlink") == [
        ("NV-NVLINK-DOWN", 2)
    ]


def test_a_link_that_slows_down_after_the_work_is_no_fault() -> None:
    link = {"pcie_generation_current": 1, "pcie_generation_max": 5, "gpu_utilization_percent": 60}
    assert found(facts(gpu(0, performance_state=8, **link)), "pcie-generation") == []
    assert found(facts(gpu(0, performance_state=0, **link)), "pcie-generation") == [
        ("NV-PCIE-GENERATION", 0)
    ]


@pytest.mark.parametrize(("kind", "skipped"), [("library_missing", True), ("error", False)])
def test_without_the_drivers_cuda_version_nothing_is_compared(kind: Any, skipped: bool) -> None:
    read = facts(gpu(0), failures={"cuda_version": Failure(kind, "NVML: no", 1)})
    (open_,) = judge(read, "cuda").unchecked
    assert open_.skipped is skipped


@pytest.mark.parametrize(
    ("event", "severity"),
    [
        (Event("aer", "0000:1b:00.0", "x", grade="Corrected", count=9), "info"),
        (Event("aer", "0000:1b:00.0", "x", grade="Corrected", count=10), "warning"),
        (Event("aer", "0000:1b:00.0", "x", grade="Non-fatal"), "degraded"),
        (Event("nvrm", None, "NVRM: … Assertion failed", grade="Assertion"), "info"),
        (Event("nvrm", None, "NVRM: RmInitAdapter failed!"), "warning"),
    ],
)
def test_lines_that_good_machines_print_are_information(event: Event, severity: str) -> None:
    context = Context(pci=ON_BUS[:1], kernel_log=KernelLog("log", (event,)))
    (finding,) = judge(facts(gpu(0)), "kernel-log", context=context).findings
    assert finding.severity == severity


@pytest.mark.parametrize(("pages", "move"), [(3, False), (63, True)])
def test_a_finding_that_is_graver_than_usual_moves_the_work(pages: int, move: bool) -> None:
    (finding,) = judge(facts(gpu(0, retired_pages_dbe=pages)), "retired-pages").findings
    assert finding.move_workload is move


def test_one_replay_between_two_quick_rounds_is_no_storm() -> None:
    before = facts(gpu(0, pcie_replays=3))
    soon = Context(previous=before, interval_s=1)
    assert found(facts(gpu(0, pcie_replays=4)), "pcie-replays", context=soon) == []
    assert found(facts(gpu(0, pcie_replays=13)), "pcie-replays", context=soon) == [
        ("NV-PCIE-REPLAYS", 0)
    ]
