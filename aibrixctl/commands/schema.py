"""``aibrixctl schema``."""

from typing import Annotated

import typer

from aibrixctl.command import command
from aibrixctl.result import Result


@command(
    "schema list",
    examples=(("aibrixctl schema list", "name every document"),),
)
def list_() -> Result:
    """List the JSON Schemas of the documents and of every command's JSON output."""
    from aibrixctl import schemas

    rows = [{"name": name, "kind": kind} for name, kind in schemas.names()]
    return Result({"schemas": rows}, rows=rows, record="schema")


@command(
    "schema show",
    examples=(
        ("aibrixctl schema show throughput-table", "the schema of a throughput table"),
        ("aibrixctl schema show profile-load", "what `profile load -o json` prints"),
    ),
)
def show_one(
    name: Annotated[str, typer.Argument(help="A name that `schema list` prints.")],
) -> Result:
    """Print one JSON Schema (draft 2020-12)."""
    from accelerators.documents import dump_json
    from aibrixctl import schemas

    schema = schemas.get(name)
    return Result(schema, view=lambda console, wide: console.out(dump_json(schema), end=""))
