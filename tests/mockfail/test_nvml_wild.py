"""No call of NVML crashes its host: wild handles, empty buffers, readings of any size."""

import json
import random
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping

import pytest

from mockfail.native import build
from mockfail.nodes import node
from mockfail.properties import PROPERTIES
from mockfail.state import Override, State, When
from tests.mockfail.programs import built

WILD = """
import ctypes, faulthandler, itertools, json, sys
faulthandler.enable()
lib = ctypes.CDLL("libnvidia-ml.so.1")
lib.nvmlInit_v2()
device = ctypes.c_void_p()
lib.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(device))
handles = [device, ctypes.c_void_p(0), ctypes.c_void_p(0x1000)]
calls = 0
for name, kinds in json.loads(sys.stdin.read()):
    choices = []
    for kind in kinds:
        if kind == "handle": choices.append(handles)
        elif kind == "pointer": choices.append([ctypes.create_string_buffer(1 << 16), None])
        else: choices.append([0, 1, 7, 32])
    for arguments in itertools.islice(itertools.product(*choices), 300):
        getattr(lib, name)(*arguments)
        calls += 1
print(calls)
"""


def signatures() -> list[tuple[str, list[str]]]:
    """Return every exported function, ours with the kinds of their arguments."""
    text = (build.HERE / "nvml_answers.h").read_text()
    ours = {}
    for name, arguments in re.findall(r"ANSWER\((\w+), ([^)]*)\)", text):
        kinds = []
        for argument in arguments.split(", "):
            handle = argument in ("nvmlDevice_t", "nvmlEventSet_t")
            kinds.append("handle" if handle else "pointer" if "*" in argument else "number")
        ours[name] = kinds
    names = (build.HERE / "nvml_symbols.txt").read_text().split()
    left_out = ("nvmlInit", "nvmlShutdown")
    return [
        (name, ours.get(name, ["handle", "pointer", "pointer", "pointer"]))
        for name in names
        if not name.startswith(left_out)
    ]


def call_all(environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WILD],
        input=json.dumps(signatures()), env=environment, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 2000


def test_no_function_crashes_on_empty_buffers_and_wild_handles(mock):
    mock.write(State(node("h100x2"), mode="standalone"))
    call_all(mock.environment())


@pytest.fixture(scope="module")
def sanitized() -> dict[str, str]:
    """The library under the address and undefined-behaviour sanitizers, as the loader wants it."""
    options = "-g -fsanitize=address,undefined -fno-sanitize-recover=all"
    with pytest.MonkeyPatch.context() as patch:
        command = [*build.compiler(), *options.split()]
        patch.setenv("CC", shlex.join(command))
        try:
            library = built(
                "libnvidia-ml.so.1", [], ["sanitized"],
                lambda target: build.compile_library("nvml", target),
            )  # fmt: skip
        except build.CompilerError as error:
            missing = re.search(r"cannot find.*|unsupported option.*", str(error))
            if missing is None:
                raise
            pytest.skip(f"no sanitizers here: {missing[0]}")
    runtimes = [
        subprocess.run(
            [command[0], f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    return {
        "LD_PRELOAD": ":".join([*runtimes, str(library)]),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
    }


ANY_NUMBER = (0, 1, -1, 97, 2**31, 2**32, 2**63 - 1, -(2**63), -(2**63) + 1)
DECISIVE = ("hang_ms", "lost", "reset_required", "hidden")
"""Readings that keep every other one from being asked for."""


def wild_faults(seed: int) -> tuple[Override, ...]:
    chance = random.Random(seed)
    values = {"bool": (True, False), "int": ANY_NUMBER, "str": ("", "x" * 95, "zz:zz", ":::")}
    return tuple(
        Override(
            scope, entry.name, chance.choice(values[entry.type]), 0,
            link=chance.randrange(18) if scope == "link" else None,
            when=When(ramp_s=chance.choice((0.0, 0.0, 1e6)) if entry.type == "int" else 0.0),
        )
        for scope in ("gpu", "link")
        for entry in PROPERTIES[scope]
        if entry.name not in DECISIVE
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_no_reading_is_too_wild_for_any_function(mock, real_driver, sanitized, seed):
    mode, spec = ("overlay", "t4") if seed % 2 else ("standalone", "h100")
    path = str(real_driver.library) if mode == "overlay" else None
    faults = wild_faults(seed)
    mock.write(State(node(spec), mode=mode, overrides=faults, real_library=path))
    call_all(mock.environment(**real_driver.environment) | sanitized)
