"""Counters of calls, errors and last use by connection, at no database write and no round trip for a call.

A call adds to this process's memory; a thread hands the sums to Valkey every half second (and at exit), and the
roll-up task takes them from there into the database with `drain`. A killed process loses at most half a second of
counts. Every hand-over carries an id that Valkey remembers, so that one whose answer was lost is not counted twice.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import redis

from external_apis import valkey
from external_apis.ids import new_id

__all__ = ["Batch", "Usage", "drain", "flush", "record"]

logger = logging.getLogger(__name__)

_PENDING = f"{valkey.PREFIX}{{usage}}:pending"
_TAKEN = f"{valkey.PREFIX}{{usage}}:taken"
_LEASE = f"{valkey.PREFIX}{{usage}}:lease"
_SEEN = f"{valkey.PREFIX}{{usage}}:seen:"
_BATCH_ID = b"batch"  # a field of the sums that are taken
_INTERVAL_SECONDS = 0.5
_LEASE_SECONDS = 360  # longer than a task may take


@dataclass(frozen=True, slots=True)
class Usage:
    """What happened to one connection since the last roll-up."""

    calls: int
    errors: int
    last_used_at: datetime


@dataclass(frozen=True, slots=True)
class Batch:
    """What `drain` took; the ``id`` stays the same until the batch has been forgotten, so that it is applied once."""

    id: str
    counts: dict[str, Usage]


class _Recorder:
    """This process's counts that Valkey does not have yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, list[float]] = {}
        self._batch: tuple[str, dict[str, list[float]]] | None = None
        self._sending = threading.Lock()
        self._has_work = threading.Event()
        self._thread: threading.Thread | None = None

    def record(self, connection_id: str, is_error: bool, at: float) -> None:
        with self._lock:
            counts = self._counts.get(connection_id)
            if counts is None:
                counts = self._counts[connection_id] = [0, 0, 0.0]
            counts[0] += 1
            counts[1] += is_error
            counts[2] = max(counts[2], at)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="usage", daemon=True)
                self._thread.start()
        if not self._has_work.is_set():
            self._has_work.set()

    def flush(self) -> bool:
        """Hand everything to Valkey; False when it is away, and the counts stay here."""
        with self._sending:
            while True:
                # A batch keeps its id until Valkey has confirmed it.
                with self._lock:
                    if self._batch is None and self._counts:
                        self._batch = (new_id("use"), self._counts)
                        self._counts = {}
                if self._batch is None:
                    return True
                batch_id, counts = self._batch
                arguments = [item for name, (calls, errors, at) in counts.items() for item in (name, calls, errors, at)]
                client = valkey.client()
                try:
                    _script(client)(keys=[_PENDING, f"{_SEEN}{batch_id}"], args=arguments, client=client)
                except redis.RedisError:
                    return False
                self._batch = None

    def _run(self) -> None:
        is_away = False
        while self._has_work.wait():
            time.sleep(_INTERVAL_SECONDS)
            self._has_work.clear()
            was_away, is_away = is_away, not self.flush()
            if is_away:
                self._has_work.set()
                if not was_away:
                    logger.warning("Valkey is away; counts of calls are kept in memory until it is back.")


_recorder = _Recorder()


def record(connection_id: str, *, is_error: bool, at: float) -> None:
    """Count one call, made at ``at`` (seconds since 1970). Never fails and never waits for Valkey."""
    _recorder.record(connection_id, is_error, at)


def flush() -> bool:
    """Hand this process's counts to Valkey now; False when it is away."""
    return _recorder.flush()


@contextmanager
def drain() -> Iterator[Batch]:
    """Take the counts of all processes, by connection id, for the time of the block.

    They are forgotten when the block ends, and kept for the next drain, under the same id, when it raises or its
    process dies. One block at a time: a second one gets an empty batch. Raises `ServiceUnavailable` without Valkey.
    """
    flush()
    client = valkey.client()
    holder = new_id("lease")
    with valkey.translate_errors():
        is_first = client.set(_LEASE, holder, nx=True, ex=_LEASE_SECONDS)
        batch = _take(client) if is_first else Batch("", {})
    if not is_first:
        yield batch
        return
    try:
        yield batch
    except BaseException:
        with valkey.translate_errors():
            _release(client)(keys=[_LEASE], args=[holder], client=client)
        raise
    with valkey.translate_errors():
        _release(client)(keys=[_LEASE, _TAKEN], args=[holder], client=client)


def _take(client: redis.Redis) -> Batch:
    # What an earlier roll-up left behind comes first; the rest waits for the next one.
    if not client.exists(_TAKEN):
        try:
            client.rename(_PENDING, _TAKEN)
        except redis.ResponseError:  # nothing is pending
            return Batch("", {})
    client.hsetnx(_TAKEN, _BATCH_ID.decode(), new_id("use"))
    fields: Any = client.hgetall(_TAKEN)
    batch_id = fields.pop(_BATCH_ID).decode()
    found: dict[str, dict[str, float]] = {}
    for name, value in fields.items():
        connection_id, _, kind = name.decode().rpartition(":")
        found.setdefault(connection_id, {})[kind] = float(value)
    counts = {
        connection_id: Usage(int(kinds["calls"]), int(kinds["errors"]), datetime.fromtimestamp(kinds["at"], UTC))
        for connection_id, kinds in found.items()
    }
    return Batch(batch_id, counts)


def _start_afresh() -> None:
    """A forked child has neither its parent's thread nor a claim to its parent's counts."""
    global _recorder  # noqa: PLW0603
    _recorder = _Recorder()


os.register_at_fork(after_in_child=_start_afresh)
atexit.register(flush)


@lru_cache(maxsize=8)
def _script(client: redis.Redis) -> Any:
    return client.register_script(_ADD)


@lru_cache(maxsize=8)
def _release(client: redis.Redis) -> Any:
    return client.register_script(_RELEASE)


# KEYS: hash of sums, mark of this batch. ARGV: connection id, calls, errors, last use; and so on.
_ADD = """
if not redis.call('SET', KEYS[2], '1', 'NX', 'EX', 600) then return 0 end
for i = 1, #ARGV, 4 do
  redis.call('HINCRBY', KEYS[1], ARGV[i] .. ':calls', string.format('%.0f', ARGV[i + 1]))
  redis.call('HINCRBY', KEYS[1], ARGV[i] .. ':errors', string.format('%.0f', ARGV[i + 2]))
  local last = tonumber(redis.call('HGET', KEYS[1], ARGV[i] .. ':at') or 0)
  if tonumber(ARGV[i + 3]) > last then redis.call('HSET', KEYS[1], ARGV[i] .. ':at', ARGV[i + 3]) end
end
return 1
"""

# KEYS: lease, and what goes with it. ARGV: who holds it. Only the holder may end it.
_RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', unpack(KEYS))
"""
