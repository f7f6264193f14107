"""On which line of a TOML text each key stands, which ``tomllib`` doesn't tell.

The text has been parsed by ``tomllib`` before, so that here nothing is checked: a small reader
walks over keys, tables, arrays and strings and notes lines.
"""

from collections.abc import Mapping
from typing import TypeAlias

Path: TypeAlias = tuple[str | int, ...]
_BARE_END = " \t\r\n.=]}#,"


def lines_of(text: str) -> Mapping[Path, int]:
    """Return the line, from 1, of every key, table and array entry of a valid TOML text.

    A path holds keys and, for arrays and arrays of tables, positions: ``("fault", 0, "gpu")``.
    """
    return _Reader(text).read()


def line_of(lines: Mapping[Path, int], path: Path) -> int:
    """Return the line of a path, or of the nearest path above it that has one; 0 without any."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 0)


class _Reader:
    def __init__(self, text: str):
        self.text = text.replace("\r\n", "\n")
        self.at = 0
        self.line = 1
        self.lines: dict[Path, int] = {}
        self.counts: dict[Path, int] = {}

    def read(self) -> dict[Path, int]:
        table: Path = ()
        while self._skip(newlines=True):
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)
        return self.lines

    def _header(self) -> Path:
        double = self.text.startswith("[[", self.at)
        self._advance(2 if double else 1)
        keys = self._keys()
        self._skip()
        self._advance(2 if double else 1)
        # A table under an array of tables belongs to the array's last entry.
        path: Path = ()
        for depth, key in enumerate(keys):
            path = (*path, key)
            last = depth == len(keys) - 1
            if last and double:
                self.counts[path] = self.counts.get(path, -1) + 1
            if path in self.counts:
                path = (*path, self.counts[path])
        self._note(path)
        return path

    def _pair(self, table: Path) -> None:
        keys = self._keys()
        path = table + tuple(keys)
        self._note(path)
        self._skip()
        self._advance(1)  # the equals sign
        self._skip()
        self._value(path)

    def _keys(self) -> list[str]:
        keys = [self._key()]
        while self._skip() and self.text[self.at] == ".":
            self._advance(1)
            self._skip()
            keys.append(self._key())
        return keys

    def _key(self) -> str:
        self._skip()
        if self.text[self.at] in "\"'":
            return self._string()
        start = self.at
        while self.at < len(self.text) and self.text[self.at] not in _BARE_END:
            self.at += 1
        return self.text[start : self.at]

    def _value(self, path: Path) -> None:
        opening = self.text[self.at]
        if opening in "\"'":
            self._string()
        elif opening == "[":
            self._array(path)
        elif opening == "{":
            self._inline_table(path)
        else:
            while self.at < len(self.text) and self.text[self.at] not in ",]}#\n":
                self.at += 1

    def _array(self, path: Path) -> None:
        self._advance(1)
        position = 0
        while self._skip(newlines=True) and self.text[self.at] != "]":
            self._note((*path, position))
            self._value((*path, position))
            position += 1
            self._comma()
        self._advance(1)

    def _inline_table(self, path: Path) -> None:
        self._advance(1)
        while self._skip(newlines=True) and self.text[self.at] != "}":
            self._pair(path)
            self._comma()
        self._advance(1)

    def _comma(self) -> None:
        if self._skip(newlines=True) and self.text[self.at] == ",":
            self._advance(1)

    def _string(self) -> str:
        quote = self.text[self.at]
        long = self.text.startswith(quote * 3, self.at)
        closing = quote * 3 if long else quote
        self._advance(len(closing))
        start = self.at
        while not self.text.startswith(closing, self.at):
            self._advance(2 if quote == '"' and self.text[self.at] == "\\" else 1)
        if long:  # up to two quotes may stand right before the closing three
            while self.text.startswith(closing, self.at + 1):
                self._advance(1)
        content = self.text[start : self.at]
        self._advance(len(closing))
        return content

    def _skip(self, *, newlines: bool = False) -> bool:
        """Go past blanks, comments and, where allowed, line ends; False at the end of the text."""
        while self.at < len(self.text):
            character = self.text[self.at]
            if character == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            elif character in " \t" or (newlines and character == "\n"):
                self._advance(1)
            else:
                return True
        return False

    def _advance(self, count: int) -> None:
        self.line += self.text.count("\n", self.at, self.at + count)
        self.at += count

    def _note(self, path: Path) -> None:
        for depth in range(1, len(path) + 1):
            self.lines.setdefault(path[:depth], self.line)
