"""When a token ends, as social-auth notes it in ``extra_data``: three spellings, read and written in the row's own.

``expires_on`` is a moment; ``expires_in`` counts from ``auth_time``; ``expires`` is either, told apart by its size
(social-core's ``UserMixin.expiration_timedelta``). All are whole seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

__all__ = ["read_expiry", "write_expiry"]

# Two years of seconds: what is more is a moment.
_LARGEST_SPAN = 63_072_000
_LATEST = 32_503_680_000


def read_expiry(data: Mapping[str, Any]) -> datetime | None:
    """Return when the access token ends; None where nobody can tell. A span without ``auth_time`` tells nothing."""
    moment = _seconds(data.get("expires_on"))
    if moment is not None:
        return _at(moment)
    for name in ("expires_in", "expires"):
        seconds = _seconds(data.get(name))
        if seconds is None:
            continue
        if name == "expires" and seconds > _LARGEST_SPAN:
            return _at(seconds)
        since = _seconds(data.get("auth_time"))
        return None if since is None else _at(since + seconds)
    return None


def write_expiry(data: Mapping[str, Any], expires_at: datetime | None, now: datetime) -> dict[str, Any]:
    """Return what of ``extra_data`` changes with a token that was renewed ``now``."""
    changes: dict[str, Any] = {"auth_time": int(now.timestamp())}
    if expires_at is None:
        return changes | {name: None for name in ("expires_on", "expires_in", "expires") if name in data}
    left, moment = max(int((expires_at - now).total_seconds()), 0), int(expires_at.timestamp())
    if "expires_on" in data:
        changes["expires_on"] = moment
    if "expires_in" in data:
        changes["expires_in"] = left
    if "expires" in data or not {"expires_on", "expires_in"} & data.keys():
        changes["expires"] = moment if (_seconds(data.get("expires")) or 0) > _LARGEST_SPAN else left
    return changes


def _seconds(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return int(float(value))
    except (ValueError, OverflowError):
        return None


def _at(seconds: int) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if 0 < seconds < _LATEST else None
