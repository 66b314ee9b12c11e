"""The rows that were not imported, one JSON object a line, for somebody to mend: no secret among them."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from external_apis.errors import InvalidInput

__all__ = ["FailureReport"]

# Neither a link's target nor a pipe that nobody reads, nor a terminal that would become ours.
_WARILY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_LONGEST_LINE = 65_536
"""Bytes; a longer one names no row to us."""


class FailureReport:
    """A file that is made with the first row, unless it is opened before (readable by its owner alone), and added to
    where it is there.

    A row that stands there already is not written again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO | None = None
        self._written: set[tuple[str, str]] = set()
        self._elsewhere: set[tuple[str, str]] = set()

    def open(self) -> TextIO:
        """Open the file, to learn that it can be written before a row fails. Raises `InvalidInput` where it cannot."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _WARILY, 0o600)
        except OSError as error:
            raise self._refused(error.strerror) from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise self._refused("Not a regular file")
        self._written |= set(_named_in(descriptor))
        size = os.fstat(descriptor).st_size
        is_cut_off = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        self._file = os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace")
        if is_cut_off:
            self._file.write("\n")
        return self._file

    def pass_over(self, earlier: Path) -> None:
        """Write no row that stands in an earlier report either, as far as that can still be read."""
        with suppress(OSError):
            descriptor = os.open(earlier, os.O_RDONLY | _WARILY)
            try:
                if stat.S_ISREG(os.fstat(descriptor).st_mode):
                    self._elsewhere |= set(_named_in(descriptor))
            finally:
                os.close(descriptor)

    def add(self, table: str, row_id: str, reason: str, message: str, **facts: Any) -> bool:
        """Write one row; tell whether it was new. Raises `InvalidInput` where the file cannot be written."""
        file = self._file or self.open()
        if row_id and ((table, row_id) in self._written or (table, row_id) in self._elsewhere):
            return False
        line = {"table": table, "id": row_id, "reason": reason, "message": message, **facts}
        try:
            file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
        except OSError as error:
            raise self._refused(error.strerror) from None
        self._written.add((table, row_id))
        return True

    def flush(self) -> None:
        """See to it that what was added is in the file before the batch is committed. Raises as `add` does."""
        try:
            if self._file is not None:
                self._file.flush()
        except OSError as error:
            raise self._refused(error.strerror) from None

    @property
    def is_written(self) -> bool:
        """Whether there are rows in it, of this import or of an earlier one."""
        return bool(self._written)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is None:
            return
        try:
            self._file.close()
        except OSError as problem:
            if error is None:
                raise self._refused(problem.strerror) from None

    def _refused(self, problem: str | None) -> InvalidInput:
        return InvalidInput(f"{self.path}: {problem}. Rows that fail are written there: name another file (--report).")


def _named_in(descriptor: int) -> Iterator[tuple[str, str]]:
    with os.fdopen(os.dup(descriptor), "rb") as file:
        while line := file.readline(_LONGEST_LINE):
            if found := _named(line):
                yield found


def _named(line: bytes) -> tuple[str, str] | None:
    try:
        found = json.loads(line.decode(errors="replace"))
    except (ValueError, RecursionError):
        return None  # the last one may have been cut off
    if not isinstance(found, dict):
        return None
    table, row_id = found.get("table"), found.get("id")
    return (table, row_id) if isinstance(table, str) and isinstance(row_id, str) else None
