"""What the history page shows: who changed what, when and from which request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

__all__ = ["SHOWN_AT_MOST", "Change", "Entry", "entries"]

SHOWN_AT_MOST = 200
_KINDS = {"+": "Created", "~": "Changed", "-": "Purged"}
# The first four say again what the entry itself says; the last is what a test of the connection found, nobody's edit.
_NOISE = {"created_at", "created_by", "updated_at", "updated_by", "error_message"}


@dataclass(frozen=True)
class Change:
    """One value; ``path`` leads into JSON columns (``api_config.rate_limit.requests_per_hour``)."""

    path: str
    old: Any
    new: Any


@dataclass(frozen=True)
class Entry:
    """One row of a history table, compared with the one before."""

    at: datetime
    what: str
    actor: str
    request_id: str
    address: str | None
    changes: tuple[Change, ...]


def entries(*histories: Any) -> list[Entry]:
    """The newest entries of several histories (query sets of simple-history's rows) together, newest first."""
    found = [entry for history in histories for entry in _entries(history)]
    return sorted(found, key=lambda entry: entry.at, reverse=True)[:SHOWN_AT_MOST]


def _entries(history: Any) -> Iterator[Entry]:
    # One more than is shown: the last one needs something to be compared with.
    rows = list(history.order_by("-history_date", "-history_id")[: SHOWN_AT_MOST + 1])
    for row, before in pairwise([*rows, None]):
        yield Entry(
            at=row.history_date,
            what=_KINDS[row.history_type],
            actor=row.actor,
            request_id=row.request_id,
            address=row.address,
            changes=tuple(_changes(before, row)) if before is not None and row.history_type == "~" else (),
        )


def _changes(before: Any, after: Any) -> Iterator[Change]:
    for field in after.tracked_fields:
        if field.name not in _NOISE:
            old = dict(_flat(field.name, getattr(before, field.attname)))
            new = dict(_flat(field.name, getattr(after, field.attname)))
            for path in dict.fromkeys((*old, *new)):
                if old.get(path) != new.get(path):
                    yield Change(path, old.get(path), new.get(path))


def _flat(path: str, value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(f"{path}.{name}", inner)
    else:
        yield path, value
