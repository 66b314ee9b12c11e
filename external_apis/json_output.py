"""How values look in our JSON."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any

from pydantic import BaseModel, PlainSerializer


def timestamp(moment: datetime) -> str:
    """Return UTC with milliseconds and ``Z``: ``2026-01-15T10:30:00.000Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def plain(value: Any) -> Any:
    """Return a column's value, or a described answer, as JSON has it."""
    if isinstance(value, datetime):
        return timestamp(value)
    if isinstance(value, date):
        return value.isoformat()
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


Timestamp = Annotated[datetime, PlainSerializer(timestamp, return_type=str, when_used="json")]
"""A time in a described answer."""
