"""When a delivery is tried again, and when an endpoint is given up: Svix's rhythm (docs.svix.com/retries)."""

from __future__ import annotations

from datetime import timedelta

__all__ = ["ATTEMPTS", "GIVEN_UP_AFTER", "wait_after"]

_WAITS_SECONDS = (5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 36_000.0)
_JITTER = 0.1
_LONGEST_ASKED_SECONDS = 36_000.0

ATTEMPTS = len(_WAITS_SECONDS) + 1
"""The first of them is made at once."""

GIVEN_UP_AFTER = timedelta(days=5)
"""An endpoint where nothing has succeeded for so long, though it was tried each day, is switched off."""


def wait_after(attempt: int, chance: float, asked_seconds: float | None = None) -> timedelta | None:
    """Return the wait after failed attempt number ``attempt``, from 1; None after the last.

    ``chance``, from 0 to 1, adds up to a tenth, so that what failed together does not come again together.
    ``asked_seconds`` is what the receiver's Retry-After asks for: the wait becomes no shorter than that, but for more
    than ten hours, which are the longest it may ask for.
    """
    if attempt >= ATTEMPTS:
        return None
    seconds = _WAITS_SECONDS[attempt - 1] * (1 + _JITTER * chance)
    return timedelta(seconds=max(seconds, min(asked_seconds or 0.0, _LONGEST_ASKED_SECONDS)))
