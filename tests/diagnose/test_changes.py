from diagnose.changes import Change, Ledger
from diagnose.checks import Sign, finding
from diagnose.facts import Failure
from diagnose.findings import Device, Finding, Report, Unchecked
from tests.diagnose.facts import facts, gpu

GPUS = tuple(Device("gpu", index, uuid=f"GPU-{index}") for index in range(2))


def fan(index: int = 0) -> Finding:
    return finding(Sign("NV-FAN", {"fan": 0}), "fans", GPUS[index], {})


def report(*findings: Finding, unchecked: tuple[Unchecked, ...] = ()) -> Report:
    read = facts(gpu(0), gpu(1))
    return Report(GPUS, findings, unchecked, facts={"nvidia": read})


def kinds(changes: list[Change]) -> list[tuple[str, int | None]]:
    return [(change.type, change.device.index) for change in changes]


def test_only_what_is_new_is_a_change() -> None:
    ledger = Ledger()
    assert kinds(ledger.enter(report(fan()))) == [
        ("device_appeared", 0), ("device_appeared", 1), ("finding_appeared", 0)
    ]  # fmt: skip
    assert ledger.enter(report(fan())) == []
    assert kinds(ledger.enter(report(fan(), fan(1)))) == [("finding_appeared", 1)]
    assert kinds(ledger.enter(report(fan(1)))) == [("finding_cleared", 0)]
    assert kinds(ledger.enter(report())) == [("finding_cleared", 1)]


def test_a_check_that_could_not_run_clears_nothing() -> None:
    ledger = Ledger()
    ledger.enter(report(fan()))
    broken = Unchecked("fans", GPUS[0], "NVML: Unknown Error", skipped=False)
    assert ledger.enter(report(unchecked=(broken,))) == []
    other = Unchecked("fans", GPUS[1], "NVML: Unknown Error", skipped=False)
    assert kinds(ledger.enter(report(unchecked=(other,)))) == [("finding_cleared", 0)]


def test_a_driver_that_restarts_loses_no_device_and_clears_nothing() -> None:
    ledger = Ledger()
    ledger.enter(report(fan()))
    down = facts(error=Failure("not_loaded", "NVML: Driver Not Loaded", 9))
    gone = finding(Sign("NV-DRIVER-NOT-LOADED", {}), "driver", Device("node"), {})
    blind = Unchecked("fans", Device("node"), "the driver does not answer", skipped=False)
    restarting = Report((), (gone,), (blind,), facts={"nvidia": down})
    assert kinds(ledger.enter(restarting)) == [("finding_appeared", None)]
    assert kinds(ledger.enter(report(fan()))) == [("finding_cleared", None)]


def test_a_device_that_is_lost_keeps_what_was_known_of_it() -> None:
    ledger = Ledger()
    ledger.enter(report(fan()))
    lost = facts(gpu(0, error=Failure("lost", "NVML: GPU is lost", 15)), gpu(1))
    devices = (Device("gpu", 0), GPUS[1])
    fallen = finding(Sign("NV-GPU-LOST", {}), "gpus", devices[0], {})
    assert kinds(ledger.enter(Report(devices, (fallen,), facts={"nvidia": lost}))) == [
        ("finding_appeared", 0)
    ]


def test_a_device_that_the_driver_lists_no_more_and_one_that_was_exchanged() -> None:
    ledger = Ledger()
    ledger.enter(report())
    one = Report(GPUS[:1], facts={"nvidia": facts(gpu(0))})
    assert kinds(ledger.enter(one)) == [("device_lost", 1)]
    other = Device("gpu", 0, uuid="GPU-new")
    assert kinds(ledger.enter(Report((other,), facts={"nvidia": facts(gpu(0))}))) == [
        ("device_lost", 0),
        ("device_appeared", 0),
    ]
