"""Programs of others that tests put under a mock: made once, shared by all workers, never shipped.

Each lies below ``.make`` until what it is made from changes. Where it can't be had (no network, no
apt), tests that need it skip with the reason, which is asked for again after a while.
"""

import fcntl
import hashlib
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mockfail.programs import BUILT, HERE, ROOT, built, compile_program

MAKE = ROOT / ".make"
REQUIREMENTS = HERE / "clients" / "requirements.txt"
DEBIAN_CLIENTS = ROOT / "tools" / "debian-clients"
_TRY_AGAIN_S = 600
_LIMIT_S = 240


class UnobtainableError(Exception):
    """A client can't be had here; the message says why."""


def made_once(name: str, inputs: list[Path], make: Callable[[Path], None]) -> Path:
    """Return a folder below ``.make``, made anew when an input or the Python has changed."""
    digest = hashlib.sha256(sys.version.encode())
    for path in inputs:
        digest.update(path.read_bytes())
    MAKE.mkdir(exist_ok=True)
    folder, stamp = MAKE / name, MAKE / f"{name}.made"
    failed = MAKE / f"{name}.failed"
    with (MAKE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == digest.hexdigest():
            return folder
        if failed.exists() and time.time() - failed.stat().st_mtime < _TRY_AGAIN_S:
            raise UnobtainableError(failed.read_text())
        stamp.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            make(folder)
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", None) or str(error)
            reason = f"{name} can't be had: {str(said).strip().splitlines()[-1]}"
            failed.write_text(reason)
            raise UnobtainableError(reason) from error
        failed.unlink(missing_ok=True)
        stamp.write_text(digest.hexdigest())
    return folder


def _run(*command: str | Path) -> None:
    words = [str(word) for word in command]
    subprocess.run(words, check=True, capture_output=True, text=True, timeout=_LIMIT_S)


def python_clients() -> Path:
    """Return the ``bin`` of an environment with the clients from PyPI.

    Raises:
        UnobtainableError: pip can't install them.
    """

    def make(folder: Path) -> None:
        _run(sys.executable, "-m", "venv", folder)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--retries", "1"]
        _run(*pip, "--disable-pip-version-check", "--requirement", REQUIREMENTS)

    return made_once("clients", [REQUIREMENTS], make) / "bin"


def debian_clients() -> Path:
    """Return the root of a tree with the clients from Debian, contrib and non-free included.

    Raises:
        UnobtainableError: apt can't fetch them.
    """
    folder = made_once("debian-clients", [DEBIAN_CLIENTS], lambda to: _run(DEBIAN_CLIENTS, to))
    return folder / "unpacked"


def debian_libraries() -> str:
    """Return the LD_LIBRARY_PATH of the clients from Debian."""
    triple = f"{platform.machine()}-linux-gnu"
    root = debian_clients()
    return f"{root / 'usr/lib' / triple}:{root / 'lib' / triple}"


def c_client() -> Path:
    """Return the client in C that opens the library by a name it is given."""
    return compile_program("client", HERE / "clients" / "client.c", ["-ldl"])


def go_client() -> Path:
    """Return the client in Go.

    Raises:
        UnobtainableError: there is no Go compiler.
    """
    if shutil.which("go") is None:
        raise UnobtainableError("no Go compiler here (Debian: apt-get install golang-go)")
    source = HERE / "clients" / "client.go"

    def make(target: Path) -> None:
        variables = [f"GOCACHE={BUILT / 'go'}", "GO111MODULE=off"]
        _run("env", *variables, "go", "build", "-o", target, source)

    return built("client-go", [source], ["go"], make)


def obtained(obtain: Callable[[], Path]) -> Path:
    """Return what ``obtain`` gives; skip the test, with the reason, where it can't be had."""
    try:
        return obtain()
    except UnobtainableError as error:
        pytest.skip(str(error))
