"""Every option of every command, read from the command functions: for configuration and docs."""

import inspect
from typing import Any, get_args

from typer.models import OptionInfo

from aibrixctl.command import COMMON_OPTIONS
from aibrixctl.config import PREFIX
from aibrixctl.tree import function_of, leaves


def own_options(function: Any) -> list[str]:
    """Return the parameter names of a command's own options, without the common ones."""
    names = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name in COMMON_OPTIONS:
            continue
        if any(isinstance(extra, OptionInfo) for extra in get_args(parameter.annotation)):
            names.append(name)
    return names


def known_keys() -> set[str]:
    """Return every dotted configuration key, as written in a file."""
    keys = {name.replace("_", "-") for name in COMMON_OPTIONS}
    for path, leaf in leaves():
        section = path.replace(" ", ".")
        keys |= {f"{section}.{n.replace('_', '-')}" for n in own_options(function_of(leaf))}
    return keys


def environment_keys() -> dict[str, str]:
    """Return the variable of every configuration key."""
    names = {}
    for key in sorted(known_keys()):
        names[PREFIX + key.upper().replace(".", "_").replace("-", "_")] = key
    return names
