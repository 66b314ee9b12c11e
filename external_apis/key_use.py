"""When and from where keys were last used, and who fails to authenticate: noted in Valkey, off the database's path."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import redis
import structlog
from django.db import Error, transaction
from django.dispatch import Signal

from external_apis import audit, valkey
from external_apis.errors import NotAuthenticated, TokenExpired
from external_apis.networks import counted_as

__all__ = [
    "FAILURES",
    "Use",
    "authentication_failing",
    "drain_uses",
    "forget",
    "may_be_noted",
    "note_failure",
    "note_use",
]

authentication_failing = Signal()
"""Sent once when `FAILURES` authentications from one ``address`` (a keyword; of IPv6 a network such as
``2001:db8::/64``) have failed within a minute."""

FAILURES = 10

log = structlog.get_logger(__name__)

_WINDOW_SECONDS = 60
_NOTED_EVERY_SECONDS = 10.0
_MOST_NOTED = 10_000
_USES = f"{valkey.PREFIX}{{keys}}:uses"
_TAKEN = f"{valkey.PREFIX}{{keys}}:taken"


@dataclass(frozen=True, slots=True)
class Use:
    """The last use of one key, seen coarsely: each process notes one every ten seconds."""

    at: datetime
    address: str | None


def note_use(key_id: str, address: str | None) -> None:
    """Note that a key is used now; a round trip once in ten seconds, none otherwise. Without Valkey it is forgotten."""
    now, noted = time.monotonic(), _noted()
    if now < noted.get(key_id, 0.0):
        return
    if len(noted) > _MOST_NOTED:
        noted.clear()
    noted[key_id] = now + _NOTED_EVERY_SECONDS
    with suppress(redis.RedisError):
        valkey.quick_client().hset(_USES, key_id, f"{time.time()} {address or ''}")


def may_be_noted(key_id: str) -> bool:
    """Whether a use of a key waits to be stored; without Valkey it may."""
    try:
        client = valkey.quick_client()
        return any(client.hexists(name, key_id) for name in (_USES, _TAKEN))
    except redis.RedisError:
        return True


@contextmanager
def drain_uses() -> Iterator[Mapping[str, Use]]:
    """Take the noted uses of all processes by key id; they are kept for the next time when the block raises.

    Raises `ServiceUnavailable` without Valkey.
    """
    client = valkey.client()
    with valkey.translate_errors():
        # What an earlier block left behind comes first; storing it twice changes nothing.
        if not client.exists(_TAKEN):
            with suppress(redis.ResponseError):  # nothing was noted
                client.rename(_USES, _TAKEN)
        fields: Any = client.hgetall(_TAKEN)
    yield {name.decode(): _use(value.decode()) for name, value in fields.items()}
    with valkey.translate_errors():
        client.delete(_TAKEN)


def note_failure(address: str | None, error: NotAuthenticated) -> None:
    """Count a failed authentication; the tenth from one address within a minute raises an event, once a minute.

    IPv6 addresses of one network of 64 bits count, and are told, as one. A token that has merely expired does not
    count. Without Valkey nothing is counted; an event that cannot be written is left to the next failure to raise, and
    changes nothing of the answer.
    """
    if isinstance(error, TokenExpired) or not address:
        return
    log.info("authentication failed", address=address, code=error.code)
    counted = counted_as(address) or ""
    with suppress(redis.RedisError):
        if _is_tenth(counted) and not _raise_event(counted):
            _forget_that_it_was_told(counted)


def forget() -> None:
    """Drop what this process remembers of uses that it has noted."""
    _noted.cache_clear()


@lru_cache(maxsize=1)
def _noted() -> dict[str, float]:
    return {}


def _use(value: str) -> Use:
    at, _, address = value.partition(" ")
    return Use(datetime.fromtimestamp(float(at), UTC), address or None)


def _is_tenth(address: str) -> bool:
    client = valkey.quick_client()
    keys = [_key(address, "times"), _key(address, "told")]
    return bool(_script(client)(keys=keys, args=[FAILURES, _WINDOW_SECONDS], client=client))


def _forget_that_it_was_told(address: str) -> None:
    valkey.quick_client().delete(_key(address, "told"))


def _key(address: str, name: str) -> str:
    return f"{valkey.PREFIX}{{failing:{address}}}:{name}"


def _raise_event(address: str) -> bool:
    """Write the event and send the signal; return whether it could be written."""
    log.warning("authentication keeps failing", address=address, failures=FAILURES, seconds=_WINDOW_SECONDS)
    try:
        with transaction.atomic():
            audit.record_about("authentication.failing", "address", address, {"failures": FAILURES})
    except Error:
        log.exception("the event of failing authentications cannot be written", address=address)
        return False
    authentication_failing.send_robust(sender=None, address=address)
    return True


@lru_cache(maxsize=8)
def _script(client: redis.Redis) -> Any:
    return client.register_script(_COUNT)


# KEYS: times of the last failures, newest first; mark that it was told. ARGV: how many failures, in how many seconds.
# Answers 1 to whoever is to tell of it, once in that time over all processes.
_COUNT = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
redis.call('LPUSH', KEYS[1], string.format('%.6f', now))
redis.call('LTRIM', KEYS[1], 0, ARGV[1] - 1)
redis.call('EXPIRE', KEYS[1], ARGV[2])
local first = redis.call('LINDEX', KEYS[1], ARGV[1] - 1)
if not first or now - tonumber(first) > tonumber(ARGV[2]) then return 0 end
if not redis.call('SET', KEYS[2], '1', 'NX', 'EX', ARGV[2]) then return 0 end
return 1
"""
