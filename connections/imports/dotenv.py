"""Reads ``.env`` files as python-dotenv documents them: quotes, ``export``, comments, values of several lines.

Written here because django-environ's reader knows no values of several lines, and logs each line that it does not
understand, with the secret that may stand in it; and because python-dotenv's own takes time by the square of a line's
blanks (7 s for 90 KB) and puts variables in what single quotes keep. No message of this one quotes a line.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from connections.imports.masking import printable
from external_apis.errors import InvalidInput

__all__ = ["DotEnv", "parse", "read"]

MAX_BYTES = 1_048_576
MAX_EXPANDED = 65_536
"""Characters of a value with other variables in it; all of a file's values together have as many as it may have bytes,
before such a value is too long."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_START = re.compile(r"[ \t]*(?:export[ \t]+)?(?P<quote>['\"]?)(?P<name>[^\s=#'\"]+)(?P=quote)[ \t]*=[ \t]*")
_SINGLE = re.compile(r"'(?P<text>(?:\\.|[^'\\])*)'", re.DOTALL)
_DOUBLE = re.compile(r'"(?P<text>(?:\\.|[^"\\])*)"', re.DOTALL)
_COMMENT = re.compile(r"[ \t]#")
_REST = re.compile(r"[ \t]*(?:#[^\n]*)?(?=\n|\Z)")
_LINE = re.compile(r"[^\n]*(?:\n|\Z)")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "\\": "\\", "'": "'", '"': '"'}
_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<has_default>:-(?P<default>[^}$\n]*))?\}")


@dataclass(frozen=True)
class DotEnv:
    """``values`` by name, of a name that stands twice the last; ``problems`` name lines and quote nothing of them."""

    values: dict[str, str] = field(repr=False)
    problems: tuple[str, ...] = ()


def read(path: Path) -> DotEnv:
    """Read a file of at most 1 MiB in UTF-8, with or without a byte order mark. Raises `InvalidInput`."""
    shown = printable(str(path))
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InvalidInput(f"{shown} is not a file.")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except ValueError:  # a path that holds a NUL byte
        raise InvalidInput("The path is not one that a file can have.") from None
    except OSError as error:
        raise InvalidInput(f"{shown} cannot be read: {error.strerror}.") from None
    if len(content) > MAX_BYTES:
        raise InvalidInput(f"{shown} is longer than 1 MiB, and no .env file.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput(f"{shown} is not text in UTF-8.") from None
    if "\0" in text:
        raise InvalidInput(f"{shown} holds NUL bytes, and is no text.")
    return parse(text)


def parse(text: str) -> DotEnv:
    """Read the text of a ``.env`` file; what is not understood is a problem, and no error.

    ``${NAME}`` stands for the value of a line above, or for ``${NAME:-its default}``; never for what this process has
    in its own environment. In single quotes it stands for itself.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    values: dict[str, str] = {}
    problems: list[str] = []
    position, number, length = 0, 1, 0
    while position < len(text):
        began_at = position
        position, name, value, problem = _entry(text, position, values, MAX_BYTES - length)
        if problem:
            problems.append(f"line {number}: {problem}")
        elif name:
            if name in values:
                problems.append(f"line {number}: {name} stands there twice; the last one counts")
            values[name] = value
            length += len(value)
        number += text.count("\n", began_at, position)
    return DotEnv(values, tuple(problems))


def _entry(text: str, position: int, known: Mapping[str, str], room: int) -> tuple[int, str, str, str]:
    """Return where the next entry begins, and the name and value of this one or what is wrong with it."""
    line = _LINE.match(text, position)
    assert line is not None  # noqa: S101 (it matches anything)
    if not line[0].strip() or line[0].lstrip().startswith("#"):
        return line.end(), "", "", ""
    start = _START.match(text, position)
    if start is None:
        return line.end(), "", "", "is not NAME=VALUE"
    name = start["name"]
    if not _NAME.fullmatch(name):
        return line.end(), "", "", "has a name that no variable can have"
    pattern = {"'": _SINGLE, '"': _DOUBLE}.get(text[start.end() : start.end() + 1])
    if pattern is None:
        return line.end(), *_expanded(name, _COMMENT.split(text[start.end() : line.end()], 1)[0].strip(), known, room)
    found = pattern.match(text, start.end())
    rest = found and _REST.match(text, found.end())
    if found is None or rest is None:
        return line.end(), "", "", f"{name} has a quote that does not end, or something behind it"
    after = rest.end() + 1
    if pattern is _SINGLE:
        return after, name, re.sub(r"\\([\\'])", r"\1", found["text"]), ""
    return after, *_expanded(name, _unescaped(found["text"]), known, room)


def _expanded(name: str, value: str, known: Mapping[str, str], room: int) -> tuple[str, str, str]:
    length = len(value)
    for one in _VARIABLE.finditer(value):
        if one["name"] not in known and not one["has_default"]:
            return "", "", f"{name} refers to a variable that no line above it gives"
        length += len(known.get(one["name"], one["default"] or "")) - len(one[0])
    if length > len(value) and length > min(MAX_EXPANDED, room):
        return "", "", f"{name} is too long with the variables that it refers to"
    return name, _VARIABLE.sub(lambda one: known.get(one["name"], one["default"] or ""), value), ""


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[0]), text, flags=re.DOTALL)
