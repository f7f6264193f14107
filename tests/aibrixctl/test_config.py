"""Configuration: which value wins, and where it came from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def user_file(tmp_path: Path) -> Path:
    path = tmp_path / "xdg" / "aibrixctl" / "config.toml"
    path.parent.mkdir(parents=True)
    return path


def test_each_layer_overrides_the_one_below(
    cli: Callable[..., Any], user_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_file.write_text('output = "csv"\n')
    assert cli("schema", "list").out.startswith("name,kind")
    Path("aibrixctl.toml").write_text('output = "yaml"\n')
    assert cli("schema", "list").out.startswith("command:")
    monkeypatch.setenv("AIBRIXCTL_OUTPUT", "jsonl")
    assert cli("schema", "list").out.startswith('{"kind"')
    assert cli("schema", "list", "-o", "json").out.startswith("{\n")


def test_command_options_come_from_their_table(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("aibrixctl.toml").write_text("[config.show]\norigin = true\n")
    assert "ORIGIN" in cli("config", "show").out
    Path("aibrixctl.toml").write_text("[config.show]\norigin = false\n")
    assert "ORIGIN" not in cli("config", "show").out
    monkeypatch.setenv("AIBRIXCTL_CONFIG_SHOW_ORIGIN", "1")
    assert "ORIGIN" in cli("config", "show").out


def test_show_names_every_origin(
    cli_json: Callable[..., Any], user_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_file.write_text('output = "csv"\n[profile.load]\nmodel = "m"\n')
    Path("aibrixctl.toml").write_text('[profile.load]\nmodel = "n"\n')
    monkeypatch.setenv("AIBRIXCTL_PROFILE_LOAD_BASE_URL", "http://127.0.0.1:1")
    rows = cli_json("config", "show", "--origin")["data"]["settings"]
    assert [(r["key"], r["value"], r["origin"], r["in_force"]) for r in rows] == [
        ("output", "csv", str(user_file), True),
        ("profile.load.base-url", "http://127.0.0.1:1", "$AIBRIXCTL_PROFILE_LOAD_BASE_URL", True),
        ("profile.load.model", "n", "aibrixctl.toml", True),
        ("profile.load.model", "m", str(user_file), False),
    ]


def test_unknown_key_names_file_and_neighbour(cli: Callable[..., Any]) -> None:
    Path("aibrixctl.toml").write_text('[profile.load]\nmodle = "m"\n')
    outcome = cli("schema", "list")
    assert outcome.code == 2
    assert "aibrixctl.toml" in outcome.err
    assert "did you mean 'profile.load.model'" in outcome.err


def test_broken_file_names_the_line(cli: Callable[..., Any]) -> None:
    Path("aibrixctl.toml").write_text('output = "json"\n[profile\n')
    outcome = cli("schema", "list")
    assert outcome.code == 2
    assert "line 2" in outcome.err
