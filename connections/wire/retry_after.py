"""The header field by which a server says when it may be asked again."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime

__all__ = ["parse_retry_after"]


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Read Retry-After (RFC 9110 10.2.3), seconds or a date, as seconds from ``now``; None when it is neither."""
    text = (value or "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
        # The oldest of HTTP's three formats names no zone; all of them are in UTC (RFC 9110 5.6.7).
        return max(0.0, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now)
    except (ValueError, OverflowError, TypeError):
        return None
