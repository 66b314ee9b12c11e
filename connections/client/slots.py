"""Slots of the providers' rate limits: shared through Valkey, and kept by each process alone while that is away."""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING

from external_apis.errors import ServiceUnavailable
from external_apis.rate_limit import LocalLimiter, decide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from external_apis.rate_limit import Limit

__all__ = ["take"]

logger = logging.getLogger(__name__)

_ASK_AGAIN_SECONDS = 2.0


class _Slots:
    """Calls go on without Valkey, at `LocalLimiter`'s share of the limits: never unlimited, and never all refused."""

    def __init__(self) -> None:
        self._local = LocalLimiter()
        self._away_until = 0.0

    def take(self, limits: Sequence[Limit]) -> float:
        if monotonic() >= self._away_until:
            try:
                decision = decide(limits)
            except ServiceUnavailable:
                # Not every call is to wait for Valkey's time-out; once in a while one looks whether it is back.
                self._away_until = monotonic() + _ASK_AGAIN_SECONDS
                logger.warning("Valkey is away; this process applies a 1/%d of each rate limit.", LocalLimiter.SHARE)
            else:
                return 0.0 if decision.allowed else decision.retry_after_seconds
        decision = self._local.decide(limits)
        return 0.0 if decision.allowed else decision.retry_after_seconds


_slots = _Slots()


def take(limits: Sequence[Limit]) -> float:
    """Take one slot of every limit and return 0, or take none and return the seconds until there is one."""
    return _slots.take(limits)
