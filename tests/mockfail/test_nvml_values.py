"""NVML's answers, asked by real pynvml in processes of their own."""

import json
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mockfail.nodes import node
from mockfail.properties import NOT_SUPPORTED, PROPERTIES
from mockfail.state import Call, Event, Node, Override, Process, State, Value
from tests.mockfail.programs import HERE, MockFolder, eventually

SCRIPT = HERE / "nvml_views.py"
COUNTER = st.integers(0, 2**31 - 1)
VALUES: Mapping[str, st.SearchStrategy[Value]] = {
    "name": st.text("ABCxyz 019-", min_size=1, max_size=60).map(str.strip).filter(bool),
    "uuid": st.uuids().map(lambda each: f"GPU-{each}"),
    "pci_bus_id": st.integers(1, 0xFFFF).map(lambda n: f"0000{n:04X}:5E:00.0"),
    "gpu_utilization_percent": st.integers(0, 100),
    "memory_used_bytes": st.integers(0, 2**34),
    "retired_pages_sbe": st.integers(0, 64),
    "retired_pages_dbe": st.integers(0, 64),
    "performance_state": st.integers(0, 15),
    "fabric_state": st.integers(1, 3),
    "recovery_action": st.integers(0, 4),
}
SETTABLE = (
    *("name", "uuid", "pci_bus_id", "temperature_c", "memory_temperature_c", "power_mw"),
    *("power_limit_mw", "power_limit_enforced_mw", "power_limit_min_mw", "energy_mj"),
    *("clock_sm_mhz", "clock_memory_max_mhz", "performance_state", "gpu_utilization_percent"),
    *("memory_used_bytes", "bar1_used_bytes", "pcie_generation_current", "pcie_width_current"),
    *("pcie_replays", "ecc_mode_current", "ecc_mode_pending", "retired_pages_sbe"),
    *("retired_pages_dbe", "retired_pages_pending", "remapped_rows_uncorrectable"),
    *("remap_pending", "remap_failure", "remap_banks_none", "recovery_action"),
    *("violation_power_ns", "fabric_state"),
    *(entry.name for entry in PROPERTIES["gpu"] if entry.name.startswith("ecc_")),
    *(entry.name for entry in PROPERTIES["gpu"] if entry.name.startswith("throttle_")),
)
TYPES = {entry.name: entry.type for entry in PROPERTIES["gpu"]}
LINK_TYPES = {entry.name: entry.type for entry in PROPERTIES["link"]}
LINK_NAMES = ("active", "version", "remote_type", "speed_mb_per_s")
LINK_COUNTERS = ("crc_flit_errors", "crc_data_errors", "replay_errors", "recovery_errors")


@st.composite
def overrides(draw: st.DrawFn, gpus: int, links: int) -> tuple[Override, ...]:
    """A few readings of each GPU, and of its links, set to anything that they can be."""
    found = []
    for gpu in range(gpus):
        for name in draw(st.lists(st.sampled_from(SETTABLE), max_size=12, unique=True)):
            plain = st.booleans() if TYPES[name] == "bool" else COUNTER
            found.append(Override("gpu", name, draw(VALUES.get(name, plain)), gpu))
        for _ in range(draw(st.integers(0, 3)) if links else 0):
            name = draw(st.sampled_from((*LINK_NAMES, *LINK_COUNTERS)))
            value: Value = draw(st.booleans() if LINK_TYPES[name] == "bool" else COUNTER)
            found.append(Override("link", name, value, gpu, draw(st.integers(0, links - 1))))
    return tuple(found)


def views(mock: MockFolder, **environment: str) -> list[dict[str, list[Any]]]:
    done = mock.run(sys.executable, SCRIPT, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    seen: list[dict[str, list[Any]]] = json.loads(done.stdout)
    return seen


def expected(made: Node, gpu: int, faults: tuple[Override, ...]) -> dict[str, Any]:
    """Return each reading as it must be: the last fault's value, else the healthy one."""
    values = dict(made.gpus[gpu].values)
    links = [dict(link) for link in made.gpus[gpu].links]
    for fault in faults:
        if fault.index == gpu and fault.scope == "gpu":
            values[fault.name] = fault.value
        elif fault.index == gpu and fault.link is not None:
            links[fault.link][fault.name] = fault.value
    if values["fabric_state"] == 0:  # the card is on no fabric: the call refuses
        values["fabric_state"] = NOT_SUPPORTED
    readings = values | {
        f"link {n} {name}": link[name]
        for n, link in enumerate(links)
        for name in (*LINK_NAMES, *LINK_COUNTERS)
    }
    return {
        name: None if value in (NOT_SUPPORTED, "") else value for name, value in readings.items()
    }


def check(made: Node, faults: tuple[Override, ...], seen: list[dict[str, list[Any]]]) -> None:
    assert len(seen) == len(made.gpus)
    for gpu, readings in enumerate(seen):
        want = expected(made, gpu, faults)
        for name, values in readings.items():
            if name in want:
                assert values == [want[name]] * len(values), (gpu, name)
        for kind in ("corrected", "uncorrected"):
            for counter in ("volatile", "aggregate"):
                parts = [v for k, v in want.items() if k.startswith(f"ecc_{kind}_{counter}_")]
                counts = [part for part in parts if part is not None]
                total = sum(counts) if counts else None
                assert readings[f"total {kind} {counter}"] == [total] * 2, (gpu, kind, counter)


few = settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])


@few
@given(faults=overrides(gpus=4, links=18))
def test_every_version_of_every_call_shows_what_is_set_standalone(mock, faults):
    made = node("h100x4")
    mock.write(State(made, mode="standalone", overrides=faults))
    check(made, faults, views(mock))


@few
@given(faults=overrides(gpus=2, links=12))
def test_every_version_of_every_call_shows_what_is_set_over_a_driver(mock, real_driver, faults):
    made = node("a100-80gx2")
    state = State(
        node("t4"), mode="overlay", overrides=faults, real_library=str(real_driver.library)
    )
    mock.write(state)
    check(made, faults, views(mock, **real_driver.environment))


@pytest.mark.parametrize("spec", ["l4", "v100-32g-sxm2x8", "b200x2", "rtx-4090", "rtx-pro-6000"])
def test_healthy_cards_of_other_kinds_agree_too(mock, spec):
    made = node(spec)
    mock.write(State(made, mode="standalone"))
    check(made, (), views(mock))


def test_sram_errors_are_the_same_by_location_and_by_kind(mock):
    faults = (
        Override("gpu", "sram_uncorrected_parity", 3),
        Override("gpu", "sram_uncorrected_secded", 4),
    )
    mock.write(State(node("h100"), mode="standalone", overrides=faults))
    [seen] = views(mock)
    assert seen["ecc_uncorrected_aggregate_sram"] == [7, 7]
    assert seen["total uncorrected aggregate"] == [7, 7]


def test_processes_are_the_same_in_every_version(mock):
    held = (Process(4242, 2**30), Process(4243, 2**20, graphics=True))
    mock.write(State(node("h100"), mode="standalone", processes={0: held}))
    [seen] = views(mock)
    assert seen["processes"] == [[[4242, 2**30]]] * 3


def answers(mock: MockFolder, code: str, **environment: str) -> Any:
    """Run lines of pynvml under the mock; they leave what they found in ``found``."""
    program = "import json, pynvml as nv\nnv.nvmlInit()\n" + textwrap.dedent(code)
    done = mock.python(program + "\nprint(json.dumps(found))", **environment)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


INDICES = """
def of(call, *arguments):
    try:
        return nv.nvmlDeviceGetIndex(call(*arguments))
    except nv.NVMLError as error:
        return f"error {error.value}"
count = nv.nvmlDeviceGetCount()
handles = [nv.nvmlDeviceGetHandleByIndex(i) for i in range(count)]
found = [[
    of(nv.nvmlDeviceGetHandleByUUID, nv.nvmlDeviceGetUUID(h)),
    of(nv.nvmlDeviceGetHandleByUUIDV, nv.nvmlDeviceGetUUID(h), 1),
    of(nv.nvmlDeviceGetHandleBySerial, nv.nvmlDeviceGetSerial(h)),
    of(nv.nvmlDeviceGetHandleByPciBusId, nv.nvmlDeviceGetPciInfo(h).busId),
    of(nv.nvmlDeviceGetHandleByPciBusId, nv.nvmlDeviceGetPciInfo(h).busIdLegacy.lower()),
] for h in handles]
found += [of(nv.nvmlDeviceGetHandleByUUID, %r), of(nv.nvmlDeviceGetHandleByIndex, count)]
"""


def test_a_hidden_gpu_is_in_no_list_and_the_others_move_up(mock, real_driver):
    made = node("a100-80gx2")
    gone = str(made.gpus[0].values["uuid"])
    hide = (Override("gpu", "hidden", True),)
    mock.write(State(made, mode="standalone", overrides=hide))
    assert answers(mock, INDICES % gone) == [[0] * 5, "error 6", "error 2"]
    mock.write(State(made, overrides=hide, real_library=str(real_driver.library)))
    assert answers(mock, INDICES % gone, **real_driver.environment) == [
        [0] * 5,
        "error 6",
        "error 2",
    ]


@pytest.mark.parametrize(("name", "error"), [("lost", 15), ("reset_required", 16)])
def test_a_lost_gpu_is_counted_but_answers_nothing(mock, name, error):
    mock.write(
        State(node("h100x2"), mode="standalone", overrides=(Override("gpu", name, True, 1),))
    )
    code = """
    found = [nv.nvmlDeviceGetCount()]
    for index in range(2):
        try:
            found.append(nv.nvmlDeviceGetName(nv.nvmlDeviceGetHandleByIndex(index)))
        except nv.NVMLError as error:
            found.append(error.value)
    """
    assert answers(mock, code) == [2, "NVIDIA H100 80GB HBM3", error]


def test_a_gpu_that_the_driver_itself_lost_keeps_its_number_under_an_overlay(mock, real_driver):
    lost = (Override("gpu", "lost", True, 0),)
    real_driver.write(State(node("a100-80gx2"), mode="standalone", overrides=lost))
    hot = (Override("gpu", "temperature_c", 97, 1),)
    mock.write(
        State(node("t4"), mode="overlay", overrides=hot, real_library=str(real_driver.library))
    )
    code = """
    found = [nv.nvmlDeviceGetCount()]
    for index in range(2):
        try:
            handle = nv.nvmlDeviceGetHandleByIndex(index)
            found.append([nv.nvmlDeviceGetTemperature(handle, 0), nv.nvmlDeviceGetIndex(handle)])
        except nv.NVMLError as error:
            found.append(error.value)
    """
    assert answers(mock, code, **real_driver.environment) == [2, 15, [97, 1]]


def test_sram_errors_that_an_overlay_lowers_stay_a_sum_of_their_parts(mock, real_driver):
    real = (Override("gpu", "sram_uncorrected_parity", 5),)
    real_driver.write(State(node("h100"), mode="standalone", overrides=real))
    fault = (Override("gpu", "ecc_uncorrected_aggregate_sram", 1),)
    mock.write(
        State(node("h100"), mode="overlay", overrides=fault, real_library=str(real_driver.library))
    )
    code = """
    status = nv.c_nvmlEccSramErrorStatus_v1_t()
    nv.nvmlDeviceGetSramEccErrorStatus(nv.nvmlDeviceGetHandleByIndex(0), nv.byref(status))
    buckets = [getattr(status, n) for n, _ in status._fields_ if n.startswith("aggregateUncBucket")]
    found = [status.aggregateUncParity + status.aggregateUncSecDed, sum(buckets)]
    """
    assert answers(mock, code, **real_driver.environment) == [1, 1]


def test_a_gpu_can_be_lost_between_two_calls(mock):
    fault = Call("nvmlDeviceGetPowerUsage", gpu=0, error=15)
    mock.write(State(node("h100"), mode="standalone", calls=(fault,)))
    code = """
    handle = nv.nvmlDeviceGetHandleByIndex(0)
    try:
        found = nv.nvmlDeviceGetPowerUsage(handle)
    except nv.NVMLError as error:
        found = [error.value, nv.nvmlDeviceGetTemperatureV(handle, 0)]
    """
    assert answers(mock, code) == [15, 29]


EVENTS = """
def wait(which, ms):
    try:
        event = nv.nvmlEventSetWait_v2(which, ms)
        return [event.eventType, event.eventData, nv.nvmlDeviceGetIndex(event.device)]
    except nv.NVMLError_Timeout:
        return "timeout"
handles = [nv.nvmlDeviceGetHandleByIndex(i) for i in range(2)]
sets = [nv.nvmlEventSetCreate() for _ in range(2)]
nv.nvmlDeviceRegisterEvents(handles[0], nv.nvmlEventTypeXidCriticalError, sets[0])
nv.nvmlDeviceRegisterEvents(handles[1], nv.nvmlEventTypeXidCriticalError, sets[1])
found = [wait(sets[0], 0), wait(sets[1], 0), wait(sets[1], 60)]
for each in sets:
    nv.nvmlEventSetFree(each)
"""


@pytest.mark.parametrize("overlay", [False, True])
def test_an_event_comes_once_to_a_set_that_registered_its_device(mock, real_driver, overlay):
    event = Event(gpu=1, type=8, data=79)
    library = str(real_driver.library) if overlay else None
    mode = "overlay" if overlay else "standalone"
    mock.write(State(node("a100-80gx2"), mode=mode, events=(event,), real_library=library))
    for _ in range(2):  # each process gets it
        found = answers(mock, EVENTS, **real_driver.environment)
        assert found == ["timeout", [8, 79, 1], "timeout"]


def test_a_forked_child_gets_the_events_that_its_parent_has_had(mock):
    mock.write(State(node("h100"), mode="standalone", events=(Event(gpu=0, type=8, data=79),)))
    code = """
    import os
    def wait():
        events = nv.nvmlEventSetCreate()
        nv.nvmlDeviceRegisterEvents(nv.nvmlDeviceGetHandleByIndex(0), 8, events)
        return nv.nvmlEventSetWait_v2(events, 2000).eventData
    found = [wait()]
    child = os.fork()
    if child == 0:
        os._exit(wait())
    found.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert answers(mock, code) == [79, 79]


def test_the_other_end_of_a_link_is_gone_when_the_link_is_down(mock):
    fault = Override("link", "active", False, 0, 3)
    mock.write(State(node("h100"), mode="standalone", overrides=(fault,)))
    code = """
    handle, found = nv.nvmlDeviceGetHandleByIndex(0), []
    for link in (2, 3):
        try:
            found.append(nv.nvmlDeviceGetNvLinkRemotePciInfo(handle, link).busId)
        except nv.NVMLError_NotSupported:
            found.append(None)
    """
    assert answers(mock, code) == ["00000000:05:00.0", None]


def test_a_bad_address_in_a_scenario_is_shown_and_harms_nobody(mock):
    fault = Override("gpu", "pci_bus_id", "no address at all, and far too long for any field")
    mock.write(State(node("h100"), mode="standalone", overrides=(fault,)))
    code = "found = nv.nvmlDeviceGetPciInfo(nv.nvmlDeviceGetHandleByIndex(0)).busId"
    assert answers(mock, code) == "no address at all, and far too "


def test_buffers_and_versions_follow_the_protocol(mock):
    mock.write(State(node("h100"), mode="standalone", processes={0: (Process(1, 2**20),)}))
    code = """
    import ctypes
    lib, handle = nv.nvmlLib, nv.nvmlDeviceGetHandleByIndex(0)
    short, count = ctypes.create_string_buffer(4), ctypes.c_uint(0)
    memory = nv.c_nvmlMemory_v2_t(version=1)
    temperature = nv.c_nvmlTemperature_v1_t(version=7)
    found = [
        lib.nvmlDeviceGetName(handle, short, 4),
        lib.nvmlDeviceGetName(handle, None, 4),
        lib.nvmlDeviceGetComputeRunningProcesses_v3(handle, ctypes.byref(count), None),
        count.value,
        lib.nvmlDeviceGetMemoryInfo_v2(handle, ctypes.byref(memory)),
        lib.nvmlDeviceGetTemperatureV(handle, ctypes.byref(temperature)),
        lib.nvmlDeviceGetPowerUsage(None, ctypes.byref(count)),
        lib.nvmlDeviceGetPowerUsage(ctypes.c_void_p(4096), ctypes.byref(count)),
    ]
    """
    assert answers(mock, code) == [7, 2, 7, 1, 25, 25, 2, 2]


def test_a_change_reaches_a_running_program(mock):
    made = node("h100")
    mock.write(State(made, mode="standalone"))
    code = (
        "import pynvml as nv, sys; nv.nvmlInit(); h = nv.nvmlDeviceGetHandleByIndex(0)\n"
        "for line in sys.stdin: print(nv.nvmlDeviceGetTemperature(h, 0), flush=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=mock.environment(), text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def temperature() -> str:
            stdin.write("\n")
            stdin.flush()
            return stdout.readline().strip()

        assert temperature() == "29"
        fault = Override("gpu", "temperature_c", 97)
        mock.write(State(made, mode="standalone", overrides=(fault,)))
        assert eventually(lambda: temperature() == "97", within_s=1.0)
        mock.write(State(made, mode="standalone"))
        assert eventually(lambda: temperature() == "29", within_s=1.0)
        stdin.close()
