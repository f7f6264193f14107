"""Man pages, help and schemas say what the commands are."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from shutil import which
from typing import Any

import jsonschema
import pytest
from syrupy.assertion import SnapshotAssertion

from aibrixctl import manpages, schemas
from aibrixctl.tree import function_of, leaves

ROOT = Path(__file__).parents[2]
PATHS = [path for path, _ in leaves()]


def test_man_pages_are_current() -> None:
    committed = {path.name: path.read_text() for path in (ROOT / "man").glob("*.1")}
    assert committed == manpages.pages(), "run `make man` and commit the result"


@pytest.mark.skipif(which("groff") is None, reason="groff draws man pages; it is not installed")
def test_man_pages_are_valid_roff() -> None:
    for path in sorted((ROOT / "man").glob("*.1")):
        done = subprocess.run(
            ["groff", "-man", "-Tutf8", "-ww", str(path)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == "", path.name


@pytest.mark.parametrize("path", PATHS)
def test_help_is_as_agreed(path: str, cli: Callable[..., Any], snapshot: SnapshotAssertion) -> None:
    outcome = cli(*path.split(), "--help")
    assert outcome.code == 0
    assert outcome.out == snapshot


@pytest.mark.parametrize("path", PATHS)
def test_help_shows_examples_of_the_command_itself(path: str) -> None:
    leaf = dict(leaves())[path]
    spec = function_of(leaf).spec
    assert spec.path == path
    assert spec.examples
    for example in spec.examples:
        assert re.search(rf"aibrixctl {path}( |$)", example.line)


@pytest.mark.parametrize("path", PATHS)
def test_every_command_has_a_schema(path: str) -> None:
    schema = schemas.get(path.replace(" ", "-"))
    jsonschema.Draft202012Validator.check_schema(schema)


def test_every_schema_is_valid_and_listed() -> None:
    for name, _ in schemas.names():
        jsonschema.Draft202012Validator.check_schema(schemas.get(name))
