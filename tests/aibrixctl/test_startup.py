"""What a command imports before it has anything to do: nothing heavy."""

import json
import subprocess
import sys

import pytest

from aibrixctl.tree import leaves

HEAVY = {
    "asyncio", "highspy", "jsonschema", "matplotlib", "msgspec", "numpy", "orjson", "pandas",
    "psutil", "pulp", "redis", "requests", "rich.table", "scipy", "torch", "uvloop", "vllm",
    "yaml", "zmq",
}  # fmt: skip


def imported_by(*words: str) -> set[str]:
    program = (
        "import sys, json, io, contextlib\n"
        "from aibrixctl.app import run\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        f"    code = run({list(words)!r})\n"
        "print(json.dumps([code, sorted(sys.modules)]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    code, modules = json.loads(done.stdout)
    assert code == 0
    return set(modules)


def test_help_imports_nothing_heavy() -> None:
    modules = imported_by("--help")
    assert not modules & (HEAVY | {"importlib.metadata", "pydantic"})
    assert not any(name.startswith("aibrixctl.commands.") for name in modules)


@pytest.mark.parametrize("path", [path for path, _ in leaves()])
def test_help_of_a_command_imports_nothing_heavy(path: str) -> None:
    assert not imported_by(*path.split(), "--help") & HEAVY
