"""Configuration: which value wins, and where it came from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aibrixctl.command import session


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


def test_common_options_come_from_variables(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIBRIXCTL_OUTPUT_FILE", "out.txt")
    assert cli("schema", "list").out == ""
    assert Path("out.txt").read_text().startswith("NAME")
    monkeypatch.setenv("AIBRIXCTL_VERBOSE", "2")
    cli("schema", "list")
    assert session().reporter.verbosity == 2


def test_show_tells_of_variables_that_mean_nothing_and_keeps_secrets(
    cli: Callable[..., Any], cli_json: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "nothing is set" in cli("config", "show").out
    monkeypatch.setenv("AIBRIXCTL_PROFILE_LOAD_BASE_UR", "http://127.0.0.1:1")
    monkeypatch.setenv("AIBRIXCTL_REDIS_PASSWORD", "hunter2")
    outcome = cli("config", "show", "--origin")
    assert "did you mean AIBRIXCTL_PROFILE_LOAD_BASE_URL?" in outcome.err
    assert "hunter2" not in outcome.out + outcome.err
    (warning,) = cli_json("config", "show")["warnings"]
    assert warning["target"] == "AIBRIXCTL_PROFILE_LOAD_BASE_UR"


def test_a_user_without_a_home_has_no_file_there(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(number: int) -> None:
        raise KeyError(number)

    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert cli("config", "show").code == 0


def test_a_closed_folder_holds_no_configuration(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(path: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.stat", closed)
    codes = [cli("schema", "list").code]
    monkeypatch.undo()
    assert codes == [0]
