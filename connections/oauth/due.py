"""When a token is renewed, tried again, or warned of: times alone, no tables."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime, timedelta

__all__ = ["back_off", "margin_begin", "renewal_time", "warning_time"]

_LONGEST_JITTER = timedelta(minutes=5)
_WARNING = timedelta(days=1)
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS, _LONGEST_PAUSE_OF_ENDED_SECONDS = 30.0, 900.0, 300.0
_LONGEST_RETRY_AFTER_SECONDS = 86_400.0
_LAST_ATTEMPT = timedelta(seconds=30)
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


def renewal_time(connection_id: str, expires_at: datetime, now: datetime, margin_seconds: float) -> datetime:
    """Return when a token that is stored now is to be renewed.

    That is the margin (of a short-lived one at most half its life) before its end, and up to five minutes (at most a
    tenth of its life) earlier, always the same for one connection and expiry: of a thousand tokens made in one second
    each has a moment of its own.
    """
    life = max(expires_at - now, timedelta())
    jitter = min(life / 10, _LONGEST_JITTER) * _share(f"{connection_id} {expires_at.timestamp()}")
    return margin_begin(expires_at, now, margin_seconds) - jitter


def margin_begin(expires_at: datetime, stored_at: datetime, margin_seconds: float) -> datetime:
    """Return from when on a token is so near its end that it is renewed before it is used."""
    life = max(expires_at - stored_at, timedelta())
    return max(expires_at, _EARLIEST) - min(timedelta(seconds=margin_seconds), life / 2)


def warning_time(expires_at: datetime, now: datetime) -> datetime:
    """Return when to warn of the end of a token that nothing renews: a day before, at the latest at half its life."""
    return max(expires_at, _EARLIEST) - min(_WARNING, max(expires_at - now, timedelta()) / 2)


def back_off(
    connection_id: str, failures: int, now: datetime, expires_at: datetime | None, retry_after: float | None
) -> datetime:
    """Return when to try again after the ``failures``-th failure in a row (1 for the first).

    Half a minute, doubled each time up to a quarter of an hour (five minutes once the token has ended), spread by a
    fifth; one attempt always falls into the token's last half minute. A provider's own ``Retry-After`` goes before all
    that, up to a day.
    """
    if retry_after is not None:
        return now + timedelta(seconds=min(max(retry_after, 1.0), _LONGEST_RETRY_AFTER_SECONDS))
    has_ended = expires_at is not None and expires_at <= now
    longest = _LONGEST_PAUSE_OF_ENDED_SECONDS if has_ended else _LONGEST_PAUSE_SECONDS
    seconds = min(_FIRST_PAUSE_SECONDS * 2 ** min(failures - 1, 10), longest)
    again = now + timedelta(seconds=seconds * (0.8 + 0.2 * _share(f"{connection_id} {failures}")))
    if expires_at is not None and now < (last := max(expires_at, _EARLIEST) - _LAST_ATTEMPT):
        return min(again, last)
    return again


def _share(text: str) -> float:
    """A number from 0 to below 1 that is always the same for a text."""
    return zlib.crc32(text.encode()) / 2**32
