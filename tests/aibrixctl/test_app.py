"""The frame that every command runs in: errors, streams, signals, files."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import which
from typing import Any

import jsonschema
import pytest

from aibrixctl import schemas
from aibrixctl.exit_codes import ExitCode

PROGRAM = [sys.executable, "-m", "aibrixctl"]


def test_version_names_the_program(cli: Callable[..., Any]) -> None:
    outcome = cli("--version")
    assert outcome.code == 0
    assert outcome.out.startswith("aibrixctl ")


def test_no_arguments_print_help_as_a_usage_error(cli: Callable[..., Any]) -> None:
    outcome = cli()
    assert (outcome.code, outcome.out) == (2, "")
    assert "Commands:" in outcome.err


def test_help_lists_every_exit_code(cli: Callable[..., Any]) -> None:
    out = cli("--help").out
    for code in ExitCode:
        assert f"\n    {code.value}" in out


def test_mistyped_command_gets_a_suggestion(cli: Callable[..., Any]) -> None:
    outcome = cli("proflie")
    assert outcome.code == 2
    assert "Did you mean 'profile'" in outcome.err


def test_mistyped_option_gets_a_suggestion(cli: Callable[..., Any]) -> None:
    outcome = cli("config", "show", "--orgin")
    assert outcome.code == 2
    assert "--origin" in outcome.err


@pytest.mark.parametrize(
    "words",
    [
        ("config", "show", "--nonsense", "-o", "json"),
        ("config", "show", "--nonsense", "-ojson"),
        ("--output=json", "config"),
        ("nonsense", "-o", "json"),
        ("schema", "show", "-o", "json"),
        ("profile", "-o", "json"),
        ("optimize", "workload", "--nonsense", "--output=json"),
    ],
)
def test_usage_errors_are_json_where_json_was_asked_for(
    cli: Callable[..., Any], words: tuple[str, ...]
) -> None:
    outcome = cli(*words)
    body = json.loads(outcome.out)
    assert (outcome.code, body["status"], body["exit_code"]) == (2, "error", 2)
    assert body["errors"][0]["message"]
    name = body["schema"].split("/")[1]
    jsonschema.Draft202012Validator(schemas.get(name)).validate(body)


def test_usage_errors_are_json_where_a_file_or_variable_asks_for_it(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("aibrixctl.toml").write_text('output = "json"\n')
    assert json.loads(cli("schema", "list", "--nonsense").out)["exit_code"] == 2
    Path("aibrixctl.toml").unlink()
    monkeypatch.setenv("AIBRIXCTL_OUTPUT", "json")
    assert json.loads(cli("schema", "list", "--nonsense").out)["exit_code"] == 2


def test_usage_errors_replace_the_old_output_file(cli: Callable[..., Any]) -> None:
    Path("out.json").write_text("old")
    outcome = cli("schema", "list", "--nonsense", "-o", "json", "--output-file", "out.json")
    assert (outcome.code, outcome.out) == (2, "")
    assert json.loads(Path("out.json").read_text())["status"] == "error"


@pytest.mark.parametrize("form", ["table", "csv"])
def test_an_error_that_a_format_has_no_words_for_leaves_the_old_output_file(
    form: str, cli: Callable[..., Any]
) -> None:
    Path("out").write_text("old")
    outcome = cli("accelerators", "show", "nothing", "-o", form, "--output-file", "out")
    assert (outcome.code, outcome.out) == (2, "")
    assert "nothing" in outcome.err
    assert Path("out").read_text() == "old"


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("schema", "list", "-h")])
def test_help_is_there_in_spite_of_a_broken_configuration(
    words: tuple[str, ...], cli: Callable[..., Any]
) -> None:
    Path("aibrixctl.toml").write_text("not = \n")
    assert cli(*words).code == 0
    assert cli("schema", "list").code == 2


def test_csv_spells_true_as_json_does(cli: Callable[..., Any]) -> None:
    Path("aibrixctl.toml").write_text("quiet = true\n")
    row = cli("config", "show", "--origin", "-o", "csv").out.splitlines()[1]
    assert row == "quiet,true,aibrixctl.toml,true"


def test_unknown_format_is_refused(cli: Callable[..., Any]) -> None:
    outcome = cli("config", "show", "-o", "xml")
    assert outcome.code == 2
    assert "table|wide|json" in outcome.err


def test_output_file_replaces_the_old_one_whole(cli: Callable[..., Any], tmp_path: Path) -> None:
    goal = tmp_path / "out.json"
    goal.write_text("old")
    outcome = cli("schema", "list", "-o", "json", "--output-file", str(goal))
    assert (outcome.code, outcome.out) == (0, "")
    assert json.loads(goal.read_text())["command"] == "schema list"
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".out")] == []


def test_output_file_in_a_missing_folder_is_an_error(
    cli: Callable[..., Any], tmp_path: Path
) -> None:
    outcome = cli("schema", "list", "--output-file", str(tmp_path / "no" / "out.json"))
    assert outcome.code == 1
    assert "no/out.json" in outcome.err
    assert outcome.err.count("error:") == 1


def test_a_result_whose_file_cannot_be_written_goes_to_stdout(
    cli_json: Callable[..., Any], tmp_path: Path
) -> None:
    body = cli_json("schema", "list", "--output-file", str(tmp_path / "no" / "out.json"))
    assert (body["status"], body["exit_code"]) == ("error", 1)
    assert "no/out.json" in body["errors"][0]["message"]
    assert body["data"]["schemas"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device /dev/full")
def test_full_disk_is_said_once_and_exits_1() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*PROGRAM, "schema", "list", "-o", "json"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_output_is_utf8_in_any_locale(encoding: str) -> None:
    done = subprocess.run(
        [*PROGRAM, "schema", "show", b"no-\xff-\xc3\xa9", "-o", "json"],
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONIOENCODING": encoding},
    )
    assert done.returncode == 2
    assert json.loads(done.stdout)["errors"][0]["message"] == r"no schema is named 'no-\udcff-é'"


@pytest.mark.skipif(which("sh") is None, reason="needs sh")
@pytest.mark.parametrize(
    ("words", "code", "out", "err"),
    [
        ("schema list >&-", 0, "", ""),
        ("schema lst 2>&-", 2, "", ""),
        ("schema lst <&- >&-", 2, "", "error: No such command"),
    ],
)
def test_closed_streams_get_nothing(words: str, code: int, out: str, err: str) -> None:
    line = f"{sys.executable} -m aibrixctl {words}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, out)
    assert done.stderr.startswith(err)
    assert bool(done.stderr) == bool(err)


def test_closed_pipe_ends_quietly() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [*PROGRAM, "schema", "show", "error"],
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_terminal_no_escape_codes_and_no_padding(cli: Callable[..., Any]) -> None:
    out = cli("schema", "list").out
    assert "\x1b" not in out
    assert all(line == line.rstrip() for line in out.splitlines())


def test_forced_colour_reaches_a_pipe(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in cli("schema", "list").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in cli("schema", "list").out


def test_csv_and_jsonl_carry_the_rows(cli: Callable[..., Any]) -> None:
    names = [name for name, _ in schemas.names()]
    table = cli("schema", "list", "-o", "csv").out.splitlines()
    assert table[0] == "name,kind"
    assert [line.split(",")[0] for line in table[1:]] == names
    records = [json.loads(line) for line in cli("schema", "list", "-o", "jsonl").out.splitlines()]
    assert [record["type"] for record in records] == ["schema"] * len(names) + ["summary"]
    assert records[-1]["exit_code"] == 0


def test_an_interrupt_while_starting_leaves_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGINT)")
    done = subprocess.run(
        [*PROGRAM, "schema", "list"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_before_a_result_still_answers_in_json(signum: int, code: int) -> None:
    program = (
        "import os, signal, aibrixctl.schemas as s\n"
        f"s.names = lambda: os.kill(os.getpid(), {int(signum)})\n"
        "from aibrixctl.app import run\n"
        "raise SystemExit(run(['schema', 'list', '-o', 'json']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert json.loads(done.stdout)["errors"][0]["code"] == "interrupted"


def test_a_second_signal_still_answers_in_json() -> None:
    program = (
        "import os, signal, aibrixctl.schemas as s\n"
        "from aibrixctl.app import run\n"
        "from aibrixctl.signals import interruptible\n"
        "def names():\n"
        "    with interruptible() as stop:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        assert stop.is_set()\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "s.names = names\n"
        "raise SystemExit(run(['schema', 'list', '-o', 'json']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    (error,) = json.loads(done.stdout)["errors"]
    assert done.returncode == 143
    assert "by a second SIGTERM: what it had begun may be left" in error["message"]
    assert error["message"] in done.stderr


def test_a_signal_keeps_its_code_where_the_output_cannot_be_written(tmp_path: Path) -> None:
    program = (
        "import os, signal, aibrixctl.schemas as s\n"
        "s.names = lambda: os.kill(os.getpid(), signal.SIGINT)\n"
        "from aibrixctl.app import run\n"
        "words = ['schema', 'list', '-o', 'json', '--output-file']\n"
        f"raise SystemExit(run([*words, '{tmp_path}/no/x']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert "stopped by SIGINT" in done.stderr
    assert "no/x" in done.stderr
    assert "Traceback" not in done.stderr
