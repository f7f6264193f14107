"""``aibrixctl config``."""

from typing import Annotated

import typer

from aibrixctl.command import command
from aibrixctl.result import Result


@command(
    "config show",
    examples=(
        ("aibrixctl config show", "the values that are set"),
        ("aibrixctl config show --origin", "and the file or variable that set each"),
    ),
)
def show_config(
    origin: Annotated[
        bool, typer.Option("--origin", help="Say where each value came from, overridden ones too.")
    ] = False,
) -> Result:
    """Show the values that files and the environment set, strongest first.

    Precedence: flag, AIBRIXCTL_* variable, ./aibrixctl.toml,
    $XDG_CONFIG_HOME/aibrixctl/config.toml, /etc/aibrixctl/config.toml.
    """
    from aibrixctl import config
    from aibrixctl.options import environment_keys

    settings = config.read_environment(environment_keys()) + config.read_files()
    chosen = config.effective(settings)
    rows = [
        {"key": s.key, "value": s.value}
        | ({"origin": s.origin, "in_force": chosen[s.key] is s} if origin else {})
        for s in sorted(settings, key=lambda s: s.key)
        if origin or chosen[s.key] is s
    ]
    files = [{"path": str(path), "exists": path.is_file()} for path in config.files()]
    return Result({"settings": rows, "files": files}, rows=rows, record="setting")
