"""Slots of a key's rate limit, bought a few at a time by who asks often: one round trip for many requests.

What is bought counts as used, so all processes together never let more through than the limit. What is not used within
a moment is lost; so little is bought, and only where so much is left, that nobody can tell.
"""

from __future__ import annotations

import threading
from dataclasses import replace
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


class _Credit:
    """What one key has left of its purchases. One thread at a time buys more; others take one slot each meanwhile."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._quota: Quota | None = None
        self._left, self._bought, self._until = 0, 1, 0.0
        self._is_buying = False

    def charge(self, holder: KeyHolder) -> Quota:
        with self._lock:
            is_often = self._quota is not None and monotonic() < self._until
            if self._quota is not None and is_often and self._left:
                self._left -= 1
                return replace(self._quota, remaining=self._quota.remaining + self._left)
            if not is_often:
                self._bought = 1
            is_buyer = is_often and not self._is_buying
            count = self._worth_buying() if is_buyer else 1
            self._is_buying = self._is_buying or is_buyer
        try:
            quota = throttling.charge_key(holder, count)
            if count > 1 and not quota.is_allowed:
                count, quota = 1, throttling.charge_key(holder)
        finally:
            if is_buyer:
                self._is_buying = False
        with self._lock:
            self._keep(quota, count, is_buyer=is_buyer)
            return replace(quota, remaining=quota.remaining + self._left)

    def _worth_buying(self) -> int:
        remaining = 0 if self._quota is None else self._quota.remaining
        return max(1, min(2 * self._bought, _MOST_BOUGHT, remaining // _SHARE_OF_REMAINING))

    def _keep(self, quota: Quota, count: int, *, is_buyer: bool) -> None:
        now = monotonic()
        left = self._left if now < self._until else 0
        self._quota, self._left, self._until = quota, left + count - 1, now + _GOOD_SECONDS
        if is_buyer:
            self._bought = count


class _Purse:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._credits: dict[str, _Credit] = {}

    def charge(self, holder: KeyHolder) -> Quota:
        credit = self._credits.get(holder.key_id)
        if credit is None:
            with self._lock:
                if len(self._credits) >= _MOST_KEYS:
                    self._credits.clear()
                credit = self._credits.setdefault(holder.key_id, _Credit())
        return credit.charge(holder)


def charge(holder: KeyHolder) -> Quota:
    """Charge one request to a key, as `throttling.charge_key` does."""
    return _purse().charge(holder)


def forget() -> None:
    """Drop what this process has bought."""
    _purse.cache_clear()


@lru_cache(maxsize=1)
def _purse() -> _Purse:
    return _Purse()
