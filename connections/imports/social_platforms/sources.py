"""What the importer asks of a source: its platforms, its accounts in a lasting order, and what else points at them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Read", "Reference", "Source"]


@dataclass(frozen=True)
class Read:
    """One row of a source, of the types that JSON has. ``position`` is where to go on after it; a row that cannot be
    read has a ``problem``."""

    row: Mapping[str, Any]
    position: Mapping[str, Any]
    problem: str = ""
    is_past: bool = False
    """Whether it stands before the position from which on rows are asked for: looked at, and not imported."""


@dataclass(frozen=True)
class Reference:
    """A column of another table of the old database that points, or seems to point, at one of the two tables."""

    table: str
    column: str
    target: str
    is_foreign_key: bool
    rows_estimate: int
    """What the old database estimates; -1 where it does not know."""


class Source(Protocol):
    """Where the old rows are. All of it raises `InvalidInput` where the source cannot be read (any more)."""

    @property
    def description(self) -> str:
        """The source for people, without a secret."""
        ...

    def check(self) -> None:
        """Find out whether it can be read at all, before anything is noted about it."""
        ...

    def platforms(self) -> Iterator[Read]:
        """Read all platforms."""
        ...

    def accounts(self, after: Mapping[str, Any]) -> Iterator[Read]:
        """Read all accounts, those up to the position ``after`` as past ones; empty, from the beginning."""
        ...

    def count_accounts(self) -> int | None:
        """How many there are; None where only reading them tells."""
        ...

    def references(self) -> list[Reference]:
        """Find what else in the source points at platforms and accounts."""
        ...
