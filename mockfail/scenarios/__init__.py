"""The built-in scenarios, one TOML file each, and how a name or a file becomes a scenario."""

from functools import cache
from pathlib import Path

from accelerators.documents import read_text
from accelerators.errors import UsageError
from mockfail import legacy
from mockfail.errors import MockUsageError
from mockfail.scenario import Scenario, parse
from mockfail.toml_reader import Document
from mockfail.values import did_you_mean

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Return the names of the built-in scenarios, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str) -> Scenario:
    """Return a built-in scenario by name, or the scenario of a file.

    A file may be ours or ai-accelerator-tool's, which is told by its keys.

    Raises:
        ScenarioError: it has mistakes; lists all, with line and key.
        MockUsageError: there is no such scenario; names the nearest.
        UsageError: the file can't be read.
    """
    return _load(name, ())


@cache
def _built_in(name: str) -> Scenario:
    path = FOLDER / f"{name}.toml"
    return _parse(path, (), name)


def _load(name: str, asked_by: tuple[Path, ...]) -> Scenario:
    if "/" in name or name.endswith(".toml"):
        base = asked_by[-1].parent if asked_by else Path()
        path = base / Path(name).expanduser()
        if path.resolve() in asked_by:
            raise MockUsageError("scenario.circle", f"{name} combines itself", target=name)
        return _parse(path, asked_by, path.stem)
    if name not in names():
        raise MockUsageError(
            "scenario.unknown",
            f"there is no scenario {name!r}{did_you_mean(name, names())}",
            hint="`aibrixctl mock-fail list` shows all; a file is named by its path, ./my.toml",
            target=name,
        )
    if (FOLDER / f"{name}.toml").resolve() in asked_by:
        raise MockUsageError("scenario.circle", f"{name} combines itself", target=name)
    return _parse(FOLDER / f"{name}.toml", asked_by, name) if asked_by else _built_in(name)


def _parse(path: Path, asked_by: tuple[Path, ...], name: str) -> Scenario:
    text = read_text(path)
    shown = str(path) if path.parent != FOLDER else path.name
    if legacy.recognise(Document(text, shown)):
        return legacy.parse(text, shown, name)

    def other(part: str, source: str) -> Scenario:
        try:
            return _load(part, (*asked_by, path.resolve()))
        except UsageError as error:
            raise UsageError(error.code, error.message, hint=error.hint) from error

    return parse(text, shown, name, other)
