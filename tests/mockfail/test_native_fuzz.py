"""Whatever stands in the state file, the host lives; and threads never see half a change."""

import os
import random
import re
import struct
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mockfail import state_file
from mockfail.nodes import node
from mockfail.state import Call, Event, Override, Process, State, When
from tests.mockfail.programs import HERE, compile_core

RICH = State(
    node("a100-80gx2,910bx1"),
    "standalone",
    overrides=(
        Override("gpu", "temperature_c", 97, 1, when=When(start_s=1.0, ramp_s=3.0)),
        Override("gpu", "temperature_c", 99, 1, when=When(probability=0.5)),
        Override("gpu", "name", "another", 0, when=When(after_calls=2)),
        Override("link", "active", False, 0, 3),
        Override("npu", "lost", True, 0),
    ),
    calls=(
        Call("nvmlDeviceGetName", 0, 15, when=When(after_calls=2)),
        Call("nvmlInit_v2", None, 9),
    ),
    events=(Event(0, 8, 79), Event(1, 8, 63, When(start_s=5.0))),
    processes={0: (Process(1, 2), Process(3, 4, True))},
    codes={0: (0x80E01801,)},
)
GOOD = state_file.encode(RICH)


def sanitized(kind: str) -> Path:
    """Compile the core under a sanitizer; skip where the compiler has none."""
    options = [f"-fsanitize={kind}", "-fno-sanitize-recover=all"]
    try:
        return compile_core(f"probe-{kind.replace(',', '-')}", HERE / "probe.c", options)
    except subprocess.CalledProcessError as error:
        missing = re.search(r"cannot find.*|unsupported option.*", error.stderr)
        if missing is None:
            raise
        pytest.skip(f"no -fsanitize={kind} here: {missing[0]}")


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[bytes], str]]:
    """Let a process under the address and undefined-behaviour sanitizers load these bytes."""
    folder = tmp_path_factory.mktemp("fuzz")
    with subprocess.Popen(
        [str(sanitized("address,undefined")), "load"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "AIBRIXCTL_TEST_REAL_DIR": str(folder)},
    ) as process:  # fmt: skip
        assert process.stdin and process.stdout and process.stderr
        stdin, stdout, stderr = process.stdin, process.stdout, process.stderr

        def give(data: bytes) -> str:
            (folder / "state").write_bytes(data)
            stdin.write(f"{folder / 'state'}\n")
            stdin.flush()
            answer = stdout.readline().strip()
            assert answer in ("good", "refused"), stderr.read()
            return answer

        yield give
        stdin.close()
        assert process.wait(10) == 0
        assert len(re.findall("the state file", stderr.read())) <= 3  # one line per cause


def sealed(data: bytes) -> bytes:
    """Give changed bytes a checksum that fits, so that the checks behind it are reached."""
    size = struct.pack("<Q", len(data))
    data = data[:16] + size + data[24:]
    return data[:28] + struct.pack("<I", zlib.crc32(data[32:])) + data[32:]


quick = settings(
    max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


def test_a_good_file_loads(load: Callable[[bytes], str]) -> None:
    assert load(GOOD) == "good"
    assert load(state_file.encode(RICH)) == "good"
    assert load(sealed(GOOD)) == "good"


@quick
@given(data=st.binary(max_size=300))
def test_noise_is_refused(load: Callable[[bytes], str], data: bytes) -> None:
    assert load(data) == "refused"
    assert load(GOOD[:112] + data) == "refused"


@quick
@given(
    changes=st.lists(
        st.tuples(st.integers(32, 600) | st.integers(32, len(GOOD) - 1), st.integers(0, 255)),
        min_size=1, max_size=4,
    )
)  # fmt: skip
def test_a_damaged_file_with_a_fitting_checksum_harms_nobody(
    load: Callable[[bytes], str], changes: Sequence[tuple[int, int]]
) -> None:
    data = bytearray(GOOD)
    for place, byte in changes:
        data[place] = byte
    load(sealed(bytes(data)))
    if bytes(data) != GOOD:
        assert load(bytes(data)) == "refused"


@quick
@given(
    place=st.integers(32, 112).map(lambda n: n & ~3),
    number=st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 17, 64, 65, 1024, 1025]),
    length=st.integers(0, len(GOOD)) | st.just(len(GOOD)),
)
def test_counts_that_lie_harm_nobody(
    load: Callable[[bytes], str], place: int, number: int, length: int
) -> None:
    data = GOOD[:place] + struct.pack("<I", number) + GOOD[place + 4 :]
    load(sealed(data[:length]) if length >= 112 else data[:length])


@quick
@given(place=st.integers(0, len(GOOD) // 8 - 1), number=st.integers(-(2**63), 2**63 - 1))
def test_numbers_of_any_size_harm_nobody(
    load: Callable[[bytes], str], place: int, number: int
) -> None:
    """Times that overflow, places of texts far away, ramps from one end to the other."""
    if place * 8 >= 32:
        load(sealed(GOOD[: place * 8] + struct.pack("<q", number) + GOOD[place * 8 + 8 :]))


def hammered(program: Path, folder: Path, seconds: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(program), "hammer", str(seconds)],
        env={**os.environ, "AIBRIXCTL_TEST_REAL_DIR": str(folder)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def equal_temperatures(value: int) -> State:
    """Return a state whose two temperatures agree: who sees them differ saw half a change."""
    both = ("temperature_c", "memory_temperature_c")
    return State(node("a10x1"), "standalone", tuple(Override("gpu", n, value) for n in both))


@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_threads_and_forks_never_see_half_a_change(tmp_path: Path, sanitizer: str) -> None:
    path = tmp_path / "state"
    state_file.write(equal_temperatures(1), path)
    with hammered(sanitized(sanitizer), tmp_path, 2) as process:
        written = 1
        while process.poll() is None:
            written += 1
            state_file.write(equal_temperatures(written), path)
            time.sleep(0.02)
        output, errors = process.communicate()
    assert process.returncode == 0, output + errors
    assert output.startswith("0 broken")
    assert int(output.split()[2]) > 5  # the changes did arrive


def test_a_file_cut_and_overwritten_in_place_harms_nobody(tmp_path: Path) -> None:
    """No writer of ours does this; a full disk, an editor or a curious admin may."""
    path = tmp_path / "state"
    path.write_bytes(GOOD)
    rough = random.Random(1)
    with hammered(sanitized("address,undefined"), tmp_path, 2) as process:
        while process.poll() is None:
            with suppress(FileNotFoundError):
                os.truncate(path, rough.randrange(len(GOOD)))
            time.sleep(0.01)
            path.write_bytes(GOOD[: rough.randrange(len(GOOD))])
            time.sleep(0.01)
            path.unlink()
            path.write_bytes(GOOD)
            time.sleep(0.05)
        output, errors = process.communicate()
    assert process.returncode in (0, 1), output + errors
    assert "Sanitizer" not in errors
    assert len(errors.splitlines()) <= 3, errors
