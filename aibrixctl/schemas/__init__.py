"""JSON Schemas (draft 2020-12) of the documents and of every command's JSON output.

Each ``NAME.json`` beside this file is the schema of a document, or of the ``data`` of a command.
A command's full output is that data in the common envelope. ``{"$ref": "NAME"}`` names another.
"""

import json
from difflib import get_close_matches
from importlib import resources
from typing import Any

from accelerators.errors import UsageError
from aibrixctl.exit_codes import ExitCode
from aibrixctl.tree import leaves

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def names() -> list[tuple[str, str]]:
    """Return every schema's name with its kind, ``command`` or ``document``, sorted."""
    commands = _commands()
    return [(name, "command" if name in commands else "document") for name in sorted(_all())]


def get(name: str) -> dict[str, Any]:
    """Return a schema by name, complete: a command's with its envelope, references inlined.

    Raises:
        UsageError: no schema has that name.
    """
    if name not in _all():
        near = get_close_matches(name, sorted(_all()), 1)
        raise UsageError(
            "schema.unknown",
            f"no schema is named {name!r}",
            hint=f"did you mean {near[0]!r}?" if near else "see `aibrixctl schema list`",
            target=name,
        )
    body = _read(name) if name != "error" else {"type": "null"}
    inlined = _inline(body)
    if name in _commands():
        inlined = _envelope(name, _commands()[name], inlined)
    return {"$schema": _DIALECT, "$id": f"aibrixctl/{name}/v1", **inlined}


def _all() -> set[str]:
    folder = resources.files(__name__)
    files = {f.name.removesuffix(".json") for f in folder.iterdir() if f.name.endswith(".json")}
    return files | {"error"}


def _commands() -> dict[str, str]:
    """Return schema name to command path; ``error`` is what precedes any command."""
    return {path.replace(" ", "-"): path for path, _ in leaves()} | {"error": "error"}


def _read(name: str) -> Any:
    return json.loads((resources.files(__name__) / f"{name}.json").read_text(encoding="utf-8"))


def _inline(node: Any) -> Any:
    """Replace references to other files by what they hold."""
    if isinstance(node, list):
        return [_inline(item) for item in node]
    if not isinstance(node, dict):
        return node
    reference = node.get("$ref")
    if isinstance(reference, str) and not reference.startswith("#"):
        return _inline(_read(reference))
    return {key: _inline(value) for key, value in node.items()}


def _envelope(name: str, path: str, data: dict[str, Any]) -> dict[str, Any]:
    problem = {
        "type": "object",
        "required": ["code", "message", "target", "hint"],
        "properties": {
            "code": {"type": "string"},
            "message": {"type": "string"},
            "target": {"type": ["string", "null"]},
            "hint": {"type": "string"},
            "details": {"type": "object"},
        },
        "additionalProperties": False,
    }
    properties = {
        "schema": {"const": f"aibrixctl/{name}/v1"},
        "command": {"const": path},
        "status": {"enum": ["success", "partial", "error"]},
        "exit_code": {"enum": [code.value for code in ExitCode]},
        "data": data if data == {"type": "null"} else {"anyOf": [data, {"type": "null"}]},
        "errors": {"type": "array", "items": problem},
        "warnings": {"type": "array", "items": problem},
        "meta": {
            "type": "object",
            "required": ["tool_version", "generated_at", "elapsed_s"],
            "properties": {
                "tool_version": {"type": "string"},
                "generated_at": {"type": "string"},
                "elapsed_s": {"type": "number"},
            },
        },
    }
    return {
        "type": "object",
        "required": sorted(properties),
        "properties": properties,
        "additionalProperties": False,
    }
