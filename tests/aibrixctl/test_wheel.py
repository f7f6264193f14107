"""What an installed wheel holds, and that its packages get in nobody's way."""

import ctypes
import os
import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def copy_tree(target: Path) -> Path:
    """Copy what a clone would hold, and what is about to be added."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((ROOT / name).read_bytes())
    return target


def build_wheel(tree: Path, folder: Path, **environment: str) -> Path:
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    command += ["--wheel-dir", str(folder), str(tree)]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | environment)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    tree = copy_tree(tmp_path_factory.mktemp("tree") / "source")
    return zipfile.ZipFile(build_wheel(tree, tmp_path_factory.mktemp("wheel")))


def test_wheel_holds_man_pages_schemas_and_data(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for page in (ROOT / "man").glob("*.1"):
        assert any(name.endswith(f"share/man/man1/{page.name}") for name in names)
    for schema in (ROOT / "aibrixctl" / "schemas").glob("*.json"):
        assert f"aibrixctl/schemas/{schema.name}" in names
    for data in (ROOT / "accelerators" / "data").glob("*.toml"):
        assert f"accelerators/data/{data.name}" in names
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in names)


def test_packages_shadow_nothing(wheel: zipfile.ZipFile) -> None:
    ours = {name.split("/")[0] for name in wheel.namelist() if name.endswith("/__init__.py")}
    libraries = {
        "accelerators",
        "cluster",
        "profiler",
        "optimizer",
        "diagnose",
        "mockfail",
        "kvpool",
    }
    assert ours == {"aibrixctl", *libraries}
    assert not ours & sys.stdlib_module_names
    owners = packages_distributions()
    for package in ours:
        assert set(owners.get(package, [])) <= {"aibrixctl"}


def test_wheel_holds_the_native_libraries(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """They stand beside the code, for any Python 3, and load as they are."""
    assert wheel.filename is not None
    assert "-py3-none-linux_" in wheel.filename
    for name in ("libnvidia-ml.so.1", "libdcmi.so"):
        ctypes.CDLL(wheel.extract(f"mockfail/native/{name}", tmp_path))


def test_without_a_compiler_all_but_mock_fail_is_installed(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "source")
    made = build_wheel(tree, tmp_path / "wheel", CC="/nowhere/cc")
    names = zipfile.ZipFile(made).namelist()
    assert "aibrixctl/__main__.py" in names
    assert not any(".so" in Path(name).suffixes for name in names)
