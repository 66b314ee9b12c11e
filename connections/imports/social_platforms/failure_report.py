"""The rows that were not imported, one JSON object a line, for somebody to mend: no secret among them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from external_apis.errors import InvalidInput

__all__ = ["FailureReport"]


class FailureReport:
    """Makes the file with the first row (readable by its owner alone), and adds to what is there on going on.

    A row that stands there already is not written again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO | None = None
        self._written: set[tuple[str, str]] = set()

    def add(self, table: str, row_id: str, reason: str, message: str, **facts: Any) -> bool:
        """Write one row; tell whether it was new. Raises `InvalidInput` where the file cannot be written."""
        if (table, row_id) in self._written and row_id:
            return False
        try:
            if self._file is None:
                self._file = self._open()
                return self.add(table, row_id, reason, message, **facts)
            line = {"table": table, "id": row_id, "reason": reason, "message": message, **facts}
            self._file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
        except OSError as error:
            raise InvalidInput(f"{self.path}: {error.strerror}.") from None
        self._written.add((table, row_id))
        return True

    def flush(self) -> None:
        """See to it that what was added is in the file before the batch is committed."""
        if self._file is not None:
            self._file.flush()

    @property
    def is_written(self) -> bool:
        return self._file is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def _open(self) -> TextIO:
        is_cut_off = False
        if self.path.exists():
            with self.path.open(encoding="utf-8", errors="replace") as before:
                for line in before:
                    is_cut_off = not line.endswith("\n")
                    if found := _named(line):
                        self._written.add(found)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        file = os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace")
        if is_cut_off:
            file.write("\n")
        return file


def _named(line: str) -> tuple[str, str] | None:
    try:
        found = json.loads(line)
        return found["table"], found["id"]
    except (ValueError, TypeError, KeyError):
        return None  # the last one may have been cut off
