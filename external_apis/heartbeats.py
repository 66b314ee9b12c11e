"""Signs of life of the workers and the scheduler: a key in Valkey that each renews and that expires without them."""

from __future__ import annotations

from contextlib import suppress

import redis

from external_apis import valkey

__all__ = ["LIVES_SECONDS", "note", "seconds_since"]

LIVES_SECONDS: dict[str, float] = {"worker": 20, "slowWorker": 20, "beat": 45}
"""How long a sign counts: a worker gives one every 2 s, the scheduler with each task that it sends, every 10 s."""


def note(kind: str) -> None:
    """Give a sign of life; without Valkey there is nobody to see it."""
    with suppress(redis.RedisError):
        valkey.quick_client().set(_key(kind), b"1", px=round(LIVES_SECONDS[kind] * 1000))


def seconds_since(kind: str) -> float | None:
    """Return how long ago the last sign was given, None where it no longer counts. Raises `ServiceUnavailable`."""
    with valkey.translate_errors():
        left_ms = valkey.quick_client().pttl(_key(kind))
    # Told by Valkey's clock alone: those of two machines may differ.
    return None if left_ms <= 0 else max(0.0, LIVES_SECONDS[kind] - left_ms / 1000)


def _key(kind: str) -> str:
    return f"{valkey.PREFIX}alive:{kind}"
