"""How many requests a caller of our own APIs may make: a smooth limit in Valkey, decided together by all processes.

All of a limit may come at once; from then on one more is let in each 1/N of its time (GCRA, see `rate_limit`). While
Valkey is away each process applies a quarter of each limit by itself, as calls out do: never unlimited, never all
refused.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from math import ceil

import structlog
from django.conf import settings
from django.utils.crypto import salted_hmac

from external_apis.errors import RateLimited, ServiceUnavailable
from external_apis.json_output import timestamp
from external_apis.key_holder import KeyHolder
from external_apis.networks import counted_as
from external_apis.rate_limit import Decision, Limit, LocalLimiter, charge, own_limit

__all__ = ["Quota", "charge_address", "charge_key", "charge_open", "charge_own_limit", "charge_page", "charge_tenant"]

log = structlog.get_logger(__name__)

HOUR, MINUTE = 3600, 60
_ASK_AGAIN_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Quota:
    """What is left to a caller. ``reset_at`` counts seconds since 1970: when the limit is full again, or, where the
    request is refused, when the next one is let in; so is ``retry_after_seconds`` from now. ``limit_of`` says whose it
    is (``key``, ``address``, ``tenant``); ``headers_begin`` is how the headers' names do."""

    is_allowed: bool
    limit: int
    remaining: int
    reset_at: int
    retry_after_seconds: float = 0.0
    limit_of: str = "key"
    headers_begin: str = "X-RateLimit"

    @property
    def headers(self) -> Mapping[str, str]:
        """The three headers of seed 001, and ``Retry-After`` for a request that is refused."""
        headers = {
            f"{self.headers_begin}-Limit": str(self.limit),
            f"{self.headers_begin}-Remaining": str(self.remaining),
            f"{self.headers_begin}-Reset": str(self.reset_at),
        }
        return headers if self.is_allowed else {**headers, "Retry-After": str(max(1, ceil(self.retry_after_seconds)))}

    def require(self) -> None:
        """Raise `RateLimited`, in the seed's words, where the request is refused."""
        if not self.is_allowed:
            raise RateLimited(
                "Rate limit exceeded. Please retry after the reset time.",
                retry_after_seconds=self.retry_after_seconds,
                details={
                    "resetAt": timestamp(datetime.fromtimestamp(self.reset_at, UTC)),
                    "limit_of": self.limit_of,
                },
            )


def charge_key(holder: KeyHolder, requests: int = 1) -> Quota:
    """Charge a request, or several at once, to a key: to its own limit, or to ``ADMIN_API_RATE_LIMIT`` an hour."""
    return _charge("key", holder.key_id, holder.rate_limit or settings.ADMIN_API_RATE_LIMIT, HOUR, requests)


def charge_own_limit(holder: KeyHolder) -> Quota | None:
    """Charge one request to the limit that a key has of its own, which counts for all APIs together; None without."""
    return None if holder.rate_limit is None else charge_key(holder)


def charge_address(address: str | None) -> Quota:
    """Charge one request that nobody is known for to its address, of IPv6 to its network (see `networks`); all
    without an address share one limit."""
    return _charge("address", _caller(address), settings.ADMIN_API_RATE_LIMIT, HOUR)


def charge_open(address: str | None) -> Quota:
    """Charge one request that nobody need be known for to its address, apart from `charge_address`: whoever guesses
    keys keeps no monitor behind the same address from asking how we are."""
    return _charge("open", _caller(address), settings.ADMIN_API_RATE_LIMIT, HOUR, limit_of="address")


def charge_page(name: str, address: str | None, count: int) -> Quota:
    """Charge one request for something public to its address, which may ask for that ``count`` times a minute."""
    return _charge(name, _caller(address), count, MINUTE, limit_of="address")


def charge_tenant(name: str, count: int, period_seconds: int = MINUTE) -> Quota:
    """Charge one request to a tenant."""
    return _charge("tenant", name, count, period_seconds)


# --- parts --------------------------------------------------------------------------------------------------------


def _caller(address: str | None) -> str | None:
    """Return a keyed digest of whom an address stands for: Valkey writes the names of limits to its disk."""
    if (counted := counted_as(address)) is None:
        return None
    return salted_hmac("external_apis.throttling", counted, algorithm="sha256").hexdigest()[:32]


def _charge(
    kind: str, name: str | None, count: int, period_seconds: int, requests: int = 1, *, limit_of: str = ""
) -> Quota:
    limit = own_limit(f"{kind}:{name}", count, period_seconds)
    decision = _meter().charge(limit, requests)
    wait = decision.reset_after_seconds if decision.allowed else decision.retry_after_seconds
    return Quota(
        decision.allowed,
        count,
        decision.remaining,
        ceil(time.time() + wait),
        decision.retry_after_seconds,
        limit_of or kind,
    )


class _Meter:
    """The limits as this process charges them: in Valkey, and by itself while that is away."""

    def __init__(self) -> None:
        self._local = LocalLimiter()
        self._looking = threading.Lock()
        self._away_until = 0.0  # 0 while Valkey is there

    def charge(self, limit: Limit, requests: int) -> Decision:
        if self._is_there():
            try:
                decision = charge(limit, requests)
            except ServiceUnavailable:
                self._note_absence()
            else:
                self._away_until = 0.0
                return decision
        return self._local.decide([limit], requests)

    def _is_there(self) -> bool:
        """Tell whether to ask Valkey; while it is away one caller looks for all, every three seconds."""
        if not self._away_until:
            return True
        with self._looking:
            now = time.monotonic()
            if now < self._away_until:
                return False
            self._away_until = now + _ASK_AGAIN_SECONDS
            return True

    def _note_absence(self) -> None:
        if not self._away_until:
            log.warning("Valkey is away; this process applies a share of each rate limit", share=LocalLimiter.SHARE)
        self._away_until = time.monotonic() + _ASK_AGAIN_SECONDS


@lru_cache(maxsize=1)
def _meter() -> _Meter:
    return _Meter()
