"""Locate: the line of every key in the text of a valid TOML file.

The standard reader keeps no positions. Because the text is known to be valid, a scanner that only
follows brackets, quotes and equal signs is enough; it has no recursion, so no nesting can stop it.
"""

import re
import tomllib
from dataclasses import dataclass

from jaxevo.config.sentences import Path

TOKEN = re.compile(
    r'''
      (?P<comment> \#[^\n]* )
    | (?P<newline> \n )
    | (?P<string>  """(?:\\.|[^\\])*?"""(?:"{0,2}) | \'\'\'.*?\'\'\'(?:'{0,2})
                 | "(?:\\.|[^"\\\n])*" | '[^'\n]*' )
    | (?P<mark>    [\[\]{},=] )
    | (?P<bare>    [^\s\#"'\[\]{},=]+ )
    ''',
    re.VERBOSE | re.DOTALL,
)


@dataclass
class _Open:
    """A bracket that is not closed yet: an array (with the index it is at) or an inline table."""

    path: Path
    index: int | None

    def row(self) -> Path:
        """Where the array is: its path and the index."""
        return self.path if self.index is None else (*self.path, self.index)


class _Scanner:
    """Follows a valid TOML text and writes down where each key is."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines: dict[Path, int] = {}
        self.arrays: dict[Path, int] = {}  # arrays of tables -> index of the last one
        self.table: Path = ()
        self.open: list[_Open] = []
        self.path: Path = ()  # of the value that comes next
        self.wait = "statement"  # statement, header, key, value, item, entry, end
        self.start = 0  # of the key or header being read
        self.line = 1

    def run(self) -> dict[Path, int]:
        last = 0
        for match in TOKEN.finditer(self.text):
            self.line += self.text.count("\n", last, match.start())
            last = match.start()
            if match.lastgroup != "comment":
                self._take(match.group(), match.start(), match.end())
        return self.lines

    def _take(self, symbol: str, start: int, end: int) -> None:
        if symbol == "\n":
            if self.wait in ("header", "end") and not self.open:
                self.wait = "statement"
        elif self.wait in ("statement", "entry"):
            if symbol == "}":
                self._close()
            else:
                self.start = start
                self.wait = "header" if symbol == "[" and not self.open else "key"
        elif self.wait == "header":
            self._header(self.text[self.start : end])
        elif self.wait == "key" and symbol == "=":
            base = self.open[-1].path if self.open else self.table
            self.path = self._note(base, _keys(self.text[self.start : start] + "= 0"))
            self.wait = "value"
        elif self.wait in ("value", "item"):
            self._value(symbol)
        elif self.wait == "end" and self.open:
            if symbol == ",":
                self._next()
            elif symbol in "]}":
                self._close()

    def _value(self, symbol: str) -> None:
        if self.wait == "item":
            if symbol == "]":
                return self._close()
            self.path = self.open[-1].row()
            self.lines.setdefault(self.path, self.line)
        if symbol in ("[", "{"):
            self.open.append(_Open(self.path, 0 if symbol == "[" else None))
            self.wait = "item" if symbol == "[" else "entry"
        else:
            self.wait = "end"
        return None

    def _next(self) -> None:
        top = self.open[-1]
        if top.index is None:
            self.wait = "entry"
        else:
            top.index += 1
            self.wait = "item"

    def _close(self) -> None:
        self.open.pop()
        self.wait = "end"

    def _header(self, text: str) -> None:
        """A table header that may be complete: `[a.b]` or `[[a.b]]`."""
        if not text.endswith("]]" if text.startswith("[[") else "]"):
            return
        try:
            keys = _keys(text)
        except tomllib.TOMLDecodeError:
            return  # the bracket was part of a quoted key
        base: Path = ()
        for key in keys[:-1]:
            base = self._note(base, [key])
            base = (*base, self.arrays[base]) if base in self.arrays else base
        path = (*base, keys[-1])
        if text.startswith("[["):
            self.arrays[path] = self.arrays.get(path, -1) + 1
            self.lines.setdefault(path, self.line)
            path = (*path, self.arrays[path])
        self.table = path
        self.lines[path] = self.line

    def _note(self, base: Path, keys: list[str]) -> Path:
        for key in keys:
            base = (*base, key)
            self.lines.setdefault(base, self.line)
        return base


def _keys(text: str) -> list[str]:
    """The keys of a header or of a statement, in order."""
    keys = []
    level = tomllib.loads(text)
    while isinstance(level, dict) and level:
        key, level = next(iter(level.items()))
        keys.append(key)
        level = level[0] if isinstance(level, list) else level
    return keys


def locate(text: str) -> dict[Path, int]:
    """Line of every key of a valid TOML text, by its path."""
    return _Scanner(text.replace("\r\n", "\n")).run()


def line_of(lines: dict[Path, int], path: Path) -> int:
    """Line of the key at `path`, or of the nearest table around it."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)
