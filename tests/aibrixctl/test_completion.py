"""Completion scripts work in the shells they are for."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import which
from typing import Any

import pytest

ASK_BASH = """
eval "$(aibrixctl completion bash)"
COMP_WORDS=({words}) COMP_CWORD={last}
_aibrixctl_completion aibrixctl
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put ``aibrixctl`` on the path, as installed."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "aibrixctl"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m aibrixctl "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


@pytest.mark.usefixtures("program")
@pytest.mark.skipif(which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("aibrixctl profile l", ["load"]),
        ("aibrixctl optimize workload ''", ["show", "synth"]),
        ("aibrixctl profile load --request-", ["--request-rate"]),
        ("aibrixctl schema list -o js", ["json", "jsonl"]),
        ("aibrixctl profile predict --accelerator h100", ["h100-pcie", "h100-sxm"]),
        ("aibrixctl profile serve-sim --model deepseek-coder-6", ["deepseek-coder-6.7b"]),
        ("aibrixctl accelerators show l4", ["l4", "l40s"]),
        (
            "aibrixctl diagnose ''",
            ["cluster", "engine", "explain", "fleet", "list-checks", "watch"],
        ),
        ("aibrixctl diagnose --ch", ["--checks"]),
        ("aibrixctl diagnose -o wide --ch", ["--checks"]),
        ("aibrixctl diagnose explain NV-GPU-L", ["NV-GPU-LOST"]),
    ],
)
def test_bash_completes(words: str, expected: list[str]) -> None:
    asked = ASK_BASH.format(words=words, last=len(words.split()) - 1)
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
    assert (done.stdout.split(), done.stderr) == (expected, "")


@pytest.mark.parametrize(
    ("shell", "variables"),
    [
        ("zsh", {"_TYPER_COMPLETE_ARGS": "aibrixctl profile l"}),
        (
            "fish",
            {
                "_TYPER_COMPLETE_ARGS": "aibrixctl profile l",
                "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            },
        ),
    ],
)
def test_other_shells_get_an_answer(
    shell: str,
    variables: dict[str, str],
    cli: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("_AIBRIXCTL_COMPLETE", f"complete_{shell}")
    outcome = cli()
    assert outcome.code == 0
    assert "load" in outcome.out
