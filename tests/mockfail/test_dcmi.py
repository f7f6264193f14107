"""Our libdcmi.so under real clients: plain C by path, by name and linked, and Python's ctypes."""

import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mockfail.native import build, generate
from mockfail.nodes import node
from mockfail.state import Call, Override, State, Value, When
from tests.mockfail.programs import HERE, MockFolder, built, compile_program

SYMBOLS = (build.HERE / "dcmi_symbols.txt").read_text().split()
NODE = State(node("ascend-910bx8"), mode="standalone")


def npu(name: str, value: Value, index: int = 0, when: When = When()) -> Override:  # noqa: B008
    return Override("npu", name, value, index, when=when)


def faulty(*overrides: Override, codes: dict[int, tuple[int, ...]] | None = None) -> State:
    return replace(NODE, overrides=overrides, codes=codes or {})


@pytest.fixture(scope="session")
def client() -> Path:
    return compile_program("dcmi_client", HERE / "dcmi_client.c", ["-ldl", "-Wno-unused"])


@pytest.fixture(scope="session")
def linked_client(libraries) -> Path:
    options = ["-DLINKED", f"-L{build.HERE}", "-l:libdcmi.so", "-ldl", "-Wno-unused"]
    return compile_program("dcmi_client_linked", HERE / "dcmi_client.c", options)


def read(mock: MockFolder, client: Path, library: str = "libdcmi.so", **more: str) -> list[str]:
    ended = mock.run(client, "read", library, **more)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout.splitlines()


def of(lines: list[str], place: str) -> str:
    return next(line for line in lines if line.startswith(f"npu {place} "))


# ---- how clients reach it ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "library",
    [
        "libdcmi.so",
        "/usr/local/dcmi/libdcmi.so",
        "/usr/local/Ascend/driver/lib64/driver/libdcmi.so",
    ],
)
def test_a_client_that_opens_the_library_by_name_or_path_gets_the_mock(mock, client, library):
    mock.write(NODE)
    lines = read(mock, client, library)
    assert lines[:2] == ["init 0", "cards 8 status 0"]
    assert of(lines, "0.0") == (
        "npu 0.0 status 0 logic 0 physical 0 pci 0000:01:00.0 19e5:d802 temperature 36 power 910 "
        "health 0 network 0 hbm 3400/65536 ecc 0/0 codes 0"
    )
    assert len(lines) == 10


def test_a_linked_client_gets_the_mock(mock, linked_client):
    mock.write(faulty(npu("temperature_c", 91)))
    assert mock.run(linked_client, "linked").stdout == "init 0 temperature 91\n"


def test_without_a_mock_there_is_no_driver(mock, client):
    ended = mock.run(client, "read", "libdcmi.so")  # no state was written
    assert ended.stdout == "init -8012\n"


def test_every_listed_function_is_exported():
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", str(build.HERE / "libdcmi.so")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    exported = {line.split()[-1].split("@")[0] for line in listed.splitlines()}
    assert set(SYMBOLS) <= exported
    assert sorted(exported - set(SYMBOLS)) == ["aibrixctl_mock", "dlmopen", "dlopen"]


# ---- what it says --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("temperature_c", 97, "temperature 97"),
        ("temperature_c", -5, "temperature -5"),
        ("power_mw", 350_400, "power 3504"),
        ("health", 3, "health 3"),
        ("network_health", 5, "network 5"),
        ("hbm_used_bytes", 40 << 30, "hbm 40960/65536"),
        ("hbm_single_bit_errors", 7, "ecc 7/0"),
        ("hbm_double_bit_errors", 2, "ecc 0/2"),
        ("pci_bus_id", "0001:C1:1f.7", "pci 0001:c1:1f.7"),
        ("pci_bus_id", "no address", "pci 0000:00:00.0"),
        ("pcie_device_id", 0x1234_19E5, "19e5:1234"),
    ],
)
def test_a_reading_that_is_set_is_read_on_that_npu_alone(mock, client, name, value, shown):
    mock.write(NODE)
    healthy = read(mock, client)
    mock.write(faulty(npu(name, value, 5)))
    lines = read(mock, client)
    assert shown in of(lines, "5.0")
    assert [line for line in lines if not line.startswith("npu 5.0")] == [
        line for line in healthy if not line.startswith("npu 5.0")
    ]


def test_fault_codes_are_listed_in_their_order(mock, client):
    mock.write(faulty(codes={2: (0x80E01801, 0x80E18402), 3: tuple(range(1, 33))}))
    lines = read(mock, client)
    assert of(lines, "2.0").endswith("codes 2 80E01801 80E18402")
    assert of(lines, "3.0").split("codes ")[1].startswith("32 00000001")


def test_a_lost_npu_is_listed_and_does_not_answer(mock, client):
    mock.write(faulty(npu("lost", True, 4)))
    lines = read(mock, client)
    assert lines[1] == "cards 8 status 0"
    assert "status -8012" in of(lines, "4.0") and "health 99" in of(lines, "4.0")
    assert all("status 0" in of(lines, f"{card}.0") for card in (0, 3, 5, 7))


def test_a_hidden_npu_moves_the_logic_ids_and_not_the_physical_ones(mock, client):
    mock.write(faulty(npu("hidden", True, 3)))
    lines = read(mock, client)
    assert lines[1] == "cards 7 status 0"
    assert "logic 2 physical 2" in of(lines, "2.0")
    assert "logic 3 physical 4" in of(lines, "4.0")
    assert not any(line.startswith("npu 3.0") for line in lines)


def test_several_devices_on_a_card(mock, client):
    layout = [npu("card", card, i) for i, card in enumerate((0, 0, 2, 2, 5, 5, 9, 9))]
    layout += [npu("device", i % 2, i) for i in range(8)]
    mock.write(faulty(*layout, npu("temperature_c", 88, 5)))
    lines = read(mock, client)
    assert lines[1] == "cards 4 status 0"
    assert "logic 5 physical 5" in of(lines, "5.1") and "temperature 88" in of(lines, "5.1")


def test_init_fails_as_told(mock, client):
    mock.write(faulty(Override("node", "dcmi_init_error", -8005)))
    assert read(mock, client) == ["init -8005"]


def test_one_function_can_fail_alone(mock, client):
    mock.write(replace(NODE, calls=(Call("dcmi_get_device_temperature", error=-8006),)))
    lines = read(mock, client)
    assert "status -8006" in of(lines, "0.0") and "temperature -1 power 910" in of(lines, "0.0")


# ---- over a driver -------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def dcmi_driver_library() -> Path:
    """A stand-in for Huawei's library: our answers from a state of its own, without redirect."""
    return built(
        "libdcmi.so",
        [],
        ["stand-in"],
        lambda target: build.compile_library("dcmi", target, extra=["-DMK_STAND_IN"]),
    )


@pytest.fixture
def over(dcmi_driver_library: Path, tmp_path: Path, mock: MockFolder) -> dict[str, str]:
    """The environment of a mock that lies over a driver with four NPUs."""
    folder = tmp_path / "driver"
    folder.mkdir()
    driver = replace(
        State(node("ascend-910bx4"), mode="standalone"),
        overrides=(npu("temperature_c", 61, 1), npu("power_mw", 222_000, 1)),
        codes={2: (0x80C98000,)},
    )
    MockFolder(folder).write(driver)
    return {
        "AIBRIXCTL_TEST_REAL_DIR": str(folder),
        "LD_LIBRARY_PATH": str(dcmi_driver_library.parent),
    }


def test_an_overlay_changes_what_a_fault_sets_and_nothing_else(mock, client, over):
    mock.write(State(node("ascend-910b"), mode="overlay"))
    plain = read(mock, client, **over)
    assert plain[1] == "cards 4 status 0"
    assert "temperature 61 power 2220" in of(plain, "1.0")
    assert of(plain, "2.0").endswith("codes 1 80C98000")
    faults = (npu("temperature_c", 99, 1), npu("hbm_double_bit_errors", 3, 1), npu("lost", True, 3))
    mock.write(
        State(
            node("ascend-910b"), mode="overlay", overrides=faults, codes={1: (0x80E01801,), 2: ()}
        )
    )
    lines = read(mock, client, **over)
    assert of(lines, "0.0") == of(plain, "0.0")
    assert of(lines, "1.0") == of(plain, "1.0").replace("temperature 61", "temperature 99").replace(
        "ecc 0/0 codes 0", "ecc 0/3 codes 1 80E01801"
    )
    assert of(lines, "2.0").endswith("codes 0")
    assert "status -8012" in of(lines, "3.0")
    mock.write(State(node("ascend-910b"), mode="overlay"))
    assert read(mock, client, **over) == plain


def test_an_overlay_can_hide_a_card_and_fail_the_init(mock, client, over):
    state = State(node("ascend-910b"), mode="overlay")
    mock.write(replace(state, overrides=(npu("hidden", True, 2),)))
    lines = read(mock, client, **over)
    assert lines[1] == "cards 3 status 0"
    assert not any(line.startswith("npu 2.0") for line in lines)
    mock.write(replace(state, overrides=(Override("node", "dcmi_init_error", -8002),)))
    assert read(mock, client, **over) == ["init -8002"]


def test_no_state_leaves_the_driver_as_it_is(mock, client, over):
    lines = read(mock, client, **over)
    assert lines[1] == "cards 4 status 0" and "temperature 61" in of(lines, "1.0")


# ---- events --------------------------------------------------------------------------------------


class Subscriber:
    """A running client whose lines come one by one."""

    def __init__(self, process: subprocess.Popen[bytes]):
        self._process, self._rest = process, b""

    def line(self, within_s: float = 10) -> str:
        """Return the next line; it is an error when none comes in time."""
        assert self._process.stdout is not None
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self._process.stdout], [], [], within_s)
            assert ready, "nothing came"
            more = os.read(self._process.stdout.fileno(), 4096)
            assert more, f"the client ended: {self._process.wait()}"
            self._rest += more
        found, _, self._rest = self._rest.partition(b"\n")
        return found.decode()


@pytest.fixture
def subscriber(mock: MockFolder, client: Path) -> Iterator[Subscriber]:
    mock.write(NODE)
    with subprocess.Popen(
        [str(client), "events", "libdcmi.so"],
        env=mock.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        yield Subscriber(process)
        process.kill()


def test_a_code_that_comes_and_goes_is_told_once_each(mock, subscriber):
    said = [subscriber.line() for _ in range(3)]
    assert said == ["first 0", "second -8020", "nobody -8001"]
    written_s = time.monotonic()
    mock.write(faulty(npu("health", 3, 6), codes={6: (0x80E01801,)}))
    assert subscriber.line() == "begun 80E01801 device 6 severity 3 node 112 serial 1"
    assert time.monotonic() - written_s < 5  # well under a second on an idle machine
    mock.write(faulty(codes={6: (0x80E01801, 0x80C98000)}))
    assert subscriber.line() == "begun 80C98000 device 6 severity 2 node 100 serial 2"
    mock.write(NODE)
    over = sorted(subscriber.line() for _ in range(2))
    assert [text.split(" severity")[0] for text in over] == [
        "over 80C98000 device 6",
        "over 80E01801 device 6",
    ]


def test_waiting_for_an_event_ends_with_it_or_with_the_time(mock, client):
    mock.write(NODE)
    assert mock.run(client, "wait", "libdcmi.so", "150").stdout == "wait -8006\n"
    mock.write(faulty(npu("health", 1, 0), codes={0: (0x80E20207,), 1: (0x80B98000,)}))
    said = mock.run(client, "wait", "libdcmi.so", "5000").stdout
    assert said.startswith("wait 0\nbegun 80B98000 device 1 severity 2")  # the other is minor
    assert mock.run(client, "wait", "libdcmi.so", "30001").stdout == "wait -8001\n"


# ---- bad arguments -------------------------------------------------------------------------------

KINDS = {  # of the functions that answer themselves; the others take no notice of arguments
    "dcmi_get_all_device_count": "p",
    "dcmi_get_card_id_device_id_from_logicid": "ppi",
    "dcmi_get_card_id_device_id_from_phyid": "ppi",
    "dcmi_get_card_list": "ppi",
    "dcmi_get_card_num_list": "ppi",
    "dcmi_get_dcmi_version": "ps",
    "dcmi_get_device_die_v2": "iiip",
    "dcmi_get_device_ecc_info": "iiip",
    "dcmi_get_device_errorcode_string": "iiips",
    "dcmi_get_device_errorcode_v2": "iipps",
    "dcmi_get_device_errorinfo": "iiips",
    "dcmi_get_device_frequency": "iiip",
    "dcmi_get_device_id_in_card": "ippp",
    "dcmi_get_device_logic_id": "pii",
    "dcmi_get_device_logicid_from_phyid": "ip",
    "dcmi_get_device_num_in_card": "ip",
    "dcmi_get_device_phyid_from_logicid": "ip",
    "dcmi_get_device_resource_info": "iipp",
    "dcmi_get_device_utilization_rate": "iiip",
    "dcmi_get_driver_errorcode": "pps",
    "dcmi_get_driver_health": "p",
    "dcmi_get_driver_version": "ps",
    "dcmi_get_product_type": "iips",
    "dcmi_get_topo_info_by_device_id": "iiiip",
    "dcmi_get_version": "iipsp",
}
WAITING = ("dcmi_get_fault_event", "dcmi_subscribe_fault_event")


def test_wild_ids_and_no_room_to_write_crash_nobody(mock, client):
    names = [name for name in SYMBOLS if name not in WAITING]
    asked = "".join(f"{name} {KINDS.get(name, 'iip')}\n" for name in names)
    mock.write(faulty(codes={0: (1, 2, 3)}))
    ended = subprocess.run(
        [str(client), "wild", "libdcmi.so"],
        input=asked,
        env=mock.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"survived {len(names) * 2 * 81}\n"


def test_a_device_is_found_in_every_call_that_names_one():
    takes = {name for name in SYMBOLS if generate.takes_device(name)}
    assert {"dcmi_get_product_type", "dcmi_get_hbm_info", "dcmi_create_vdevice"} <= takes
    assert takes & set(KINDS) == {name for name, kinds in KINDS.items() if kinds[:2] == "ii"}


# ---- an unmodified client ------------------------------------------------------------------------


def test_gpustack_runtime_shows_faults_and_health(mock):
    python = os.environ.get("AIBRIXCTL_TEST_CLIENTS", "")
    command = [python, "-m", "gpustack_runtime", "detect", "--format", "json"]
    found = python and subprocess.run([*command, "--help"], capture_output=True, check=False)
    if not found or found.returncode != 0:
        pytest.skip("needs a Python with gpustack-runtime, named by AIBRIXCTL_TEST_CLIENTS")

    def detect() -> list[dict[str, Any]]:
        ended = mock.run(
            *command,
            GPUSTACK_RUNTIME_DETECT="ascend",
            GPUSTACK_RUNTIME_DETECT_NO_PCI_CHECK="1",
            GPUSTACK_RUNTIME_DETECT_NO_HEALTH_CHECK="0",
        )
        return json.loads(ended.stdout[ended.stdout.index("[\n") :])

    mock.write(NODE)
    healthy = detect()
    assert len(healthy) == 8
    assert healthy[2]["name"] == "910B3" and healthy[2]["memory_status"] == "healthy"
    mock.write(faulty(npu("temperature_c", 101, 2), npu("hbm_double_bit_errors", 2, 2)))
    assert detect()[2] == healthy[2] | {"temperature": 101, "memory_status": "unhealthy"}
    mock.write(faulty(npu("hidden", True, 7)))
    assert len(detect()) == 7
    mock.write(NODE)
    assert detect() == healthy
