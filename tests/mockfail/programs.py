"""A mock in a folder, programs compiled for tests, and a driver to lay a mock over."""

import ctypes.util
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from accelerators import mocked
from mockfail import native, state_file
from mockfail.native import build, generate
from mockfail.state import State

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
CORE = (
    "check.c",
    "values.c",
    "real.c",
    "cache.c",
    "gate.c",
    "redirect.c",
    "entry.S",
    "nvml_library.c",
)
BUILT = ROOT / ".make" / "test-native"  # kept between runs, under a digest of what went in


requires_no_driver = pytest.mark.skipif(
    ctypes.util.find_library("nvidia-ml") is not None, reason="this machine has NVIDIA's library"
)


def built(
    name: str, inputs: Sequence[Path], options: Sequence[str], make: Callable[[Path], None]
) -> Path:
    """Return a compiled file, made when its inputs or options have changed."""
    digest = hashlib.sha256(repr((name, options, build.compiler())).encode())
    everything = [*inputs, *build.HERE.glob("*.[chS]"), *build.HERE.glob("*.def")]
    everything += [
        *build.HERE.glob("*.txt"),
        *build.HERE.glob("*.py"),
        ROOT / "mockfail" / "properties.py",
    ]
    for path in sorted(everything):
        digest.update(path.read_bytes())
    target = BUILT / digest.hexdigest()[:16] / name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            make(Path(folder) / name)
            (Path(folder) / name).replace(target)
    return target


def compile_program(name: str, source: Path, options: Sequence[str] = ()) -> Path:
    """Compile a client in C."""

    def make(target: Path) -> None:
        command = [
            *build.compiler(),
            "-O1",
            "-g",
            "-Wall",
            str(source),
            *options,
            "-o",
            str(target),
        ]
        subprocess.run(command, check=True, capture_output=True, text=True)

    return built(name, [source], options, make)


def compile_core(name: str, source: Path, options: Sequence[str] = ()) -> Path:
    """Compile the native library's core into a program of its own."""

    def make(target: Path) -> None:
        generate.write(target.parent)
        core = [path for path in build.sources("nvml") if Path(path).name in CORE]
        command = [
            *build.compiler(), "-std=gnu11", "-O1", "-g", "-DMK_STAND_IN", f"-I{target.parent}",
            f"-I{build.HERE}", *options, str(source), *core, "-pthread", "-ldl", "-o", str(target),
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, text=True)

    return built(name, [source], options, make)


@dataclass(frozen=True)
class MockFolder:
    """A mock's folder; programs run under it see each newly written state within a second."""

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)  # for every program under it

    @property
    def state(self) -> Path:
        return mocked.Mock(self.folder).state

    def write(self, state: State) -> None:
        state_file.write(state, self.state)

    def environment(self, **more: str) -> dict[str, str]:
        environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
        return (
            environment | native.preload_environment(self.folder, {}) | {**self.variables, **more}
        )

    def run(self, *command: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(word) for word in command],
            env=self.environment(**more), capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def python(self, code: str, **more: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-c", code, **more)


@dataclass(frozen=True)
class RealDriver:
    """A stand-in for NVIDIA's library: our answers from a state of its own, under its own name."""

    library: Path
    folder: Path

    def write(self, state: State) -> None:
        state_file.write(state, self.folder / "state")

    @property
    def environment(self) -> dict[str, str]:
        return {"AIBRIXCTL_TEST_REAL_DIR": str(self.folder)}


def eventually(what: Callable[[], bool], *, within_s: float = 10.0) -> bool:
    """Poll until something holds; False when it never does."""
    deadline = time.monotonic() + within_s
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
