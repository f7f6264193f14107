"""The native library under C and Go clients: ways to reach it, modes, changes while it runs."""

import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from mockfail import state_file
from mockfail.native import FILES, build
from mockfail.nodes import node
from mockfail.state import Call, Override, State, Value, When
from tests.mockfail.obtain import c_client, go_client, obtained
from tests.mockfail.programs import (
    HERE,
    MockFolder,
    RealDriver,
    built,
    compile_program,
    eventually,
    requires_no_driver,
)  # fmt: skip

CLIENTS = HERE / "clients"
TWO = State(node("a10x2"), "standalone")
FIRST, SECOND = (str(gpu.values["temperature_c"]) for gpu in TWO.node.gpus)
HEALTHY = f"0 0 2 {FIRST} {SECOND}"
REAL = [str(gpu.values["temperature_c"]) for gpu in node("a100-80gx2").gpus]
DEAD = "12"  # what nvmlInit gives without a driver


def hot(value: Value = 97, gpu: int = 0, name: str = "temperature_c") -> Override:
    return Override("gpu", name, value, gpu)


def with_faults(state: State, *overrides: Override) -> State:
    return replace(state, overrides=overrides)


class Reader:
    """A client that keeps running; each read is a whole init cycle."""

    def __init__(self, process: subprocess.Popen[str]):
        self.process = process

    def read(self) -> str:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().rstrip("\n")

    def reads(self, wanted: str, *, within_s: float = 10.0) -> bool:
        return eventually(lambda: self.read() == wanted, within_s=within_s)


@contextmanager
def running(mock: MockFolder, *command: str | Path, **more: str) -> Iterator[Reader]:
    with subprocess.Popen(
        [str(word) for word in command],
        env=mock.environment(**more), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            yield Reader(process)
        finally:
            process.kill()


@pytest.fixture(scope="session")
def client() -> Path:
    return c_client()


@pytest.fixture(scope="session")
def linked(real_library: Path) -> Path:
    """A client linked against a driver in a folder of its own, as a distribution would."""
    options = ["-DLINKED", str(real_library), f"-Wl,-rpath,{real_library.parent}"]
    return compile_program("client-linked", CLIENTS / "client.c", options)


# ---- every way to the library -----------------------------------------------------------------


WAYS = ["name", "development name", "absolute path", "deepbind", "namespace"]


@pytest.mark.parametrize("way", WAYS)
def test_a_client_that_opens_the_library_gets_the_mock(
    mock: MockFolder, client: Path, real_library: Path, way: str
) -> None:
    mock.write(with_faults(TWO, hot(gpu=1)))
    words = {
        "name": ["libnvidia-ml.so.1"],
        "development name": ["libnvidia-ml.so"],
        "absolute path": [real_library],
        "deepbind": [real_library, "deep"],
        "namespace": [real_library, "apart"],
    }[way]
    with running(mock, client, *words) as reader:
        assert reader.read() == f"0 0 2 {FIRST} 97"


def test_a_linked_client_gets_the_mock(mock: MockFolder, linked: Path) -> None:
    mock.write(with_faults(TWO, hot(gpu=1)))
    with running(mock, linked) as reader:
        assert reader.read() == f"0 0 2 {FIRST} 97"


def test_a_go_client_gets_the_mock(mock: MockFolder) -> None:
    program = obtained(go_client)
    mock.write(with_faults(TWO, hot(gpu=1)))
    with running(mock, program, "libnvidia-ml.so.1") as reader:
        assert reader.read() == f"0 0 2 {FIRST} 97"


def test_children_of_a_program_are_under_the_mock_too(mock: MockFolder, client: Path) -> None:
    mock.write(TWO)
    said = mock.run("/bin/sh", "-c", f"echo | sh -c '{client} libnvidia-ml.so.1'")
    assert said.stdout == f"{HEALTHY}\n"


# ---- changes while programs run ---------------------------------------------------------------


@pytest.fixture
def reader(mock: MockFolder, client: Path) -> Iterator[Reader]:
    mock.write(TWO)
    with running(mock, client, "libnvidia-ml.so.1") as reader:
        assert reader.read() == HEALTHY
        yield reader


def test_a_change_is_seen_within_a_second_and_so_is_its_end(
    mock: MockFolder, reader: Reader
) -> None:
    for value in ("97", FIRST, "98"):
        mock.write(with_faults(TWO, hot(int(value))))
        assert reader.reads(f"0 0 2 {value} {SECOND}", within_s=1.0)


def test_a_mock_that_is_gone_leaves_a_machine_without_driver(
    mock: MockFolder, reader: Reader
) -> None:
    mock.state.unlink()
    assert reader.reads(DEAD)
    mock.write(TWO)
    assert reader.reads(HEALTHY)


def test_a_mock_expires_by_itself(mock: MockFolder, reader: Reader) -> None:
    mock.write(replace(TWO, expires_s=time.clock_gettime(time.CLOCK_BOOTTIME) + 0.3))
    assert reader.reads(DEAD)
    assert mock.state.exists()


def test_a_writer_killed_at_any_moment_leaves_a_whole_state(
    mock: MockFolder, reader: Reader
) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.mockfail.test_native_core import *\n"
        "for n in range(10**9):\n"
        "    state_file.write(with_faults(TWO, hot(100 + n % 100)), Path(sys.argv[1]))\n"
        "    print(n, flush=True)"
    )
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", code, str(mock.state)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout
            writer.stdout.readline()
            for _ in range(10):
                assert reader.read().startswith("0 0 2 1")
            writer.send_signal(signal.SIGKILL)
        state_file.read(mock.state)
        assert reader.read().startswith("0 0 2 1")


# ---- faults of devices, of init and of calls ---------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        (hot(True, name="lost"), f"0 0 2 !15 {SECOND}"),
        (hot(True, 1, "reset_required"), f"0 0 2 {FIRST} !16"),
        (Override("node", "init_error", 9), "9"),
        (Override("node", "init_error", 0), HEALTHY),
    ],
)
def test_faults_of_devices_and_of_init(
    mock: MockFolder, reader: Reader, fault: Override, seen: str
) -> None:
    mock.write(with_faults(TWO, fault))
    assert reader.reads(seen)
    mock.write(TWO)
    assert reader.reads(HEALTHY)


@pytest.mark.parametrize(
    ("call", "seen"),
    [
        (Call("nvmlDeviceGetTemperature", 1, 3), f"0 0 2 {FIRST} !3"),
        (Call("nvmlDeviceGetTemperature", None, 4), "0 0 2 !4 !4"),
        (Call("nvmlDeviceGetTemperature", 5, 3), HEALTHY),
        (Call("nvmlDeviceGetCount_v2", error=999), "0 999 0"),
        (Call("nvmlInit_v2", error=18), "18"),
        (Call("dcmi_init", error=18), HEALTHY),
    ],
)
def test_faults_of_calls(mock: MockFolder, reader: Reader, call: Call, seen: str) -> None:
    mock.write(replace(TWO, calls=(call,)))
    assert reader.reads(seen)


def test_a_call_fails_after_so_many_of_its_own_kind(mock: MockFolder, client: Path) -> None:
    """A rewritten state goes on counting, as long as the fault is the same."""
    third = Call("nvmlDeviceGetTemperature", 0, 15, when=When(after_calls=3))
    mock.write(replace(TWO, calls=(third,)))
    with running(mock, client, "libnvidia-ml.so.1") as reader:
        seen = [reader.read().split()[3] for _ in range(2)]
        mock.write(replace(with_faults(TWO, hot(98, 1)), calls=(third,)))
        assert eventually(lambda: reader.read().split()[4] == "98")
        assert [*seen, reader.read().split()[3]] == [FIRST, FIRST, "!15"]


def test_chance_repeats_with_the_same_seed(mock: MockFolder, client: Path) -> None:
    rare = Call("nvmlDeviceGetTemperature", None, 15, when=When(probability=0.3))
    mock.write(replace(TWO, calls=(rare,)))
    runs = []
    for seed in ("7", "7", "8"):
        with running(mock, client, "libnvidia-ml.so.1", AIBRIXCTL_MOCK_SEED=seed) as reader:
            runs.append([reader.read() for _ in range(40)])
    assert runs[0] == runs[1] != runs[2]
    failed = " ".join(runs[0]).count("!15")
    assert 8 <= failed <= 40  # of 80, 24 expected


@pytest.mark.parametrize(
    "state",
    [
        with_faults(TWO, hot(60_000, 0, "hang_ms")),
        with_faults(TWO, Override("node", "init_hang_ms", 60_000)),
        replace(TWO, calls=(Call("nvmlDeviceGetTemperature", 0, hang_ms=60_000),)),
    ],
    ids=["device", "init", "call"],
)
def test_a_hung_call_goes_on_when_its_fault_is_cleared(
    mock: MockFolder, client: Path, state: State
) -> None:
    mock.write(state)
    with running(mock, client, "libnvidia-ml.so.1") as reader:
        assert reader.process.stdin and reader.process.stdout
        reader.process.stdin.write("\n")
        reader.process.stdin.flush()
        assert select.select([reader.process.stdout], [], [], 0.3)[0] == []
        mock.write(TWO)
        started = time.monotonic()
        assert reader.process.stdout.readline() == f"{HEALTHY}\n"
        assert time.monotonic() - started < 5


def test_a_hung_call_ends_after_its_time(mock: MockFolder, client: Path) -> None:
    mock.write(with_faults(TWO, hot(300, 0, "hang_ms")))
    with running(mock, client, "libnvidia-ml.so.1") as reader:
        started = time.monotonic()
        assert reader.read() == HEALTHY
        assert 0.3 <= time.monotonic() - started < 10


# ---- over a real driver -------------------------------------------------------------------------


def laid_over(driver: RealDriver, *overrides: Override, mode: str = "overlay") -> State:
    return State(
        node("h100x8"),
        mode,
        overrides,
        real_library=str(driver.library),  # type: ignore[arg-type]
    )


@pytest.fixture
def over(
    mock: MockFolder, client: Path, real_driver: RealDriver
) -> Iterator[Callable[[State], Reader]]:
    """Start a client under a state, on a machine with the driver."""
    stack = []

    def start(state: State) -> Reader:
        mock.write(state)
        context = running(mock, client, "libnvidia-ml.so.1", **real_driver.environment)
        stack.append(context)
        return context.__enter__()

    yield start
    for context in stack:
        context.__exit__(None, None, None)


@pytest.mark.parametrize("mode", ["overlay", "auto"])
def test_an_overlay_shows_the_driver_s_gpus_but_for_its_faults(
    mock: MockFolder, over: Callable[[State], Reader], real_driver: RealDriver, mode: str
) -> None:
    reader = over(laid_over(real_driver, mode=mode))
    assert reader.read() == f"0 0 2 {REAL[0]} {REAL[1]}"
    mock.write(laid_over(real_driver, hot(gpu=1), mode=mode))
    assert reader.reads(f"0 0 2 {REAL[0]} 97")
    mock.write(laid_over(real_driver, hot(True, 0, "lost"), mode=mode))
    assert reader.reads(f"0 0 2 !15 {REAL[1]}")
    mock.state.unlink()
    assert reader.reads(f"0 0 2 {REAL[0]} {REAL[1]}")


def test_standalone_hides_the_driver(
    over: Callable[[State], Reader], real_driver: RealDriver
) -> None:
    reader = over(laid_over(real_driver, mode="standalone"))
    assert reader.read().startswith("0 0 8 ")


def test_a_driver_s_own_change_shows_through(
    over: Callable[[State], Reader], real_driver: RealDriver
) -> None:
    reader = over(laid_over(real_driver, hot(gpu=1)))
    assert reader.read() == f"0 0 2 {REAL[0]} 97"
    real = State(node("a100-80gx2"), "standalone", (hot(55, 0), hot(56, 1)))
    real_driver.write(real)
    assert reader.reads("0 0 2 55 97")


def test_the_driver_is_found_on_the_library_path(
    mock: MockFolder, client: Path, real_driver: RealDriver
) -> None:
    mock.write(State(node("h100x8"), "overlay", (hot(gpu=1),)))
    more = {**real_driver.environment, "LD_LIBRARY_PATH": f"/nowhere:{real_driver.library.parent}"}
    with running(mock, client, "libnvidia-ml.so.1", **more) as reader:
        assert reader.read() == f"0 0 2 {REAL[0]} 97"


def test_the_driver_is_found_where_ldconfig_saw_it(
    mock: MockFolder, client: Path, real_driver: RealDriver
) -> None:
    """A build of ours that reads another list than the machine's."""
    if shutil.which("ldconfig", path="/sbin:/usr/sbin") is None:
        pytest.skip("no ldconfig here")
    (mock.folder / "conf").write_text(f"{real_driver.library.parent}\n")
    words = ["-C", str(mock.folder / "ld.so.cache"), "-f", str(mock.folder / "conf"), "-X"]
    subprocess.run(["/sbin/ldconfig", *words], check=True, capture_output=True)
    flag = '-DMK_LOADER_CACHE="ld.so.cache"'  # in the client's working folder
    library = built(
        "libnvidia-ml.so.1", [], [flag],
        lambda target: build.compile_library("nvml", target, extra=[flag]),
    )  # fmt: skip
    mock.write(State(node("h100x8"), "overlay", (hot(gpu=1),)))
    environment = mock.environment(LD_PRELOAD=str(library), **real_driver.environment)
    said = subprocess.run(
        [str(client), "libnvidia-ml.so.1"],
        env=environment, cwd=mock.folder, input="\n", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout == f"0 0 2 {REAL[0]} 97\n"


def test_our_own_copy_is_never_taken_for_the_driver(mock: MockFolder, client: Path) -> None:
    copy = mock.folder / "libnvidia-ml.so.1"
    shutil.copy(build.HERE / "libnvidia-ml.so.1", copy)
    mock.write(replace(TWO, mode="auto", real_library=str(copy)))
    with running(mock, client, "libnvidia-ml.so.1") as reader:
        assert reader.read() == HEALTHY


def test_a_machine_of_npus_alone_has_no_nvml(mock: MockFolder, client: Path) -> None:
    mock.write(State(node("910bx8"), "standalone"))
    with running(mock, client, "libnvidia-ml.so.1") as reader:
        assert reader.read() == DEAD


@requires_no_driver
def test_an_overlay_without_a_driver_says_so(mock: MockFolder, client: Path) -> None:
    mock.write(State(node("h100x8"), "overlay", (hot(),)))
    with running(mock, client, "libnvidia-ml.so.1") as reader:
        assert [reader.read(), reader.read()] == [DEAD, DEAD]
        assert reader.process.stdin and reader.process.stderr
        reader.process.stdin.close()
        assert "the real library can't be opened" in reader.process.stderr.read()


# ---- another processor --------------------------------------------------------------------------


def aarch64_library(library: str) -> Path:
    strict = ["-Werror"]
    return built(
        FILES[library], [], [library, *strict],
        lambda target: build.compile_library(library, target, extra=strict),
    )  # fmt: skip


def test_the_sources_build_and_run_on_aarch64(
    mock: MockFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = "aarch64-linux-gnu-gcc"
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler} here (Debian: gcc-aarch64-linux-gnu)")
    monkeypatch.setenv("CC", compiler)
    libraries = [aarch64_library(library) for library in FILES]
    client = compile_program("client-aarch64", CLIENTS / "client.c", ["-ldl"])
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("it builds; no qemu-aarch64 here to run it (Debian: qemu-user)")
    mock.write(with_faults(TWO, hot(gpu=1)))
    preload = ":".join(map(str, libraries))
    said = subprocess.run(
        ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", "-E", f"LD_PRELOAD={preload}",
         "-E", f"AIBRIXCTL_MOCK_DIR={mock.folder}", str(client), "/usr/lib/libnvidia-ml.so.1"],
        input="\n", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.stdout == f"0 0 2 {FIRST} 97\n", said.stderr
