"""What is asked of NVML before a device is given work: the real binding and native library."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from mockfail import native, state_file
from mockfail.nodes import node
from mockfail.state import Override, Process, State

LOOK = """
import json, pynvml
from diagnose.active.others import look
pynvml.nvmlInit()
handle = pynvml.nvmlDeviceGetHandleByIndex(1)
uuid, address = pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetPciInfo(handle).busId
print(json.dumps([look(uuid, None), look(None, address), look("GPU-nobody", None)]))
"""


def look(folder: Path, *overrides: Override, **more: Any) -> list[dict[str, Any]]:
    """What is said of the second GPU by its UUID, by its PCI address, and of no GPU at all."""
    state = State(node("h100x2"), mode="standalone", overrides=overrides, **more)
    state_file.write(state, folder / "state")
    environment = {**os.environ, **native.preload_environment(folder)}
    done = subprocess.run(
        [sys.executable, "-c", LOOK], env=environment, check=True, capture_output=True, timeout=60
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_an_idle_device_is_ours_and_tells_its_place_and_link(tmp_path: Path) -> None:
    by_uuid, by_address, of_nobody = look(tmp_path)
    assert by_uuid == by_address
    assert by_uuid["others"] is None
    assert by_uuid["index"] == 1
    assert (by_uuid["pcie_generation_max"], by_uuid["pcie_width_max"]) == (5, 16)
    assert of_nobody == {}


def test_a_process_of_another_is_seen(tmp_path: Path) -> None:
    found = look(tmp_path, processes={1: (Process(4242, 2**30),)})
    assert found[0]["others"] == "processes 4242 use it"


def test_memory_that_no_process_in_sight_holds_is_anothers_too(tmp_path: Path) -> None:
    used = Override("gpu", "memory_used_bytes", 30 * 2**30, 1)
    assert "in use by no process in sight" in look(tmp_path, used)[0]["others"]
