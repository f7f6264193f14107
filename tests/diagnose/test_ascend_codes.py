"""Ascend fault codes: what their digits say, and that every listed one is explained."""

import csv
from importlib import resources

import pytest

from diagnose import ascend_codes
from diagnose.explain import explain
from diagnose.findings import SEVERITIES

ROWS = list(
    csv.DictReader(
        (resources.files("diagnose") / "data" / "ascend_levels.csv").read_text().splitlines()
    )
)
SEVERITY = {
    "NotHandle": "info",
    "SubHealth": "warning",
    "RestartRequest": "degraded",
    "RestartBusiness": "degraded",
    "FreeRestartNPU": "fatal",
    "RestartNPU": "fatal",
    "PreSeparateNPU": "fatal",
    "SeparateNPU": "fatal",
}


def test_every_listed_code_and_level_is_explained():
    assert len({row["code_hex"] for row in ROWS}) == len(ascend_codes.levels()) == 802
    assert {row["level"] for row in ROWS} == set(ascend_codes.LEVELS)
    for row in ROWS:
        section = ascend_codes.explain(row["code_hex"])
        assert section.code == f"ASCEND-FAULT-{row['code_hex']}"
        assert SEVERITIES.index(section.severity) >= SEVERITIES.index(SEVERITY[row["level"]])
        assert section.meaning.endswith(".") and section.action.endswith(".")
        assert section.title[0].isupper() or section.title.split(":")[0].islower()


def test_a_code_listed_at_two_levels_takes_the_gravest():
    listed = sorted(row["level"] for row in ROWS if row["code_hex"] == "A2301001")
    assert listed == ["RestartBusiness", "SeparateNPU"]
    assert ascend_codes.fault("A2301001").level == "SeparateNPU"


@pytest.mark.parametrize(
    ("code", "module", "state", "level"),
    [
        ("80E01801", "HBM", "uncorrectable multi-bit ECC error", "RestartBusiness"),
        ("80E18402", "HBM", "as many addresses", "SeparateNPU"),
        ("80C98000", "AI Core (cube)", "module error", "RestartRequest"),
        ("80CD8008", "L2 buffer", "uncorrectable multi-bit ECC error", "RestartNPU"),
        ("80B98000", "PCIe controller", "module error", "RestartNPU"),
        ("80FA4E00", "task scheduler CPU", "heartbeat lost", "RestartNPU"),
        ("80E20207", "power management controller", "temperature above", "SubHealth"),
        ("40F84E00", "host: base service", "heartbeat lost", "RestartNPU"),
        ("81078603", "network port", "link went down", "NotHandle"),
        ("A607FFFF", "task scheduler", "exception 0x1FFFF in the black box", "RestartNPU"),
        ("8F180200", "board", "temperature sensor 0 outside its limits", None),
    ],
)
def test_digits_name_module_and_state(code, module, state, level):
    fault = ascend_codes.fault(code)
    assert fault.module == module
    assert fault.state is not None and fault.state.startswith(state)
    assert level is None or fault.level == level


def test_a_black_box_code_and_its_recovery_share_all_but_the_sign():
    lost, back = ascend_codes.fault("A60250A1"), ascend_codes.fault("960250A1")
    assert (lost.module, back.module) == ("NPU driver", "NPU driver")
    assert back.state is not None and back.state.startswith("recovered from")


@pytest.mark.parametrize("code", ["DEADBEEF", "00000000", "FFFFFFFF", "80E01FFF", "8A000000"])
def test_a_code_that_nobody_lists_is_never_taken_for_healthy(code):
    section = ascend_codes.explain(code)
    assert section.code == f"ASCEND-FAULT-{code}"
    assert section.severity in ("degraded", "fatal", "warning")
    assert "does not have this code" in section.meaning


def test_a_code_is_written_as_the_tables_write_it():
    assert ascend_codes.normal(0x80E01801) == "80E01801"
    assert ascend_codes.normal("0x80fa4e00") == "80FA4E00"
    assert ascend_codes.normal(0x1) == "00000001"


def test_every_handling_level_is_explained_by_its_name():
    for level in ascend_codes.LEVELS:
        section = explain(level)
        assert section.code == level
        assert section.severity == SEVERITY[level]
        assert section.meaning.endswith(".") and section.action.endswith(".")
    assert explain("subhealthfault").code == "SubHealth"
    assert ascend_codes.explain_level("NoSuchLevel") is None
