"""When a call is tried again, and how long that waits: a policy as an immutable object.

Seed 004's rules: no 4xx but 429, a wait that doubles, jitter, a cap, and Retry-After where the provider sends one.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

from external_apis.errors import CallError, CallTimeout, ConnectFailed, GraphqlError, UpstreamError, UpstreamRateLimited

if TYPE_CHECKING:
    from connections.client.outgoing import Outgoing
    from external_apis.call_config import RetryConfig

__all__ = ["Clock", "RetryPolicy"]

_IDEMPOTENT_METHODS = frozenset(("DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE"))  # RFC 9110 9.2.2
_UNSAFE_METHODS = frozenset(("PATCH", "POST"))
_IDEMPOTENCY_HEADERS = ("Idempotency-Key", "X-Idempotency-Key", "PayPal-Request-Id", "X-Request-Idempotency-Key")


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and chance, given from outside so that tests need not wait: seconds, and a number from 0 to 1."""

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """``max_attempts`` counts the first one. Defaults are seed 004's: 5 attempts, 1 s doubling, 30 s cap, jitter."""

    max_attempts: int = 5
    backoff_ms: int = 1000
    cap_ms: int = 30_000
    jitter_ms: int = 1000
    deadline_ms: int | None = None
    idempotency_header: str | None = None

    @classmethod
    def of(cls, config: RetryConfig | None) -> RetryPolicy:
        """Return the policy of a provider: ``max_retries`` are those after the first attempt."""
        if config is None:
            return cls()
        return cls(
            max_attempts=config.max_retries + 1,
            backoff_ms=config.backoff_ms,
            cap_ms=config.max_backoff_ms,
            jitter_ms=config.backoff_ms if config.jitter_ms is None else config.jitter_ms,
            deadline_ms=config.deadline_ms,
            idempotency_header=config.idempotency_header,
        )

    def mark(self, request: Outgoing) -> None:
        """Give a POST or PATCH a key that stays the same in all its attempts, where the provider knows such a thing."""
        if header := self.missing_key_header(request):
            request.headers[header] = str(uuid4())

    def missing_key_header(self, request: Outgoing) -> str | None:
        """Return the header in which `mark` would put a key, None where there is nothing to add."""
        header = self.idempotency_header
        return header if header and request.method in _UNSAFE_METHODS and header not in request.headers else None

    def wait_seconds(self, error: CallError, attempt: int, *, is_repeatable: bool, chance: float) -> float | None:
        """Return the wait before the next attempt, or None when the error of attempt number ``attempt`` stands.

        A request that is not repeatable is sent again only after a refusal (429, 503), or when nothing was sent.
        """
        if attempt >= self.max_attempts or not error.is_transient:
            return None
        if not (is_repeatable or _was_not_taken(error)):
            return None
        if isinstance(error, (UpstreamError, GraphqlError)) and error.retry_after_seconds is not None:
            return error.retry_after_seconds
        return min(self.backoff_ms * 2.0 ** (attempt - 1) + self.jitter_ms * chance, self.cap_ms) / 1000

    def is_repeatable(self, request: Outgoing, *, is_ours: bool = True) -> bool:
        """Tell whether sending it twice does no more than sending it once: by its method, or by an idempotency key.

        A key under one of the usual names counts where the caller knows the provider, as in a request that ``is_ours``;
        in any other only under the name that the provider is configured with.
        """
        names = (self.idempotency_header,) if self.idempotency_header else _IDEMPOTENCY_HEADERS if is_ours else ()
        return request.method in _IDEMPOTENT_METHODS or any(name in request.headers for name in names)


def _was_not_taken(error: CallError) -> bool:
    if error.may_have_happened:
        return False
    if isinstance(error, UpstreamError):
        return isinstance(error, UpstreamRateLimited) or error.upstream_status == 503
    return isinstance(error, (CallTimeout, ConnectFailed, GraphqlError))
