"""Run commands as a user does, in this process."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from aibrixctl import schemas
from aibrixctl.app import run


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _plain_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No configuration, colour or signal handler of the machine reaches a test."""
    for name in list(os.environ):
        if name.startswith("AIBRIXCTL_") or name in ("NO_COLOR", "FORCE_COLOR"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.chdir(tmp_path)
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    def call(*words: str) -> Outcome:
        capfd.readouterr()
        code = run(list(words))
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    return call


@pytest.fixture
def cli_json(cli: Callable[..., Outcome]) -> Callable[..., dict[str, Any]]:
    def call(*words: str) -> dict[str, Any]:
        outcome = cli(*words, "-o", "json")
        body: dict[str, Any] = json.loads(outcome.out)
        name = body["schema"].removeprefix("aibrixctl/").removesuffix("/v1")
        jsonschema.Draft202012Validator(schemas.get(name)).validate(body)
        assert body["exit_code"] == outcome.code
        return body

    return call
