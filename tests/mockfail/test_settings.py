"""Single readings from the command line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelerators.errors import ToolError
from mockfail import settings
from mockfail.binding import bind
from mockfail.errors import MockUsageError
from mockfail.layer import Layer
from mockfail.nodes import node
from mockfail.state import Process


def layer(text: str) -> Layer:
    return bind(settings.parse(text), node("h100x4,910bx2"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("gpus.0.temperature_c=97", [("gpu", 0, None, "temperature_c", 97)]),
        ("gpus.1.memory_used_bytes=64GiB", [("gpu", 1, None, "memory_used_bytes", 64 << 30)]),
        ("gpus.1.power_mw=350W", [("gpu", 1, None, "power_mw", 350_000)]),
        ("gpus.1.hang_ms=30s", [("gpu", 1, None, "hang_ms", 30_000)]),
        ("gpus.1.clock_sm_mhz=1.2GHz", [("gpu", 1, None, "clock_sm_mhz", 1200)]),
        ("gpus.1.gpu_utilization_percent=97%", [("gpu", 1, None, "gpu_utilization_percent", 97)]),
        ("gpus.1.lost=true", [("gpu", 1, None, "lost", True)]),
        ("gpus.0-1,3.lost=yes", [("gpu", i, None, "lost", True) for i in (0, 1, 3)]),
        ("gpus.*.nvlinks.3.active=false", [("link", i, 3, "active", False) for i in range(4)]),
        ("npus.1.health=3", [("npu", 1, None, "health", 3)]),
        ("node.init_error=DRIVER_NOT_LOADED", [("node", 0, None, "init_error", 9)]),
        ("node.driver_version=535.1=2", [("node", 0, None, "driver_version", "535.1=2")]),
    ],
)
def test_a_path_and_a_value_become_overrides(
    text: str, found: list[tuple[str, int, int | None, str, object]]
):
    made = layer(text)
    assert made.name == text.partition("=")[0]
    assert [(o.scope, o.index, o.link, o.name, o.value) for o in made.overrides] == found


def test_xids_codes_and_processes():
    assert [event.data for event in layer("gpus.2.xid=79,63").events] == [79, 63]
    assert layer("npus.0.codes=80E01801,0x80FA4E00").codes[0].codes == (0x80E01801, 0x80FA4E00)
    (listing,) = layer("gpus.0.processes=4711:10GiB").processes
    assert listing.processes == (Process(4711, 10 << 30),)
    (nothing,) = layer("gpus.0.processes=").processes
    assert nothing.processes == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gpus.0.temprature_c=97", "did you mean temperature_c"),
        ("gpu.0.lost=true", "did you mean gpus"),
        ("gpus.0.lost", "has no value"),
        ("gpus.0=1", "names no reading"),
        ("gpus.64.lost=true", "expected 0 to 63"),
        ("gpus.3-1.lost=true", "is no device"),
        ("gpus.0.nvlinks.18.active=true", "expected 0 to 17"),
        ("gpus.0.gpu_utilization_percent=101", "expected 0 to 100"),
        ("gpus.0.power_mw=350A", "mW, W, kW"),
        ("gpus.0.temperature_c=", "expected a number"),
        ("gpus.0.lost=perhaps", "expected true or false"),
        ("npus.0.codes=xyz", "no Ascend fault code"),
        ("gpus.0.processes=4711", "PID:SIZE"),
        ("gpus.0.processes=²:1", "PID:SIZE"),
        ("gpus.0.xid=²", "is no XID"),
        (f"gpus.{'9' * 5000}.lost=true", "expected 0 to 63"),
        (f"gpus.0.power_mw={'9' * 5000}", "expected a number"),
        (f"gpus.0.power_mw={'9' * 400}W", "expected a number"),
        ("gpus.0.power_mw=5MW", "expected a number"),
        ("gpus.0.power_mw=5000kW", "expected 0 to 4294967295"),
    ],
)
def test_a_mistake_is_told_with_what_was_expected(text: str, said: str):
    with pytest.raises(MockUsageError) as caught:
        settings.parse(text)
    assert said in caught.value.message
    assert repr(text) in caught.value.message


@given(st.text(alphabet="gpusnode.*-,=0123456789xid_c%", max_size=40))
def test_no_text_makes_the_parser_break(text: str):
    try:
        layer(text)
    except ToolError as error:
        assert error.message
