"""How values look in our JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import PlainSerializer


def timestamp(moment: datetime) -> str:
    """Return UTC with milliseconds and ``Z``: ``2026-01-15T10:30:00.000Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Timestamp = Annotated[datetime, PlainSerializer(timestamp, return_type=str, when_used="json")]
"""A time in a described answer."""
