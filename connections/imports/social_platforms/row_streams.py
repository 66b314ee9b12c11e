"""Rows out of a JSON or CSV file of any length, one after another.

JSON is an array of objects, such an array within an object (as a REST answer holds one, ``{"social_platforms": […]}``),
or objects one after another, as in JSON lines. CSV has a header, as ``COPY … TO … WITH (FORMAT csv, HEADER)`` writes.
"""

from __future__ import annotations

import codecs
import csv
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from external_apis.errors import InvalidInput

__all__ = ["rows_of"]

_LONGEST_ROW = 16 * 1024 * 1024
"""Characters; what is longer is no row of these tables."""

_CHUNK = 256 * 1024
_WRAPPER = re.compile(
    r'\s*\{\s*(?:"(?:count|offset|limit)"\s*:\s*\d+\s*,\s*)*"'
    r'(?:social_platforms?|social_platform_accounts?|platforms|accounts|data|rows)"\s*:\s*\['
)
_BETWEEN = re.compile(r"[\s,]*")
_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)
_MOST_DIGITS = 4_000
"""Python reads no longer number; such a one is read as infinite, and its row refused for it."""
_JSON_IN_CSV = re.compile(r"\s*[\[{\"]")
_NULL_IN_CSV = ("", "NULL", "\\N")

Found = tuple[dict[str, Any], str]
"""A row, and what is wrong with it where it cannot be read (then it is empty)."""


def rows_of(path: Path) -> Iterator[Found]:
    """Read a file's rows. Raises `InvalidInput` where it cannot be read, or not beyond a certain row."""
    if not path.is_file():
        raise InvalidInput(f"{path}: there is no such file.")
    try:
        with path.open("rb") as file:
            is_json = _begins_as_json(file)
        if is_json:
            with path.open("rb") as file:
                yield from _JsonRows(path, file).rows()
        else:
            with path.open(encoding="utf-8-sig", newline="") as text:
                yield from _csv_rows(path, text)
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{path}: is not UTF-8.") from None


def _begins_as_json(file: BinaryIO) -> bool:
    return file.read(4_096).removeprefix(codecs.BOM_UTF8).lstrip()[:1] in (b"[", b"{")


class _JsonRows:
    """A window that moves over the text. After an object that is broken it goes on with the next line, where objects
    stand in lines; in an array nobody knows where the next one begins."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._json = json.JSONDecoder(parse_int=_number)
        self._text, self._at, self._is_at_end, self._is_array, self._number = "", 0, False, False, 0

    def rows(self) -> Iterator[Found]:
        self._more()
        self._enter()
        while self._next_begins():
            if self._is_array and self._text[self._at] == "]":
                return
            self._number += 1
            yield self._row()

    def _enter(self) -> None:
        wrapper = _WRAPPER.match(self._text)
        start = wrapper.end() if wrapper else len(self._text) - len(self._text.lstrip())
        if wrapper or self._text[start : start + 1] == "[":
            self._is_array = True
            self._at = start if wrapper else start + 1

    def _next_begins(self) -> bool:
        while True:
            between = _BETWEEN.match(self._text, self._at)
            self._at = between.end() if between else self._at
            if self._at < len(self._text):
                return True
            if self._is_at_end:
                if self._is_array:
                    raise InvalidInput(f"{self._path}: ends in the middle, after {self._number} rows.")
                return False
            self._more()

    def _row(self) -> Found:
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._at)
            except RecursionError:
                return self._too_deep()
            except ValueError:
                # What is broken may also not be here as a whole yet.
                if self._is_at_end or len(self._text) - self._at > _LONGEST_ROW:
                    return self._broken()
                self._more()
                continue
            self._at = end
            return (value, "") if isinstance(value, dict) else ({}, "the row is no object")

    def _too_deep(self) -> Found:
        """Go on behind a row that is nested deeper than the parser goes, if it ends at all."""
        while (end := _end_of(self._text, self._at)) is None:
            if self._is_at_end or len(self._text) - self._at > _LONGEST_ROW:
                return self._broken()
            self._more()
        self._at = end
        return {}, "the row is nested too deep"

    def _broken(self) -> Found:
        if self._is_array:
            raise InvalidInput(f"{self._path}: row {self._number} is no JSON, and so nothing after it can be read.")
        while (end := self._text.find("\n", self._at)) < 0 and not self._is_at_end:
            self._at = len(self._text)
            self._more()
        self._at = len(self._text) if end < 0 else end
        return {}, "the row is no JSON"

    def _more(self) -> None:
        """Read as much again as is there already, so that a long row is not looked at too often."""
        kept = self._text[self._at :]
        data = self._file.read(max(_CHUNK, len(kept)))
        self._is_at_end = not data
        self._text, self._at = kept + self._decoder.decode(data, final=self._is_at_end), 0


def _end_of(text: str, start: int) -> int | None:
    """Return where the object or array that begins at ``start`` ends; None where the text ends before."""
    depth = 0
    for found in _STRUCTURE.finditer(text, start):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(found[0], 0)
        if depth == 0:
            return found.end()
    return None


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else math.inf


def _csv_rows(path: Path, text: TextIO) -> Iterator[Found]:
    before = csv.field_size_limit(_LONGEST_ROW)
    reader = csv.reader(text, strict=True)
    try:
        header = next(reader, [])
        if "id" not in header:
            raise InvalidInput(f"{path}: is neither JSON nor CSV with a header that has an id.")
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                yield {}, f"line {reader.line_num} has {len(cells)} values for {len(header)} columns"
            else:
                yield {name: _cell(value) for name, value in zip(header, cells, strict=True)}, ""
    except csv.Error as error:
        raise InvalidInput(f"{path}: is no CSV beyond line {reader.line_num}: {error}.") from None
    finally:
        csv.field_size_limit(before)


def _cell(value: str) -> Any:
    """A JSON column is text in CSV; what is not JSON after all stays text."""
    if value in _NULL_IN_CSV:
        return None
    if _JSON_IN_CSV.match(value):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value
