"""Findings from what a child said; the figures are those of accelerators/."""

from typing import Any

import pytest

from diagnose.active.judge import CHECKS, Trial, judge
from diagnose.explain import explain

H100 = "NVIDIA H100 80GB HBM3"
T4 = "Tesla T4"


def measured(name: str, **figures: Any) -> dict[str, Any]:
    return {"measured": name, **figures}


def products(dtype: str, wrong: int = 0) -> dict[str, Any]:
    first = {"row": 3, "column": 4, "expected": 7.0, "found": 8.0} if wrong else None
    return measured(
        f"products {dtype}",
        dtype=dtype,
        products=100,
        wrong_products=wrong,
        wrong_elements=wrong,
        first_wrong=first,
    )


def rate(dtype: str, tflops: float, *, repeats: bool = True) -> dict[str, Any]:
    return measured(f"rate {dtype}", dtype=dtype, flops_per_s=tflops * 1e12, repeats=repeats)


def cells(wrong: int = 0) -> dict[str, Any]:
    return measured("memory patterns", tested_bytes=2**32, wrong_words=wrong, first_wrong=None)


def bandwidth(gb_per_s: float) -> dict[str, Any]:
    return measured("memory bandwidth", bytes_per_s=gb_per_s * 1e9)


def host(gb_per_s: float, wrong: int = 0) -> dict[str, Any]:
    rates = {"to_device_bytes_per_s": gb_per_s * 1e9, "to_host_bytes_per_s": gb_per_s * 1.1e9}
    return measured("host link", **rates, wrong_words=wrong)


def device(*messages: dict[str, Any], name: str = H100, index: int = 0, end: str = "done") -> Trial:
    about = {"kind": "cuda", "index": index, "name": name, "uuid": None, "pci_bus_id": None}
    return Trial(about, messages, end)


WELL = (
    products("fp32"),
    products("bf16"),
    cells(),
    rate("bf16", 640),
    bandwidth(2900),
    host(52),
)


def codes(*tested: Trial, peers: Trial | None = None) -> list[str]:
    outcome, _ = judge(tested, peers, {})
    for found in outcome.findings:
        assert found.check == CHECKS[found.code]
        assert found.meaning == explain(found.code).meaning
    return [found.code for found in outcome.findings]


def test_a_sound_device_has_no_finding_and_its_fractions_are_told() -> None:
    outcome, facts = judge([device(*WELL)], None, {})
    assert (outcome.findings, outcome.unchecked, outcome.passed) == ([], [], len(WELL))
    reached = facts["devices"][0]["fractions"]
    assert reached["bf16"] == pytest.approx(640 / 989, abs=0.01)
    assert reached["memory"] == pytest.approx(2900 / 3350, abs=0.01)


def test_a_small_board_at_its_power_limit_is_sound() -> None:
    assert codes(device(rate("fp16", 24), bandwidth(240), host(11), name=T4)) == []


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (products("fp16", wrong=2), "ACTIVE-COMPUTE-ERROR"),
        (rate("fp16", 640, repeats=False), "ACTIVE-COMPUTE-ERROR"),
        (cells(wrong=1), "ACTIVE-MEMORY-ERROR"),
        (host(52, wrong=1), "ACTIVE-LINK-ERROR"),
        (rate("fp16", 300), "ACTIVE-SLOW-COMPUTE"),
        (bandwidth(1500), "ACTIVE-SLOW-MEMORY"),
        (host(12), "ACTIVE-SLOW-HOST-LINK"),
        ({"failed": "x", "kind": "driver", "text": "CUDA error"}, "ACTIVE-DRIVER-ERROR"),
    ],
)
def test_each_fault_gives_its_finding_and_no_other(message: dict[str, Any], code: str) -> None:
    kept = [said for said in WELL if said["measured"] != message.get("measured")]
    assert codes(device(*kept, message)) == [code]


def test_wrong_products_of_several_dtypes_are_one_finding() -> None:
    found = judge([device(products("fp16", 2), products("bf16", 3))], None, {})[0].findings
    assert len(found) == 1
    assert found[0].evidence["dtypes"] == ["bf16", "fp16"]
    assert found[0].evidence["wrong_products"] == 5
    assert found[0].severity == "fatal"
    assert found[0].move_workload


def test_a_slot_of_the_third_generation_is_no_fault_of_the_card() -> None:
    seen = {"seen": {"pcie_generation_max": 3, "pcie_width_max": 16, "index": 5, "serial": "S"}}
    one = device(seen, host(12))
    assert codes(one) == []
    assert (one.device.index, one.device.serial) == (5, "S")


def test_a_device_slower_than_its_like_is_found_within_the_limits() -> None:
    well = [device(rate("bf16", 640), index=index) for index in range(3)]
    slow = device(rate("bf16", 500), index=3)
    outcome, _ = judge([*well, slow], None, {})
    assert [(found.code, found.device.index) for found in outcome.findings] == [
        ("ACTIVE-SLOW-COMPUTE", 3)
    ]
    assert outcome.findings[0].evidence["bf16_share_of_median"] == pytest.approx(500 / 640, 0.01)


@pytest.mark.parametrize(
    ("end", "code"),
    [("hung", "ACTIVE-HANG"), ("its process died of signal 6", "ACTIVE-CRASH")],
)
def test_the_end_of_a_child_names_the_test(end: str, code: str) -> None:
    found = judge([device({"testing": "memory patterns"}, end=end)], None, {})[0].findings
    assert [one.code for one in found] == [code]
    assert found[0].evidence["test"] == "memory patterns"


@pytest.mark.parametrize(
    "message",
    [
        {"busy": "processes 12 use it"},
        {"failed": "host link", "kind": "out_of_memory", "text": "CUDA out of memory"},
        {"failed": "products fp16", "kind": "host", "text": "Freivalds"},
    ],
)
def test_what_could_not_be_tested_is_not_healthy(message: dict[str, Any]) -> None:
    outcome, _ = judge([device(message)], None, {})
    assert outcome.findings == []
    assert [one.skipped for one in outcome.unchecked] == [False]


def test_a_type_without_figures_is_measured_but_not_judged() -> None:
    outcome, _ = judge([device(*WELL, name="NVIDIA Imaginary 9000")], None, {})
    assert outcome.findings == []
    assert [one.skipped for one in outcome.unchecked] == [True]


def peer(gb_per_s: float, wrong: int = 0, *, direct: bool = True) -> Trial:
    said = measured("peer 0 to 1", bytes_per_s=gb_per_s * 1e9, wrong_words=wrong, direct=direct)
    return Trial({"kind": "cuda", "index": None, "name": None}, [said], "done")


def test_peers_are_judged_where_switches_join_them() -> None:
    one = device(*WELL)
    assert codes(one, peers=peer(380)) == []
    assert codes(one, peers=peer(100)) == ["ACTIVE-SLOW-PEER"]
    assert codes(one, peers=peer(20, direct=False)) == []
    assert codes(one, peers=peer(380, wrong=4)) == ["ACTIVE-LINK-ERROR"]
    assert codes(device(name=T4), peers=peer(5)) == []


def test_a_users_own_severity_and_action_hold() -> None:
    own = {"ACTIVE-SLOW-MEMORY": {"severity": "info", "action": "call Bob"}}
    found = judge([device(bandwidth(100))], None, own)[0].findings
    assert (found[0].severity, found[0].action) == ("info", "call Bob")
