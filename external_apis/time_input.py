"""Times as they are sent to us: ISO 8601, and none that a time zone could not show."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field

__all__ = ["Day", "Moment", "bounded"]

# A year of room on either side: PostgreSQL, Python and each time zone have to be able to hold and show it.
_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9998, 12, 31, tzinfo=UTC)
_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = re.compile(_DAY + r"[Tt ][0-9]{2}:[0-9]{2}.*", re.ASCII)


def bounded(moment: datetime) -> datetime:
    """Return an aware time in UTC. Raises `ValueError` for one outside of the years 1970 to 9998."""
    if not _EARLIEST <= moment <= _LATEST:
        raise ValueError("is not between the years 1970 and 9998")
    return moment.astimezone(UTC)


def _written_out(value: Any) -> Any:
    """Pydantic takes numbers, as numbers and as text, for seconds since 1970."""
    if isinstance(value, datetime) or (isinstance(value, str) and _TIME.fullmatch(value)):
        return value
    raise ValueError("is not a time such as 2026-01-15T10:30:00Z")


def _written_out_day(value: Any) -> Any:
    if isinstance(value, date) or (isinstance(value, str) and re.fullmatch(_DAY, value)):
        return value
    raise ValueError("is not a day such as 2026-01-15")


Moment = Annotated[AwareDatetime, BeforeValidator(_written_out), AfterValidator(bounded)]
"""A time with its offset, in UTC once it is read."""

Day = Annotated[date, Field(ge=_EARLIEST.date(), le=_LATEST.date()), BeforeValidator(_written_out_day)]
"""A day, in the same years."""
