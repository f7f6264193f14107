"""``aibrixctl completion``."""

from typing import Annotated

import typer

from accelerators.errors import UsageError
from aibrixctl.choices import one_of
from aibrixctl.command import command
from aibrixctl.result import Result

_SHELLS = ("bash", "zsh", "fish")


@command(
    "completion",
    examples=(
        ("aibrixctl completion bash", "print the script for bash"),
        ("aibrixctl completion zsh", "print the script for zsh"),
    ),
)
def completion(
    shell: Annotated[
        str,
        typer.Argument(
            metavar="|".join(_SHELLS), help="The shell.", autocompletion=one_of(*_SHELLS)
        ),
    ],
) -> Result:
    """Print a shell completion script.

    For bash, add this line to ~/.bashrc: eval "$(aibrixctl completion bash)"
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    from aibrixctl.app import COMPLETION, PROGRAM

    if shell not in _SHELLS:
        raise UsageError(
            "completion.shell", f"no completion for {shell!r}; expected {', '.join(_SHELLS)}"
        )
    script = get_completion_script(prog_name=PROGRAM, complete_var=COMPLETION, shell=shell)
    return Result(
        {"shell": shell, "script": script}, view=lambda console, wide: console.out(script)
    )
