"""Take a TOML document apart with every mistake noted by line and key, none raised at once."""

import tomllib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from accelerators.errors import UsageError
from mockfail.errors import Mistake, ScenarioError
from mockfail.toml_lines import Path, line_of, lines_of
from mockfail.values import did_you_mean

T = TypeVar("T")
_NAMES = {str: "a text", bool: "true or false", int: "a whole number", list: "a list"}
_NAMES |= {dict: "a table", float: "a number"}


def dotted(path: Path) -> str:
    """Return a path as people write it: ``fault[0].set.temperature_c``."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


class Document:
    """A parsed text, the lines of its keys, and the mistakes found in it so far."""

    def __init__(self, text: str, source: str):
        """Parse the text.

        Raises:
            ScenarioError: it is not TOML, or holds numbers of more than 64 bits.
        """
        self.source = source
        try:
            self.values = tomllib.loads(text)
        except (ValueError, RecursionError) as error:  # Python also refuses very long numbers
            raise ScenarioError(source, [_syntax(error)]) from error
        self.lines = lines_of(text)
        self.mistakes: list[Mistake] = []
        for path in _too_large(self.values, ()):
            self.note(path, "is a number of more than 64 bits")
        self.finish()

    def root(self) -> "Table":
        """Return the outermost table."""
        return Table(self, (), self.values)

    def line(self, path: Path) -> int:
        """Return the line of a path."""
        return line_of(self.lines, path)

    def note(self, path: Path, message: str) -> None:
        """Note a mistake."""
        self.mistakes.append(Mistake(self.line(path), dotted(path), message))

    def finish(self) -> None:
        """Raise ScenarioError when there were mistakes."""
        if self.mistakes:
            raise ScenarioError(self.source, sorted(self.mistakes, key=lambda m: m.line))


def _too_large(value: Any, path: Path) -> Iterator[Path]:
    """Yield the paths of numbers that TOML promises nothing of."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _too_large(item, (*path, key))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _too_large(item, (*path, position))
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        yield path


def _syntax(error: Exception) -> Mistake:
    text = str(error) or type(error).__name__
    message, _, place = text.partition(" (at line ")
    line = place.split(",")[0]
    return Mistake(int(line) if line.isdigit() else 0, "", f"not TOML: {message}")


class Table:
    """A table whose keys are taken one by one; what is left at the end is a mistake."""

    def __init__(self, document: Document, path: Path, values: Mapping[str, Any]):
        self.document = document
        self.path = path
        self.values = values
        self.known: list[str] = []

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def may_hold(self, *keys: str) -> None:
        """Name keys that are no mistake, whether or not they are taken."""
        self.known += keys

    def at(self, *keys: str | int) -> Path:
        """Return the path of something below."""
        return (*self.path, *keys)

    def note(self, key: str, message: str) -> None:
        """Note a mistake about a key."""
        self.document.note(self.at(key), message)

    def take(self, key: str, *types: type) -> Any:
        """Return a key's value; None when it is absent or of another type, which is noted."""
        self.known.append(key)
        value = self.values.get(key)
        if value is None or _is(value, types):
            return value
        expected = " or ".join(_NAMES[type_] for type_ in types)
        self.note(key, f"is {_shown(value)}; expected {expected}")
        return None

    def read(self, key: str, parse: Callable[[Any], T], *types: type) -> T | None:
        """Return what ``parse`` makes of a key's value; its UsageError is noted."""
        value = self.take(key, *types)
        return None if value is None else self.parsed(self.at(key), parse, value)

    def parsed(self, path: Path, parse: Callable[[Any], T], value: Any) -> T | None:
        """Return what ``parse`` makes of a value; its UsageError is noted at the path."""
        try:
            return parse(value)
        except UsageError as error:
            self.document.note(path, error.message)
            return None

    def table(self, key: str) -> "Table | None":
        """Return a table of this table."""
        value = self.take(key, dict)
        return None if value is None else Table(self.document, self.at(key), value)

    def tables(self, key: str) -> list["Table"]:
        """Return an array of tables."""
        found = []
        for position, value in enumerate(self.take(key, list) or ()):
            path = self.at(key, position)
            if isinstance(value, dict):
                found.append(Table(self.document, path, value))
            else:
                self.document.note(path, f"is {_shown(value)}; expected a table")
        return found

    def every(self, key: str, *types: type) -> Iterator[tuple[Path, Any]]:
        """Yield the entries of a list, or the one value that stands in its place."""
        value = self.take(key, list, *types)
        many = isinstance(value, list)
        for position, item in enumerate(value if many else [] if value is None else [value]):
            path = self.at(key, position) if many else self.at(key)
            if _is(item, types):
                yield path, item
            else:
                expected = " or ".join(_NAMES[type_] for type_ in types)
                self.document.note(path, f"is {_shown(item)}; expected {expected}")

    def end(self) -> None:
        """Note every key that nothing took."""
        for key in self.values:
            if key not in self.known:
                self.note(key, f"unknown key{did_you_mean(key, self.known)}")


def _is(value: Any, types: tuple[type, ...]) -> bool:
    return isinstance(value, types) and (not isinstance(value, bool) or bool in types)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
