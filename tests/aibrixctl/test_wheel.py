"""What an installed wheel holds, and that its packages get in nobody's way."""

import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    tree = tmp_path_factory.mktemp("tree") / "source"
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", str(folder), str(tree)]
    subprocess.run(command, check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


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
    libraries = {"accelerators", "profiler", "optimizer", "diagnose", "mockfail", "kvpool"}
    assert ours == {"aibrixctl", *libraries}
    assert not ours & sys.stdlib_module_names
    owners = packages_distributions()
    for package in ours:
        assert set(owners.get(package, [])) <= {"aibrixctl"}
