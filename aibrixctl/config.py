"""Configuration from files and the environment, and where each value came from.

Precedence: flag, ``AIBRIXCTL_*``, ``./aibrixctl.toml``, ``$XDG_CONFIG_HOME/aibrixctl/config.toml``,
``/etc/aibrixctl/config.toml``. A file holds the common options at its top and every other option
in the table of its command::

    output = "json"
    [profile.load]
    base-url = "http://127.0.0.1:8000"
"""

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from accelerators import documents
from accelerators.errors import UsageError

PREFIX = "AIBRIXCTL_"
SECRET = "AIBRIXCTL_REDIS_PASSWORD"
"""Read by ``profile push``; its value is never shown."""


@dataclass(frozen=True)
class Setting:
    """One configured value: its dotted key, the value, and the file or variable it came from."""

    key: str
    value: Any
    origin: str


def files() -> tuple[Path, ...]:
    """Return the configuration files, the strongest first, whether or not they exist."""
    # A user without a home, as in a container with any number, has no file there.
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111
    return (
        Path("aibrixctl.toml"),
        Path(home) / "aibrixctl" / "config.toml",
        Path("/etc/aibrixctl/config.toml"),
    )


def is_there(path: Path) -> bool:
    """Tell whether a file is there for us; one in a folder that is closed to us is not."""
    return os.path.isfile(path)  # noqa: PTH113 - the method of Path raises there


def read_files() -> list[Setting]:
    """Return every value of every file, the strongest file first.

    Raises:
        UsageError: a file is unreadable or not TOML; names the line.
    """
    settings = []
    for path in files():
        if not is_there(path):
            continue
        try:
            body = tomllib.loads(documents.read_text(path))
        except tomllib.TOMLDecodeError as error:
            raise UsageError(
                "config.not_toml", f"{path} is not TOML: {error}", target=str(path)
            ) from error
        settings += [Setting(key, value, str(path)) for key, value in _flatten(body)]
    return settings


def read_environment(keys: Mapping[str, str]) -> list[Setting]:
    """Return the settings of the environment; ``keys`` maps variables to dotted keys."""
    return [
        Setting(key, os.environ[name], f"${name}")
        for name, key in keys.items()
        if os.environ.get(name)
    ]


def unknown_variables(known: Iterable[str]) -> list[tuple[str, str | None]]:
    """Return the variables of ours that mean nothing, each with the nearest that does."""
    names = {*known, SECRET}
    strays = sorted(n for n in os.environ if n.startswith(PREFIX) and n not in names)
    return [(name, next(iter(get_close_matches(name, names, 1)), None)) for name in strays]


def _flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        key = f"{prefix}{name.replace('_', '-')}"
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{key}.")
        else:
            yield key, value


def effective(settings: list[Setting]) -> dict[str, Setting]:
    """Return the strongest setting of each key; the list is ordered strongest first."""
    chosen: dict[str, Setting] = {}
    for setting in settings:
        chosen.setdefault(setting.key, setting)
    return chosen


def check_keys(settings: list[Setting], known: set[str]) -> None:
    """Refuse a key that no option has.

    Raises:
        UsageError: names the file, the key and the nearest known key.
    """
    for setting in settings:
        if setting.key in known:
            continue
        near = get_close_matches(setting.key, sorted(known), 1)
        raise UsageError(
            "config.unknown_key",
            f"{setting.origin} sets {setting.key!r}, which no command has",
            hint=f"did you mean {near[0]!r}?" if near else "see `aibrixctl config show`",
            target=setting.origin,
        )


def default_map(settings: Mapping[str, Setting], path: str, common: tuple[str, ...]) -> Any:
    """Return the nested defaults for the command at ``path``, as Typer's context takes them."""
    words = path.split()
    section = ".".join(words) + "."
    own: dict[str, Any] = {}
    for name in common:
        setting = settings.get(name.replace("_", "-"))
        if setting is not None:
            own[name] = setting.value
    for key, setting in settings.items():
        if key.startswith(section) and "." not in key[len(section) :]:
            own[key[len(section) :].replace("-", "_")] = setting.value
    for word in reversed(words):
        own = {word: own}
    return own
