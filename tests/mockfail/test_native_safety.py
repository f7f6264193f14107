"""What the native library does to programs that never asked for it: nothing."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mockfail import native, state_file
from mockfail.errors import MockError
from mockfail.native import FILES, build, generate
from mockfail.nodes import node
from mockfail.state import Call, State
from tests.mockfail.programs import (
    HERE,
    MockFolder,
    built,
    compile_program,
    requires_no_driver,
)

CLIENTS = HERE / "clients"
LIBRARIES = [build.HERE / file for file in FILES.values()]
ONE = State(node("a10x1"), "standalone", calls=(Call("nvmlDeviceGetCount_v2", error=77),))


def shared(folder: Path, name: str, source: str, *options: str) -> Path:
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [*build.compiler(), "-shared", "-fPIC", *options, str(CLIENTS / source)]
    subprocess.run([*command, "-o", str(target)], check=True)
    return target


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} (binutils) is not here")
    return found


def told(name: str, *words: str | Path) -> str:
    command = [tool(name), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda path: path.name)
class TestObject:
    def test_exports_the_functions_and_nothing_else(self, library: Path) -> None:
        kind = "nvml" if "nvidia" in library.name else "dcmi"
        exported = set(
            re.findall(r" [TRD] (\w+)$", told("nm", "-D", "--defined-only", library), re.M)
        )
        assert exported == {*generate.symbols(kind), "dlopen", "dlmopen", "aibrixctl_mock"}

    def test_runs_on_glibc_2_17(self, library: Path) -> None:
        versions = re.findall(r"GLIBC_([\d.]+)", told("objdump", "-T", library))
        assert versions
        assert max(tuple(map(int, version.split("."))) for version in versions) <= (2, 17)

    def test_needs_the_c_library_and_no_driver(self, library: Path) -> None:
        dynamic = told("readelf", "-dW", library)
        assert set(re.findall(r"NEEDED\).*\[(.*)\]", dynamic)) <= {"libc.so.6", "libdl.so.2"}
        assert re.search(rf"SONAME\).*\[{re.escape(library.name)}\]", dynamic)
        assert "RPATH" not in dynamic and "RUNPATH" not in dynamic and "TEXTREL" not in dynamic

    def test_is_hardened(self, library: Path) -> None:
        headers = told("readelf", "-lW", library)
        assert re.search(r"GNU_STACK.* RW ", headers)
        assert "GNU_RELRO" in headers
        assert "BIND_NOW" in told("readelf", "-dW", library)


@pytest.mark.parametrize("library", FILES)
def test_compiles_without_a_warning(library: str) -> None:
    strict = ["-Werror"]
    assert built(
        FILES[library], [], [library, *strict],
        lambda target: build.compile_library(library, target, extra=strict),
    ).exists()  # fmt: skip


@pytest.mark.parametrize(
    "command",
    [
        ["/bin/true"],
        ["/bin/sh", "-c", "echo $0 | cat"],
        [
            sys.executable,
            "-c",
            "import sqlite3, ssl, ctypes, decimal; print(sqlite3.sqlite_version)",
        ],
        [sys.executable, "-c", "import numpy; print(numpy.ones(3).sum())"],
    ],
    ids=["true", "pipe", "extensions", "numpy"],
)
def test_programs_that_never_touch_nvml_run_as_ever(mock: MockFolder, command: list[str]) -> None:
    """The state is noise, which any reader would complain about: none of them reads it."""
    mock.state.write_bytes(b"noise")
    plain = subprocess.run(command, capture_output=True, text=True, check=False)
    under = mock.run(*command)
    assert (under.returncode, under.stdout, under.stderr) == (
        plain.returncode,
        plain.stdout,
        plain.stderr,
    )


ASK_PLUGINS = """
import ctypes, sys
plugins = [ctypes.CDLL(path, mode=int(sys.argv[1])) for path in sys.argv[2:]]
for plugin in plugins:
    plugin.plugin_name.restype = ctypes.c_char_p
    print(plugin.plugin_name().decode(), plugin.nvmlPluginPrivate())
"""


@pytest.mark.parametrize("mode", [os.RTLD_LOCAL, os.RTLD_LOCAL | os.RTLD_DEEPBIND])
def test_plugins_with_equal_names_keep_their_own(mock: MockFolder, mode: int) -> None:
    mock.write(ONE)
    paths = [
        shared(mock.folder, f"{name}.so", "plugin.c", f'-DNAME="{name}"')
        for name in ("anna", "otto")
    ]
    said = mock.run(sys.executable, "-c", ASK_PLUGINS, str(mode), *paths)
    assert said.stdout.split() == ["anna", str(ord("a")), "otto", str(ord("o"))], said.stderr


def test_a_library_finds_others_by_its_own_runpath(mock: MockFolder) -> None:
    """Who calls dlopen from its own place would search in that place, and break this."""
    mock.write(ONE)
    shared(mock.folder, "inner/libinner-of-test.so", "plugin.c", '-DNAME="inner"')
    outer = shared(
        mock.folder, "libouter.so", "outer.c", "-Wl,-rpath,$ORIGIN/inner", "-Wl,--enable-new-dtags"
    )
    ask = "import ctypes, sys; o = ctypes.CDLL(sys.argv[1]); o.inner_name.restype = ctypes.c_char_p"
    said = mock.run(sys.executable, "-c", f"{ask}; print(o.inner_name().decode())", outer)
    assert said.stdout == "inner\n", said.stderr


def test_libraries_with_names_like_ours_are_left_alone(mock: MockFolder) -> None:
    mock.write(ONE)
    for name in (
        "libnvidia-ml-extra.so",
        "libnvidia-ml.so.old",
        "mylibnvidia-ml.so.1",
        "libdcmi2.so",
    ):
        path = shared(mock.folder, name, "plugin.c", '-DNAME="other"')
        said = mock.run(sys.executable, "-c", ASK_PLUGINS, "0", path)
        assert said.stdout.split()[:1] == ["other"], said.stderr


def test_without_a_mock_the_named_library_is_opened(mock: MockFolder) -> None:
    """No state: an absolute path means the file that it names."""
    path = shared(mock.folder, "libnvidia-ml.so.1", "plugin.c", '-DNAME="real"')
    said = mock.run(sys.executable, "-c", ASK_PLUGINS, "0", path)
    assert said.stdout.split()[:1] == ["real"], said.stderr


def client(mock: MockFolder) -> subprocess.CompletedProcess[str]:
    program = compile_program("client", CLIENTS / "client.c", ["-ldl"])
    return subprocess.run(
        [str(program), "libnvidia-ml.so.1"],
        env=mock.environment(), input="\n", capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


@requires_no_driver
def test_without_a_mock_and_a_driver_there_is_no_nvml(mock: MockFolder) -> None:
    said = client(mock)
    assert (said.returncode, said.stdout, said.stderr) == (0, "12\n", "")


@pytest.mark.parametrize(
    ("state", "cause"),
    [
        (b"noise", "is not one"),
        (state_file.encode(ONE)[:-5], "damaged"),
        (state_file.encode(ONE)[:8] + b"\x09" + state_file.encode(ONE)[9:], "another version"),
    ],
)
def test_a_malformed_state_passes_through_and_says_so_once(
    mock: MockFolder, state: bytes, cause: str
) -> None:
    mock.state.write_bytes(state)
    said = client(mock)
    assert said.stdout == "12\n"
    assert len(said.stderr.splitlines()) == 1
    assert cause in said.stderr


@pytest.mark.parametrize("kind", ["folder", "fifo", "device"])
def test_a_state_that_is_no_file_is_none(mock: MockFolder, kind: str) -> None:
    if kind == "folder":
        mock.state.mkdir()
    elif kind == "fifo":
        os.mkfifo(mock.state)
    else:
        mock.state.symlink_to("/dev/zero")
    assert client(mock).stdout == "12\n"


def hosted(mock: MockFolder, *words: str | Path) -> list[str]:
    program = compile_program("host", CLIENTS / "host.c", ["-ldl"])
    said = mock.run(program, *words)
    assert said.returncode == 0, (said.returncode, said.stdout, said.stderr)
    return said.stdout.split()


@pytest.mark.parametrize("what", ["", "close", "descriptors", "memory"])
def test_a_host_short_of_something_keeps_its_mock(mock: MockFolder, what: str) -> None:
    """It closes every descriptor, may open none, or gets no memory: the last state stays."""
    mock.write(ONE)
    assert hosted(mock, what) == ["0", "77", "77", "errno=77", "rings=0"]


def test_a_host_in_a_chroot_lives(mock: MockFolder, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may chroot")
    mock.write(ONE)
    assert hosted(mock, "chroot", tmp_path)[:2] == ["0", "77"]


def test_calls_from_a_signal_handler_in_the_middle_of_calls(mock: MockFolder) -> None:
    mock.write(ONE)
    assert hosted(mock, "signal") == ["0", "77", "77", "errno=77", "rings=1"]


def test_a_child_of_fork_goes_on(mock: MockFolder) -> None:
    mock.write(ONE)
    assert hosted(mock, "fork") == ["0", "77", "77"]


def test_a_setuid_program_hears_nobody_s_environment(mock: MockFolder) -> None:
    """It has our library by its own name; what the caller's variable names must not reach it."""
    if os.geteuid() != 0 or os.statvfs(mock.folder).f_flag & os.ST_NOSUID:
        pytest.skip("only root makes a program another user's, and not on a nosuid file system")
    mock.write(ONE)
    library = LIBRARIES[0]
    program = mock.folder / "linked"
    command = [*build.compiler(), "-DLINKED", str(CLIENTS / "client.c"), str(library)]
    command += [f"-Wl,-rpath,{library.parent}", "-o", str(program)]
    subprocess.run(command, check=True)
    assert linked(mock, program) == "0 77 0\n"
    os.chown(program, 65534, 65534)
    program.chmod(0o6755)
    assert linked(mock, program) == "12\n"


def linked(mock: MockFolder, program: Path) -> str:
    return subprocess.run(
        [str(program)], env=mock.environment(LD_PRELOAD=""), input="\n",
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


def test_other_preloaded_libraries_stay(tmp_path: Path) -> None:
    ours = [str(path) for path in native.library_paths()]
    made = native.preload_environment(tmp_path, {"LD_PRELOAD": "/a.so /b.so"})
    assert made["LD_PRELOAD"].split(":") == [*ours, "/a.so", "/b.so"]
    again = native.preload_environment(tmp_path, made)
    assert again["LD_PRELOAD"] == made["LD_PRELOAD"]


def test_libraries_that_were_not_compiled_are_an_error_that_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "_HERE", tmp_path)
    with pytest.raises(MockError, match="not compiled") as raised:
        native.library_paths()
    assert "-m mockfail.native" in raised.value.hint


def test_a_path_that_ld_preload_cannot_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spaced = tmp_path / "two words"
    shutil.copytree(build.HERE, spaced, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    monkeypatch.setattr(native, "_HERE", spaced)
    with pytest.raises(MockError, match="space or a colon"):
        native.preload_environment(tmp_path)
