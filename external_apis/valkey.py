"""The one Valkey client: a pool per process, short time-outs, and one error when the server is away."""

from __future__ import annotations

from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from external_apis.errors import ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PREFIX", "UNAVAILABLE", "client", "quick_client", "translate_errors"]

PREFIX = "eam:"
"""Begins every key of ours, so that the server may be shared."""

UNAVAILABLE = "Valkey is unavailable."

_TIMEOUT_SECONDS = 2.0
_QUICK_TIMEOUT_SECONDS = 0.5


def client() -> redis.Redis:
    """Return this process's client of ``settings.REDIS_URL``; answers are bytes.

    It connects at first use, survives a fork (its pool notices a new process id) and a restart of the server: a
    connection that turns out to be dead is replaced once. A time-out is not tried again, so that a hanging server costs
    a caller one time-out.
    """
    return _connect(settings.REDIS_URL, _TIMEOUT_SECONDS)


def quick_client() -> redis.Redis:
    """Return another one, for whoever can do without an answer: a hanging server costs it half a second."""
    return _connect(settings.REDIS_URL, _QUICK_TIMEOUT_SECONDS)


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise `ServiceUnavailable` for what redis-py raises in the block; not the cause, which may name the URL."""
    try:
        yield
    except redis.RedisError:
        raise ServiceUnavailable(UNAVAILABLE) from None


@lru_cache(maxsize=8)
def _connect(url: str, timeout_seconds: float) -> redis.Redis:
    return redis.Redis.from_url(
        url,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
    )
