"""A diagnosis under a mock that lies over a driver: its faults, and the driver's own."""

from collections.abc import Callable

import pytest

from diagnose.findings import Report
from diagnose.run import Options, diagnose
from mockfail.nodes import node
from mockfail.state import Override, State
from tests.mockfail.programs import MockFolder, RealDriver

Diagnosed = Callable[..., Report]


@pytest.fixture
def diagnosed(mock: MockFolder, real_driver: RealDriver) -> Diagnosed:
    """Diagnose the driver's two GPUs under faults: ``diagnosed(Override(…), …)``."""

    def call(*faults: Override) -> Report:
        mock.write(State(node("h100x8"), "overlay", faults, real_library=str(real_driver.library)))
        environment = mock.environment(**real_driver.environment)
        return diagnose(Options(accelerator="nvidia", timeout_s=30), environment)

    return call


def found(report: Report) -> list[tuple[str, int | None]]:
    return [(finding.code, finding.device.index) for finding in report.findings]


def test_an_overlay_without_faults_is_the_driver_as_it_is(diagnosed: Diagnosed) -> None:
    report = diagnosed()
    assert (found(report), report.simulated) == ([], True)
    assert [device.name for device in report.devices] == ["NVIDIA A100-SXM4-80GB"] * 2


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("ecc_uncorrected_volatile_dram", 1, "NV-ECC-UNCORRECTABLE"),
        ("temperature_c", 99, "NV-TEMPERATURE"),
        ("pcie_width_current", 8, "NV-PCIE-WIDTH"),
        ("throttle_power_brake", True, "NV-POWER-BRAKE"),
        ("lost", True, "NV-GPU-LOST"),
    ],
)
def test_a_fault_laid_over_one_gpu_is_found_there(
    name: str, value: int, code: str, diagnosed: Diagnosed
) -> None:
    assert found(diagnosed(Override("gpu", name, value, 1))) == [(code, 1)]


def test_the_drivers_own_faults_show_through(diagnosed: Diagnosed, real_driver: RealDriver) -> None:
    broken = (Override("gpu", "remap_failure", True, 0),)
    real_driver.write(State(node("a100-80gx2"), "standalone", broken))
    assert found(diagnosed(Override("gpu", "remap_pending", True, 1))) == [
        ("NV-ROW-REMAP-FAILURE", 0),
        ("NV-ROW-REMAP-PENDING", 1),
    ]
    real_driver.write(State(node("a100-80gx2"), "standalone"))
    assert found(diagnosed()) == []
