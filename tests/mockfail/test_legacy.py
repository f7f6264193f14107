"""Scenarios in ai-accelerator-tool's own TOML run as they are."""

from pathlib import Path

import pytest

from mockfail import plan, scenarios
from mockfail.errors import ScenarioError
from mockfail.layer import Layer

EVERY_KEY = """version = "{version}"
[gpus]
card_count = 2
nvml_init_error = 0
[gpus.0]
remapping_pending = true
dram_ue = 7
[gpus.1]
device_name = "NVIDIA A100-SXM4-80GB"
arch = 7
pci = "3b:00"
uuid = "GPU-of-a-user"
link_gen = 3
link_width_current = 8
link_width_max = 16
nvlink_active = [true, false]
remapping_failure = true
remapping_pending = false
sram_ue = 1
dram_ue = 2
dram_ce = 3
retired_page_sbe = 4
retired_page_dbe = 5
retired_page_pending = true
uncorrectable_agg_l1 = 6
uncorrectable_agg_l2 = 7
uncorrectable_agg_reg = 8
crictl_xid = [62]
[{ascend}]
dcmi_init_error = -8005
card_count = 2
[{ascend}.1.0]
fault_codes = [0x80FA4E00]
"""


def planned(folder: Path, text: str) -> tuple[plan.Plan, Layer]:
    path = folder / "old.toml"
    path.write_text(text)
    made = plan.plan(plan.asked([str(path)], []), mode="standalone")
    return made, made.layers[0]


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
@pytest.mark.parametrize("ascend", ["ascend-npus", "ascend_npus"])
def test_every_key_has_its_effect(tmp_path: Path, version: str, ascend: str):
    made, layer = planned(tmp_path, EVERY_KEY.format(version=version, ascend=ascend))
    assert made.node == "a100-80g-sxmx2,ascend-910bx2"
    first = {o.name: o.value for o in layer.overrides if (o.scope, o.index) == ("gpu", 0)}
    assert first == {
        "remap_pending": True,
        "ecc_uncorrected_volatile_dram": 7,
        "ecc_uncorrected_aggregate_dram": 7,
    }
    second = {o.name: o.value for o in layer.overrides if (o.scope, o.index) == ("gpu", 1)}
    assert second == {
        "name": "NVIDIA A100-SXM4-80GB",
        "architecture": 7,
        "pci_bus_id": "00000000:3B:00.0",
        "uuid": "GPU-of-a-user",
        "pcie_generation_current": 3,
        "pcie_width_current": 8,
        "pcie_width_max": 16,
        "remap_failure": True,
        "remap_pending": False,
        "ecc_uncorrected_volatile_sram": 1,
        "ecc_uncorrected_aggregate_sram": 1,
        "ecc_uncorrected_volatile_dram": 2,
        "ecc_uncorrected_aggregate_dram": 2,
        "ecc_corrected_volatile_dram": 3,
        "ecc_corrected_aggregate_dram": 3,
        "retired_pages_sbe": 4,
        "retired_pages_dbe": 5,
        "retired_pages_pending": True,
        "ecc_uncorrected_aggregate_l1": 6,
        "ecc_uncorrected_aggregate_l2": 7,
        "ecc_uncorrected_aggregate_register_file": 8,
    }
    links = [(o.link, o.value) for o in layer.overrides if o.scope == "link"]
    assert links == [(0, True), (1, False)]
    assert [(event.gpu, event.data) for event in layer.events] == [(1, 62)]
    assert any("(PCI:0000:3b:00): 62" in line.text for line in layer.log)
    of_node = {o.name: o.value for o in layer.overrides if o.scope == "node"}
    assert of_node == {"init_error": 0, "dcmi_init_error": -8005}
    assert [(each.npu, each.codes) for each in layer.codes] == [(1, (0x80FA4E00,))]


def test_a_smaller_count_hides_the_other_cards_of_a_node_that_was_asked_for(tmp_path: Path):
    path = tmp_path / "old.toml"
    path.write_text("[gpus]\ncard_count = 6\n")
    wanted = plan.asked([str(path)], [])
    (layer,) = plan.plan(wanted, "h100x8").layers
    assert [(o.name, o.index) for o in layer.overrides] == [("hidden", 6), ("hidden", 7)]


def test_an_npu_that_is_not_the_first_of_its_card_keeps_its_number(tmp_path: Path):
    _, layer = planned(
        tmp_path, "[ascend-npus.0.0]\nfault_codes = [1]\n[ascend-npus.0.1]\nfault_codes = [2]\n"
    )
    assert {(o.name, o.value, o.index) for o in layer.overrides} == {
        ("card", 0, 1),
        ("device", 1, 1),
    }
    assert [(each.npu, each.codes) for each in layer.codes] == [(0, (1,)), (1, (2,))]


def test_mistakes_are_told_by_line_and_key(tmp_path: Path):
    path = tmp_path / "old.toml"
    path.write_text(
        'version = "0.3.0"\n[gpus]\ncard_count = 99\n[gpus.0]\npci = "zz"\ndram_eu = 1\n'
        '[ascend-npus.0.0]\nfault_codes = [-1]\n[gpus."²"]\nuuid = "x"\n'
    )
    with pytest.raises(ScenarioError) as caught:
        scenarios.load(str(path))
    assert [(m["line"], m["key"]) for m in caught.value.details["mistakes"]] == [
        (1, "version"),
        (3, "gpus.card_count"),
        (5, "gpus.0.pci"),
        (6, "gpus.0.dram_eu"),
        (8, "ascend-npus.0.0.fault_codes[0]"),
        (9, "gpus.²"),
    ]
