"""The table by which nvidia-smi reaches inside the driver, called as nvidia-smi calls it."""

import json
import os
from typing import Any

import pytest

from mockfail.nodes import node
from mockfail.state import Override, Process, State
from tests.mockfail.programs import MockFolder, RealDriver

TABLE = """
import ctypes, json
import pynvml as nv

nv.nvmlInit()
guid = bytes.fromhex("c4fe3e6cc98f6c4ea327ee696e12f7c4")
table = ctypes.POINTER(ctypes.c_size_t)()
result = nv.nvmlLib.nvmlInternalGetExportTable(ctypes.byref(table), guid)
call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)

def slot(number, first, second, third):
    return call(table[number])(first, second, third)

def handle(index):
    device = ctypes.c_void_p()
    return slot(81, index, ctypes.addressof(device), 0x22), device

def listed(number, device):
    entries = ctypes.create_string_buffer(4128 * 8)
    count = ctypes.c_uint(8)
    error = slot(number, device, ctypes.addressof(count), ctypes.addressof(entries))
    parts = [entries.raw[i * 4128 : (i + 1) * 4128] for i in range(count.value)]
    return error, [
        [int.from_bytes(p[:4], "little"), int.from_bytes(p[8:16], "little"),
         p[32:].split(b"\\0")[0].decode()] for p in parts
    ]
"""


def answers(mock: MockFolder, code: str, **environment: str) -> Any:
    done = mock.python(f"{TABLE}\n{code}\nprint(json.dumps(found))", **environment)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.mark.parametrize("overlay", [False, True])
def test_hidden_and_lost_gpus_are_so_in_the_table_too(
    mock: MockFolder, real_driver: RealDriver, overlay: bool
) -> None:
    real_driver.write(State(node("a100-80gx4"), mode="standalone"))
    faults = (Override("gpu", "hidden", True, 0), Override("gpu", "lost", True, 2))
    mock.write(
        State(
            node("a100-80gx4"),
            mode="overlay" if overlay else "standalone",
            overrides=faults,
            real_library=str(real_driver.library) if overlay else None,
        )
    )
    code = """
found = [result]
for index in range(4):
    error, device = handle(index)
    found.append([error, nv.nvmlDeviceGetPciInfo(ctypes.cast(device, nv.c_nvmlDevice_t)).bus]
                 if error == 0 else error)
"""
    assert answers(mock, code, **real_driver.environment) == [0, [0, 0x43], 15, [0, 0x61], 2]


@pytest.mark.parametrize("overlay", [False, True])
def test_processes_come_by_kind_and_with_their_names(
    mock: MockFolder, real_driver: RealDriver, overlay: bool
) -> None:
    gone = 2**22 + 1  # above the highest pid that Linux gives
    held = (Process(os.getpid(), 2**30), Process(gone, 2**20), Process(gone, 7, graphics=True))
    mock.write(
        State(
            node("a100-80gx2"),
            mode="overlay" if overlay else "standalone",
            processes={1: held},
            real_library=str(real_driver.library) if overlay else None,
        )
    )
    code = """
found = [listed(213, handle(1)[1]), listed(214, handle(1)[1]), listed(213, handle(0)[1])]
"""
    compute, graphics, other = answers(mock, code, **real_driver.environment)
    [own, lost] = compute[1]
    assert own[:2] == [os.getpid(), 2**30]
    assert own[2]
    assert lost == [gone, 2**20, "[Not Found]"]
    assert graphics == [0, [[gone, 7, "[Not Found]"]]]
    assert other == [0, []]


def test_an_unknown_table_is_refused_and_unknown_slots_of_a_device_too(mock: MockFolder) -> None:
    mock.write(State(node("h100"), mode="standalone"))
    code = """
other = ctypes.c_void_p(1)
value = ctypes.c_uint(77)
found = [
    nv.nvmlLib.nvmlInternalGetExportTable(ctypes.byref(other), bytes(16)),
    other.value,
    slot(231, handle(0)[1], ctypes.addressof(value), 0),
    value.value,
    slot(230, handle(0)[1], ctypes.addressof(value), 0),
    value.value,
]
"""
    assert answers(mock, code) == [6, None, 3, 77, 0, 5]
