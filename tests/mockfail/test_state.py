"""The state file: what Python writes is what the library reads, and nothing else gets in."""

import os
import struct
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mockfail import state_file
from mockfail.errors import MockError, MockUsageError
from mockfail.nodes import node
from mockfail.properties import NOT_SUPPORTED, PROPERTIES, Property, Scope
from mockfail.state import Call, Event, Gpu, Node, Override, Process, State, Value, When
from tests.mockfail.programs import HERE, compile_core, eventually

Ask = Callable[..., str]


def shown(value: Value) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


@pytest.mark.parametrize("words", ["h100x8", "a10x2,l4x1", "910bx8", "v100-32g-sxm2 x64"])
def test_every_reading_of_a_node_arrives(mock, probe: Ask, words: str) -> None:
    simulated = node(words)
    mock.write(State(simulated, mode="standalone"))
    for name, value in simulated.values.items():
        assert probe("node", 0, name) == shown(value)
    every = len(simulated.gpus) - 1
    for index in {0, every} if simulated.gpus else set():
        gpu = simulated.gpus[index]
        for name, value in gpu.values.items():
            assert probe("gpu", index, name) == shown(value)
        for place, link in enumerate(gpu.links):
            for name, value in link.items():
                assert probe("link", index, name, place) == shown(value)
    for index, npu in enumerate(simulated.npus):
        for name, value in npu.items():
            assert probe("npu", index, name) == shown(value)


def test_of_a_device_that_is_not_there_nothing_is_known(mock, probe: Ask) -> None:
    mock.write(State(node("a10x2"), mode="standalone"))
    assert probe("gpu", 2, "temperature_c") == str(NOT_SUPPORTED)
    assert probe("link", 0, "active", 17) == str(NOT_SUPPORTED)
    assert probe("npu", 63, "health") == str(NOT_SUPPORTED)


def values(entry: Property) -> st.SearchStrategy[Value]:
    if entry.type == "bool":
        return st.booleans()
    if entry.type == "int":
        return st.integers(-(2**63) + 1, 2**63 - 1)
    return st.text(
        st.characters(exclude_categories=("C", "Z")), max_size=20
    )  # printable, as the probe answers in lines


@st.composite
def overrides(draw: st.DrawFn) -> Override:
    scope: Scope = draw(st.sampled_from(["node", "gpu", "link", "npu"]))
    entry = draw(st.sampled_from(PROPERTIES[scope]))
    index = 0 if scope == "node" else draw(st.integers(0, 3))
    link = draw(st.integers(0, 2)) if scope == "link" else None
    started = draw(st.sampled_from([When(), When(for_s=0.0), When(start_s=1e9), When(start_s=1.0)]))
    return Override(scope, entry.name, draw(values(entry)), index, link, started)


def told(data: bytes, override: Override) -> tuple[bool, int, list[int]]:
    """Read one reading from the bytes: whether a fault sets it, its value, its rules' values."""
    gpu_slots, npu_slots, link_slots = struct.unpack_from("<III", data, 68)
    sizes = {scope: len(entries) for scope, entries in PROPERTIES.items()}
    gpu_size = sizes["gpu"] + link_slots * sizes["link"]
    start = {
        "node": 0,
        "gpu": sizes["node"] + override.index * gpu_size,
        "link": sizes["node"] + override.index * gpu_size
        + sizes["gpu"] + (override.link or 0) * sizes["link"],
        "npu": sizes["node"] + gpu_slots * gpu_size + override.index * sizes["npu"],
    }[override.scope]  # fmt: skip
    place = start + [entry.name for entry in PROPERTIES[override.scope]].index(override.name)
    value, rule, is_set = struct.unpack_from("<qII", data, 112 + 16 * place)
    rules_at = 112 + 16 * (sizes["node"] + gpu_slots * gpu_size + npu_slots * sizes["npu"])
    values = []
    while rule:
        at = rules_at + 56 * (rule - 1) + 40
        rule_value, rule = struct.unpack_from("<qI", data, at)
        values.append(rule_value)
    return bool(is_set), value, values


def as_number(data: bytes, number: int, override: Override) -> Value:
    """Turn a number of the file back into what the override said."""
    if isinstance(override.value, str):
        texts = data[-struct.unpack_from("<I", data, 100)[0] :]
        return texts[number : texts.index(b"\0", number)].decode()
    return number


@given(given=st.lists(overrides(), max_size=12))
def test_of_several_overrides_that_hold_the_last_wins(given: list[Override]) -> None:
    """Folding into readings and rules says the same as walking through all overrides."""
    data = state_file.encode(State(node("a10x2"), overrides=tuple(given)))
    for override in given:
        same = [o for o in given if place_of(o) == place_of(override)]
        last = max((i for i, o in enumerate(same) if o.when == When()), default=-1)
        is_set, value, rules = told(data, override)
        assert is_set == (last >= 0)
        if is_set:
            assert as_number(data, value, same[last]) == same[last].value
        ruled = [as_number(data, number, override) for number in rules]
        assert ruled == [o.value for o in same[last + 1 :]]


def place_of(override: Override) -> tuple[object, ...]:
    return (override.scope, override.name, override.index, override.link)


def test_a_fault_moves_from_the_healthy_value_over_its_ramp(mock, probe: Ask) -> None:
    started = time.clock_gettime(time.CLOCK_BOOTTIME)
    hot = Override("gpu", "temperature_c", 10_000_000, when=When(ramp_s=1000.0))
    healthy = node("a10x1")
    mock.write(State(healthy, "standalone", (hot,), started_s=started - 500))
    halfway = int(probe("gpu", 0, "temperature_c"))
    assert 4_990_000 < halfway < 5_600_000  # the test has 50 s to come here
    again = int(probe("gpu", 0, "temperature_c"))
    assert again >= halfway


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        (When(), True),
        (When(start_s=100.0), True),
        (When(start_s=10_000.0), False),
        (When(for_s=10_000.0), True),
        (When(for_s=100.0), False),
        (When(start_s=100.0, for_s=10_000.0), True),
        (When(probability=0.0), False),
        (When(after_calls=10**9), False),
    ],
)
def test_conditions_hold_when_they_should(mock, probe: Ask, when: When, holds: bool) -> None:
    started = time.clock_gettime(time.CLOCK_BOOTTIME) - 1000
    fault = Override("gpu", "temperature_c", 97, when=when)
    mock.write(State(node("a10x1"), "standalone", (fault,), started_s=started))
    assert (probe("gpu", 0, "temperature_c") == "97") == holds


def test_after_calls_counts_the_calls_of_the_process(mock, probe: Ask) -> None:
    fault = Override("gpu", "temperature_c", 97, when=When(after_calls=3))
    mock.write(State(node("a10x1"), "standalone", (fault,)))
    seen = [probe("gpu", 0, "temperature_c") == "97" for _ in range(6)]
    assert seen == [False, False, False, True, True, True]


def test_a_probability_is_the_share_of_calls(mock, probe: Ask) -> None:
    fault = Override("gpu", "temperature_c", 97, when=When(probability=0.25))
    mock.write(State(node("a10x1"), "standalone", (fault,)))
    hits = sum(probe("gpu", 0, "temperature_c") == "97" for _ in range(2000))
    assert 400 < hits < 600  # five standard deviations


def test_an_overlay_says_only_what_faults_set(mock, probe: Ask) -> None:
    fault = Override("gpu", "temperature_c", 97)
    mock.write(State(node("a10x1"), "overlay", (fault,)))
    assert probe("gpu", 0, "temperature_c") == "97"
    assert probe("gpu", 0, "power_mw") == "-"
    assert probe("gpu", 7, "temperature_c") == "-"


def test_each_process_gets_an_event_once(mock, asked: Callable[[str], str]) -> None:
    """Whatever else changes; the same fault begun again is another event."""
    xid = Event(1, 8, 79)
    healthy = node("a10x2")
    mock.write(State(healthy, "standalone", events=(xid, xid, Event(0, 8, 63, When(start_s=1e6)))))
    assert [asked("event") for _ in range(3)] == ["1 8 79", "1 8 79", ""]
    hot = (Override("gpu", "temperature_c", 97),)
    mock.write(State(healthy, "standalone", hot, events=(xid, xid, Event(0, 8, 48))))
    assert eventually(lambda: asked("event") == "0 8 48")
    assert asked("event") == ""
    again = Event(1, 8, 79, When(start_s=1.0))
    begun = time.clock_gettime(time.CLOCK_BOOTTIME) - 10
    mock.write(State(healthy, "standalone", events=(xid, again), started_s=begun))
    assert eventually(lambda: asked("event") == "1 8 79")
    assert eventually(lambda: asked("event") == "1 8 79")
    assert asked("event") == ""


def test_processes_take_no_events_from_each_other(mock) -> None:
    mock.write(State(node("a10x1"), "standalone", events=(Event(0, 8, 31),)))
    program = compile_core("probe", HERE / "probe.c")
    environment = {**os.environ, "AIBRIXCTL_TEST_REAL_DIR": str(mock.folder)}
    said = [
        subprocess.run(
            [str(program), "read"],
            input="event\nevent\n", env=environment, capture_output=True, text=True, check=True,
        ).stdout
        for _ in range(2)
    ]  # fmt: skip
    assert said == ["0 8 31\n\n"] * 2


def test_lists_arrive_and_faults_replace_them(mock, asked: Callable[[str], str]) -> None:
    two = node("a10x2")
    busy = replace(two.gpus[0], processes=(Process(7, 2**40), Process(8, 5, graphics=True)))
    simulated = Node(two.values, (busy, two.gpus[1]))
    mock.write(State(simulated, "standalone"))
    assert asked("processes 0") == f"7:{2**40}:0 8:5:1"
    assert asked("processes 1") == asked("processes 63") == ""
    mock.write(State(simulated, "standalone", processes={0: (), 1: (Process(9, 1),)}))
    assert eventually(lambda: asked("processes 0") == "")
    assert asked("processes 1") == "9:1:0"


def test_codes_arrive(mock, asked: Callable[[str], str]) -> None:
    mock.write(State(node("910bx2"), "standalone", codes={1: (0x80E01801, 0x80FA4E00)}))
    assert asked("codes 0") == asked("codes 9") == ""
    assert asked("codes 1") == "80E01801 80FA4E00"


def test_an_overlay_leaves_lists_that_no_fault_sets(mock, asked: Callable[[str], str]) -> None:
    mock.write(State(node("a10x1"), "overlay", processes={1: (Process(9, 1),)}))
    assert asked("processes 0") == "-"
    assert asked("processes 1") == "9:1:0"
    assert asked("codes 0") == "-"


def test_head_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "state"
    state_file.write(State(node("a10x2"), started_s=5.0, expires_s=7.5), path)
    first = state_file.read(path)
    assert (first.started_s, first.expires_s, first.gpus, first.npus) == (5.0, 7.5, 2, 0)
    state_file.write(State(node("a10x2"), started_s=5.0), path)
    assert state_file.read(path).generation != first.generation
    assert state_file.read(path).expires_s is None
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: data[:50], "no state file"),
        (lambda data: b"X" + data[1:], "no state file"),
        (lambda data: data[:-1], "damaged"),
        (lambda data: data[:200] + b"\xff" + data[201:], "damaged"),
        (lambda data: data[:8] + b"\x63" + data[9:], "another version"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, change: Callable[[bytes], bytes], says: str) -> None:
    path = tmp_path / "state"
    path.write_bytes(change(state_file.encode(State(node("a10x1")))))
    with pytest.raises(MockError, match=says):
        state_file.read(path)


ONE = node("a10x1")


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (State(ONE, overrides=(Override("gpu", "temprature_c", 1),)), "no reading temprature_c"),
        (State(ONE, overrides=(Override("gpu", "temperature_c", "hot"),)), "an integer"),
        (State(ONE, overrides=(Override("gpu", "temperature_c", True),)), "an integer"),
        (State(ONE, overrides=(Override("gpu", "lost", 7),)), "true or false"),
        (State(ONE, overrides=(Override("gpu", "name", 7),)), "a text"),
        (State(ONE, overrides=(Override("gpu", "name", "x" * 96),)), "96 bytes"),
        (State(ONE, overrides=(Override("gpu", "name", "a\0b"),)), "NUL"),
        (State(ONE, overrides=(Override("gpu", "power_mw", 2**63),)), "64-bit"),
        (State(ONE, overrides=(Override("gpu", "lost", True, 64),)), "gpus 0 to 63"),
        (State(ONE, overrides=(Override("gpu", "lost", True, -1),)), "count from 0"),
        (State(ONE, overrides=(Override("link", "active", False, 0, 18),)), "links 0 to 17"),
        (State(ONE, overrides=(Override("link", "active", False),)), "link None"),
        (
            State(ONE, overrides=(Override("gpu", "lost", True, when=When(ramp_s=1)),)),
            "is no number",
        ),
        (
            State(ONE, overrides=(Override("gpu", "lost", True, when=When(probability=2)),)),
            "is no condition",
        ),
        (State(ONE, calls=(Call("nvmlDeviceGetTemprature"),)), "no function nvmlDeviceGetTempr"),
        (State(ONE, started_s=-1.0), "started at"),
        (State(ONE, processes={0: (Process(1, 1),) * 33}), "33 processes"),
        (State(ONE, codes={0: (1,) * 33}), "33 codes"),
        (State(ONE, events=(Event(0, 8, 79),) * 1025), "1025 events"),
        (State(ONE, calls=(Call("nvmlInit_v2", error=9),) * 1025), "1025 failing calls"),
    ],
)
def test_what_cannot_be_is_refused(state: State, says: str) -> None:
    with pytest.raises(MockUsageError, match=says):
        state_file.encode(state)


def test_a_folder_that_is_gone_is_an_error_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "state"
    with pytest.raises(MockError, match="No such file") as raised:
        state_file.write(State(ONE), path)
    assert raised.value.target == str(path)


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()  # a file can't replace it
    (tmp_path / "state" / "kept").touch()
    with pytest.raises(MockError):
        state_file.write(State(ONE), tmp_path / "state")
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


def test_sixty_four_gpus_with_every_link_fit(mock, probe: Ask) -> None:
    large = node("h100x64")
    gpus = tuple(replace(gpu, processes=(Process(1, 2),) * 32) for gpu in large.gpus)
    mock.write(State(replace(large, gpus=gpus), "standalone"))
    assert probe("gpu", 63, "uuid") == gpus[63].values["uuid"]


def test_a_node_of_nothing_is_one(mock, probe: Ask) -> None:
    mock.write(State(Node({}, (Gpu({}),)), "standalone"))
    assert probe("gpu", 0, "name") == ""
    assert probe("gpu", 0, "power_mw") == str(NOT_SUPPORTED)
