"""Slots of a key's rate limit, bought a few at a time by who asks often: one round trip for many requests.

What is bought counts as used, so all processes together never let more through than the limit. What is not used within
a moment is lost; so little is bought, and only where so much is left, that nobody can tell.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING

from external_apis import throttling

if TYPE_CHECKING:
    from external_apis.authentication import KeyHolder
    from external_apis.throttling import Quota

__all__ = ["charge", "forget"]

_MOST_BOUGHT = 32
_SHARE_OF_REMAINING = 64
_GOOD_SECONDS = 0.25
_MOST_KEYS = 10_000


@dataclass(slots=True)
class _Credit:
    quota: Quota
    left: int
    bought: int
    until: float


class _Purse:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._credits: dict[str, _Credit] = {}

    def charge(self, holder: KeyHolder) -> Quota:
        now = monotonic()
        with self._lock:
            credit = self._credits.get(holder.key_id)
            is_often = credit is not None and now < credit.until
            if credit is not None and is_often and credit.left:
                credit.left -= 1
                return replace(credit.quota, remaining=credit.quota.remaining + credit.left)
        count = 1
        if credit is not None and is_often:
            count = max(1, min(2 * credit.bought, _MOST_BOUGHT, credit.quota.remaining // _SHARE_OF_REMAINING))
        quota = throttling.charge_key(holder, count)
        with self._lock:
            if len(self._credits) >= _MOST_KEYS:
                self._credits.clear()
            left = count - 1 if quota.is_allowed else 0
            self._credits[holder.key_id] = _Credit(quota, left, count, now + _GOOD_SECONDS)
        return replace(quota, remaining=quota.remaining + left)


def charge(holder: KeyHolder) -> Quota:
    """Charge one request to a key, as `throttling.charge_key` does."""
    return _purse().charge(holder)


def forget() -> None:
    """Drop what this process has bought."""
    _purse.cache_clear()


@lru_cache(maxsize=1)
def _purse() -> _Purse:
    return _Purse()
