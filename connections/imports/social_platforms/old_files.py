"""The two tables as files: platforms in one, accounts in the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from connections.imports.social_platforms.row_streams import rows_of
from connections.imports.social_platforms.sources import Read, Reference
from external_apis.errors import InvalidInput

__all__ = ["OldFiles"]


class OldFiles:
    """JSON or CSV files; see `row_streams`. A row's position is its number."""

    def __init__(self, platforms: Path, accounts: Path) -> None:
        self._platforms, self._accounts = platforms, accounts
        self.description = f"{platforms} and {accounts}"

    def check(self) -> None:
        for path in (self._platforms, self._accounts):
            if not path.is_file():
                raise InvalidInput(f"{path}: there is no such file.")

    def platforms(self) -> Iterator[Read]:
        return _numbered(self._platforms, 0)

    def accounts(self, after: Mapping[str, Any]) -> Iterator[Read]:
        return _numbered(self._accounts, int(after.get("rows", 0)))

    def count_accounts(self) -> int | None:
        return None

    def references(self) -> list[Reference]:
        """Files tell of nothing beside them."""
        return []


def _numbered(path: Path, past: int) -> Iterator[Read]:
    for number, (row, problem) in enumerate(rows_of(path), start=1):
        yield Read(row, {"rows": number}, problem, is_past=number <= past)
