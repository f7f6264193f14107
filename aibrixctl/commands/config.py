"""``aibrixctl config``."""

from typing import TYPE_CHECKING, Annotated

import typer

from aibrixctl.command import command
from aibrixctl.result import Problem, Result

if TYPE_CHECKING:
    from rich.console import Console


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

    variables = environment_keys()
    settings = config.read_environment(variables) + config.read_files()
    chosen = config.effective(settings)
    rows = [
        {"key": s.key, "value": s.value}
        | ({"origin": s.origin, "in_force": chosen[s.key] is s} if origin else {})
        for s in sorted(settings, key=lambda s: s.key)
        if origin or chosen[s.key] is s
    ]
    files = [{"path": str(path), "exists": config.is_there(path)} for path in config.files()]

    def view(console: "Console", wide: bool) -> None:
        from aibrixctl.render import table_of

        if rows:
            console.print(table_of(rows))
            return
        console.print("nothing is set; files looked for:")
        for file in files:
            console.print(f"  {file['path']}")

    return Result(
        {"settings": rows, "files": files},
        rows=rows,
        record="setting",
        view=view,
        warnings=tuple(
            Problem(
                "config.unknown_variable",
                f"no option is set by {name}",
                target=name,
                hint=f"did you mean {near}?" if near else "",
            )
            for name, near in config.unknown_variables(variables)
        ),
    )
