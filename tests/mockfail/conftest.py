"""A mock's folder, a driver to lay it over, and the native libraries, compiled."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mockfail import native
from mockfail.native import FILES, build
from mockfail.nodes import node
from mockfail.properties import PROPERTIES, Scope
from mockfail.state import State
from tests.mockfail.programs import HERE, MockFolder, RealDriver, built, compile_core


@pytest.fixture(scope="session", autouse=True)
def libraries() -> tuple[Path, ...]:
    """The native libraries, compiled again when a source is newer."""
    for name, file in FILES.items():
        if not build.is_current(name):
            build.compile_library(name, build.HERE / file)
    return native.library_paths()


@pytest.fixture
def mock(tmp_path: Path) -> MockFolder:
    """A mock's folder without a state yet."""
    folder = tmp_path / "mock"
    folder.mkdir()
    return MockFolder(folder)


@pytest.fixture(scope="session")
def real_library() -> Path:
    """The stand-in's shared object; built from the same sources, without the redirect."""
    return built(
        "libnvidia-ml.so.1", [], ["stand-in"],
        lambda target: build.compile_library("nvml", target, extra=["-DMK_STAND_IN"]),
    )  # fmt: skip


@pytest.fixture
def real_driver(real_library: Path, tmp_path: Path) -> RealDriver:
    """A driver with two healthy GPUs: give a state ``real_library=str(driver.library)``."""
    driver = RealDriver(real_library, tmp_path / "driver")
    driver.folder.mkdir()
    driver.write(State(node("a100-80gx2"), mode="standalone"))
    return driver


@pytest.fixture
def asked(mock: MockFolder) -> Iterator[Callable[[str], str]]:
    """Ask the core in a running process, in the words of ``probe.c``."""
    program = compile_core("probe", HERE / "probe.c")
    environment = {**os.environ, "AIBRIXCTL_TEST_REAL_DIR": str(mock.folder)}
    with subprocess.Popen(
        [str(program), "read"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def ask(line: str) -> str:
            stdin.write(f"{line}\n")
            stdin.flush()
            return stdout.readline().strip()

        yield ask
        stdin.close()


@pytest.fixture
def probe(asked: Callable[[str], str]) -> Callable[..., str]:
    """Ask for a reading: ``probe("gpu", 0, "name")``."""
    letters: dict[Scope, str] = {"node": "n", "gpu": "g", "link": "l", "npu": "u"}

    def ask(scope: Scope, index: int, name: str, link: int = 0) -> str:
        place = [entry.name for entry in PROPERTIES[scope]].index(name)
        kind = PROPERTIES[scope][place].type[0]
        return asked(f"{letters[scope]} {index} {link} {place} {kind}")

    return ask
