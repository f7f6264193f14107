"""The PCI tree that a mock lays out, read by the code that reads the real one."""

from pathlib import Path

from diagnose import pci
from mockfail.nodes import node
from mockfail.pcitree import lay_out
from mockfail.state import Override, When


def test_every_card_is_on_the_bus_with_its_ids(tmp_path: Path):
    lay_out(node("h100x8"), tmp_path)
    found = pci.accelerators("nvidia", tmp_path)
    assert found is not None and len(found) == 8
    assert found[0].address == "0000:1b:00.0"
    assert (found[0].vendor, found[0].device) == (0x10DE, 0x2330)
    assert pci.accelerators("ascend", tmp_path) == ()
    device = tmp_path / "bus" / "pci" / "devices" / "0000:1b:00.0"
    assert (device / "max_link_speed").read_text() == "32.0 GT/s PCIe\n"
    assert (device / "class").read_text() == "0x030200\n"


def test_gpus_and_npus_share_a_bus(tmp_path: Path):
    lay_out(node("ascend-910bx8"), tmp_path)
    found = pci.accelerators("ascend", tmp_path)
    assert found is not None
    assert [(each.width, each.width_max) for each in found] == [(16, 16)] * 8


def test_a_card_that_the_driver_misses_stays_on_the_bus(tmp_path: Path):
    gone = [Override("gpu", "hidden", True, 3), Override("gpu", "lost", True, 4)]
    lay_out(node("h100x8"), tmp_path, gone)
    assert len(pci.accelerators("nvidia", tmp_path) or ()) == 8


def test_a_degraded_link_shows_while_it_lasts(tmp_path: Path):
    simulated = node("ascend-910bx2")
    for_a_while = [Override("npu", "pcie_width_current", 8, 1, when=When(start_s=5, for_s=10))]

    def widths(moment_s: float) -> list[int | None]:
        lay_out(simulated, tmp_path, for_a_while, moment_s)
        return [each.width for each in pci.accelerators("ascend", tmp_path) or ()]

    assert [widths(moment_s) for moment_s in (0, 6, 16)] == [[16, 16], [16, 8], [16, 16]]
    assert not list(tmp_path.rglob(".*"))
