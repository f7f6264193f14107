"""Scenario files: what they become, and how their mistakes are told."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelerators.errors import ToolError, UsageError
from mockfail import scenarios
from mockfail.binding import bind
from mockfail.errors import MockUsageError, ScenarioError
from mockfail.nodes import node
from mockfail.scenario import Expected, Scenario, parse
from mockfail.state import Call, Override, Process, When
from mockfail.toml_lines import lines_of


def alone(name: str, source: str) -> Scenario:
    raise UsageError("test", f"nothing to combine: {name}")


def read(text: str) -> Scenario:
    return parse(text, "test.toml", "test", alone)


def mistakes(text: str) -> list[tuple[int, str]]:
    with pytest.raises(ScenarioError) as caught:
        read(text)
    return [(m["line"], m["key"]) for m in caught.value.details["mistakes"]]


def test_every_mistake_is_told_at_once_with_its_line_and_key():
    text = """title = 3
[expect]
findings = [
  "NV-GPU-LOST",
  { code = "NV-XID-79", gpus = 2 },
]
[[fault]]
gpu = 3
set = { lost = 3, temprature_c = 2 }
[[fault]]
npu = 70
xid = 79
call = "nvmlDeviceGetName"
"""
    assert mistakes(text) == [
        (1, "title"),
        (5, "expect.findings[1].gpus"),
        (9, "fault[0].set.lost"),
        (9, "fault[0].set.temprature_c"),
        (11, "fault[1].npu"),
        (12, "fault[1].xid"),
        (13, "fault[1].call"),
    ]


@pytest.mark.parametrize(
    "fault",
    [
        'gpu = 0\nset = { lost = "often" }',
        "gpu = 0\nset = { gpu_utilization_percent = 101 }",
        'gpu = 0\nset = { pci_bus_id = "18:00" }',
        "link = 0\nset = { active = false }",
        "gpu = 0\nset = { temperature_c = { times = 2 } }",
        'gpu = 0\nset = { temperature_c = { of = "name" } }',
        'error = "UNKNOWN"',
        'call = "nvmlDeviceGetTemprature"\nerror = "UNKNOWN"',
        'call = "nvmlInit_v2"\nerror = "UNKNOWNN"',
        'npu = 0\ncodes = ["80E0180188"]',
        "npu = 0\nxid = 79",
        "gpu = 0\nxid = 0",
        "gpu = 0\nxid = 79\nprobability = 0.5",
        'gpu = 0\nset = { lost = true }\nramp = "2s"',
        'gpu = 0\nset = { lost = true }\nat = "soon"',
        "gpu = 0\nset = { lost = true }\nprobability = 2",
        "gpu = 0\nset = { lost = true }\nafter_calls = -1",
        "gpu = 0\nprocesses = [{ pid = 1 }]",
        "gpu = 0",
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(fault: str):
    found = mistakes(f"[[fault]]\n{fault}\n")
    assert len(found) == 1
    assert found[0][1].startswith("fault[0]")


def test_text_that_is_no_toml_is_refused_by_line():
    assert mistakes("[[fault]]\ngpu = \n") == [(2, "")]


def test_a_fault_becomes_overrides_events_and_log_lines_of_its_device():
    scenario = read('[[fault]]\ngpu = 1\nset = { lost = true }\nxid = 79\nat = "30s"\npid = 7\n')
    layer = bind(scenario, node("h100x2"))
    when = When(start_s=30)
    assert layer.overrides == (Override("gpu", "lost", True, 1, when=when),)
    assert [(e.gpu, e.type, e.data, e.when) for e in layer.events] == [(1, 8, 79, when)]
    xid = [line for line in layer.log if "Xid" in line.text]
    assert [line.start_s for line in xid] == [30]
    assert xid[0].text.startswith("NVRM: Xid (PCI:0000:43:00): 79, pid=7, name=python3,")


def test_a_relative_value_follows_the_card():
    text = '[[fault]]\ngpu = 0\nset = { temperature_c = { of = "threshold_slowdown_c", plus = 3 } }'
    for spec in ("h100x1", "t4x1"):
        healthy = node(spec)
        threshold = healthy.gpus[0].values["threshold_slowdown_c"]
        (override,) = bind(read(text), healthy).overrides
        assert override.value == int(threshold) + 3


def test_links_calls_processes_and_all_devices():
    scenario = read(
        '[[fault]]\ngpu = "all"\nlink = [3, 4]\nset = { active = false }\n'
        '[[fault]]\ngpu = 1\ncall = "nvmlDeviceGetPowerUsage"\nhang = "2s"\nafter_calls = 5\n'
        '[[fault]]\ngpu = 0\nprocesses = [{ pid = 4711, used_bytes = "10GiB" }]\n'
    )
    layer = bind(scenario, node("h100x2"))
    assert [(o.index, o.link) for o in layer.overrides] == [(0, 3), (0, 4), (1, 3), (1, 4)]
    assert layer.calls == (Call("nvmlDeviceGetPowerUsage", 1, None, 2000, When(after_calls=5)),)
    assert layer.processes[0].processes == (Process(4711, 10 * 2**30),)


@pytest.mark.parametrize(
    ("text", "spec", "said"),
    [
        ("[[fault]]\ngpu = 4\nset = { lost = true }", "a10x4", "GPUs 0 to 3"),
        ("[[fault]]\ngpu = 0\nlink = 0\nset = { active = false }", "a10x4", "no NVLinks"),
        ("[[fault]]\nnpu = 0\nset = { lost = true }", "a10x4", "no NPUs"),
        ("[[fault]]\ngpu = 0\nset = { remap_failure = true }", "t4x1", "no reading remap_failure"),
    ],
)
def test_what_the_node_lacks_is_refused_where_the_file_says_it(text: str, spec: str, said: str):
    with pytest.raises(MockUsageError) as caught:
        bind(read(text), node(spec), mode="standalone")
    assert caught.value.message.startswith("test.toml:1: fault[0]: ")
    assert said in caught.value.message
    assert caught.value.hint


def test_a_scenario_moves_to_another_device_with_what_it_expects():
    moved = scenarios.load("gpu-lost-xid79").moved_to(0)
    assert {fault.devices for fault in moved.faults} == {(0,)}
    assert moved.expected == (
        Expected("NV-GPU-LOST", "gpu", 0),
        Expected("NV-XID-79", "gpu", 0),
    )
    with pytest.raises(UsageError, match="no device"):
        scenarios.load("driver-not-loaded").moved_to(0)


def test_a_file_combines_others_beside_it(tmp_path: Path):
    (tmp_path / "one.toml").write_text(
        '[expect]\nfindings = ["A"]\n[[fault]]\ngpu = 0\nset = { lost = true }\n'
    )
    (tmp_path / "both.toml").write_text('combine = ["./one.toml", "gpu-lost"]\n')
    both = scenarios.load(str(tmp_path / "both.toml"))
    assert both.combines == ("one", "gpu-lost")
    assert both.expected is not None
    assert Expected("A") in both.expected
    assert len(both.faults) == 1 + len(scenarios.load("gpu-lost").faults)


def test_a_circle_of_files_is_refused_with_its_line(tmp_path: Path):
    (tmp_path / "a.toml").write_text('title = "a"\ncombine = ["./b.toml"]\n')
    (tmp_path / "b.toml").write_text('combine = ["./a.toml"]\n')
    with pytest.raises(ScenarioError, match="combines itself"):
        scenarios.load(str(tmp_path / "a.toml"))


def test_an_unknown_scenario_gets_the_nearest_name():
    with pytest.raises(MockUsageError, match="did you mean gpu-lost"):
        scenarios.load("gpulost")


def test_a_line_that_a_signature_quotes_is_in_the_kernel_log():
    quoting = 0
    for name in scenarios.names():
        scenario = scenarios.load(name)
        quoted = re.search(r"NVRM: Xid \(PCI:.*|nvidia-nvswitch\d+: SXid .*", scenario.signature)
        if quoted and scenario.node:
            quoting += 1
            assert quoted[0] in [line.text for line in bind(scenario, node(scenario.node)).log]
    assert quoting > 12


def test_lines_of_every_kind_of_key():
    text = (
        'a = """\nx = 1\n"""\n# [no]\n[t."q.r".s]\nb = [\n  1, # one\n  { c = 2 },\n]\n'
        "[[u]]\nd.e = '''\n'''\n[[u]]\n[u.v]\nw = { x = { y = 1 } }\n"
    )
    lines = lines_of(text)
    assert lines["a",] == 1
    assert lines["t", "q.r", "s", "b"] == 6
    assert lines["t", "q.r", "s", "b", 1, "c"] == 8
    assert lines["u", 0, "d", "e"] == 11
    assert lines["u", 1, "v", "w", "x", "y"] == 15


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (f"gpu = 0\nafter_calls = {10**20}", "after_calls: is a number of more than 64 bits"),
        (f"gpu = 0x{'f' * 5000}", "gpu: is a number of more than 64 bits"),
        (f"gpu = {'9' * 5000}", "not TOML"),
        ("gpu = 0\nprocesses = [{ pid = 99999999999, used_bytes = 1 }]", "pid: is 99999999999"),
        ("gpu = 0\nxid = 79\npid = -1", "pid: is -1; expected 1 to"),
        ('gpu = 0\ncall = "nvmlDeviceGetName"\nhang = "2000h"', "expected at most 1000h"),
        ('gpu = 0\nkernel_log = "one\\ntwo"', "no single line"),
        ('gpu = 0\nset = { power_mw = { of = "fans", times = inf } }', "times: is inf"),
        ('gpu = 0\nset = { power_mw = { of = "fans", times = nan } }', "times: is nan"),
        ("gpu = 0\nset = { power_mw = 5_000_000_000 }", "expected 0 to 4294967295"),
        ("gpu = 0\nset = { retired_pages_sbe = 65 }", "expected 0 to 64"),
    ],
)
def test_a_number_or_text_that_nothing_can_hold_is_told_with_its_key(fault: str, said: str):
    with pytest.raises(ScenarioError, match=re.escape(said)):
        read(f"[[fault]]\n{fault}\n")


@given(st.text(max_size=200))
def test_no_text_makes_the_reader_break(text: str):
    try:
        bind(read(text), node("h100x1"))
    except ToolError as error:
        assert error.message


@given(
    st.dictionaries(
        st.sampled_from(["gpu", "npu", "link", "set", "xid", "call", "at", "codes", "processes"]),
        st.sampled_from(["1", '"all"', "[0, 1]", "true", "{ lost = true }", '"3s"', "[]", "-1"]),
        min_size=1,
    )
)
def test_no_fault_makes_the_reader_break(keys: dict[str, str]):
    body = "".join(f"{key} = {value}\n" for key, value in keys.items())
    try:
        bind(read(f"[[fault]]\n{body}"), node("h100x2,910bx2"))
    except ToolError as error:
        assert error.message
