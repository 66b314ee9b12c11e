"""What is counted of calls, at no database write and no round trip for a call.

A call adds to this process's memory; a thread hands the sums to Valkey every half second (and at exit), and the
roll-up task takes them from there into the database with `drain`. A killed process loses at most half a second of
counts. Every hand-over carries an id that Valkey remembers, so that one whose answer was lost is not counted twice.
While Valkey is away the sums are kept here, up to a bound; what comes on top is lost.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import redis

from connections.client.measures import CALLS, ERRORS, Bag
from connections.client.samples import Sample
from external_apis import valkey
from external_apis.ids import new_id

__all__ = ["Batch", "Period", "Usage", "drain", "flush", "keep", "record"]

logger = logging.getLogger(__name__)

_PENDING = f"{valkey.PREFIX}{{usage}}:sums"
_TAKEN = f"{valkey.PREFIX}{{usage}}:sums-taken"
_LEASE = f"{valkey.PREFIX}{{usage}}:lease"
_SEEN = f"{valkey.PREFIX}{{usage}}:seen:"
_BATCH_ID = b"batch"  # a field of the sums that are taken
_SAMPLES = b"samples"  # and one of those that are pending: how many samples there are
_LAST_USE, _SAMPLE = "at", "call"
_INTERVAL_SECONDS = 0.5
_LEASE_SECONDS = 360  # longer than a task may take
_MOST_PERIODS, _MOST_SAMPLES, _MOST_SAMPLES_WAITING = 5_000, 500, 5_000

Period = tuple[str, int]
"""A connection's id, and a minute since 1970."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What happened to one connection since the last roll-up."""

    calls: int
    errors: int
    last_used_at: datetime


@dataclass(frozen=True, slots=True)
class Batch:
    """What `drain` took; the ``id`` stays the same until the batch has been forgotten, so that it is applied once.

    ``counts`` sums the calls of ``periods`` up by connection.
    """

    id: str
    counts: dict[str, Usage] = field(default_factory=dict)
    periods: dict[Period, Bag] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)


@dataclass(slots=True)
class _Sums:
    """``id`` is given when they are handed over."""

    id: str = ""
    periods: dict[Period, Bag] = field(default_factory=dict)
    last_use: dict[str, float] = field(default_factory=dict)
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=_MOST_SAMPLES))

    def arguments(self) -> list[Any]:
        """Return them as the script takes them: pairs of numbers to add, of last uses, and of samples."""
        numbers = [
            item
            for (name, minute), bag in self.periods.items()
            for kind, number in bag.items()
            for item in (f"{name}|{minute}|{kind}", number)
        ]
        uses = [item for name, at in self.last_use.items() for item in (f"{name}|0|{_LAST_USE}", at)]
        samples = [
            item
            for sample in self.samples
            for item in (f"{sample.connection_id}|{new_id('call')}|{_SAMPLE}", json.dumps(sample.facts()))
        ]
        return [len(numbers), len(uses), *numbers, *uses, *samples]


class _Recorder:
    """This process's counts that Valkey does not have yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums = _Sums()
        self._batch: _Sums | None = None
        self._sending = threading.Lock()
        self._has_work = threading.Event()
        self._thread: threading.Thread | None = None
        self._good = 0

    def record(self, connection_id: str, bag: Bag, at: float) -> None:
        minute = int(at // 60)
        with self._lock:
            sums = self._sums
            known = sums.periods.get((connection_id, minute))
            if known is not None:
                for name, number in bag.items():
                    known[name] = known.get(name, 0) + number
            elif len(sums.periods) < _MOST_PERIODS:
                sums.periods[connection_id, minute] = bag
            if CALLS in bag and at > sums.last_use.get(connection_id, 0.0):
                sums.last_use[connection_id] = at
        self._wake()

    def keep(self, sample: Sample) -> None:
        with self._lock:
            self._sums.samples.append(sample)
        self._wake()

    def wants(self, one_in: int) -> bool:
        if not one_in:
            return False
        with self._lock:
            self._good += 1
            return self._good % one_in == 0

    def _wake(self) -> None:
        if self._has_work.is_set():
            return
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="usage", daemon=True)
                self._thread.start()
        self._has_work.set()

    def flush(self) -> bool:
        """Hand everything to Valkey; False when it is away, and the counts stay here."""
        with self._sending:
            while True:
                # A batch keeps its id until Valkey has confirmed it.
                with self._lock:
                    if self._batch is None and (self._sums.periods or self._sums.samples):
                        self._batch, self._sums = self._sums, _Sums()
                        self._batch.id = new_id("use")
                if self._batch is None:
                    return True
                client = valkey.client()
                keys = [_PENDING, f"{_SEEN}{self._batch.id}"]
                try:
                    _script(client)(keys=keys, args=self._batch.arguments(), client=client)
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


def record(connection_id: str, bag: Bag, *, at: float) -> None:
    """Count what one call, made at ``at`` (seconds since 1970), adds; the bag is given away.

    Never fails and never waits for Valkey.
    """
    _recorder.record(connection_id, bag, at)


def keep(make: Callable[[], Sample], *, is_error: bool, one_in: int) -> None:
    """Keep a call that failed, or every ``one_in``-th good one of this process (0: none)."""
    if is_error or _recorder.wants(one_in):
        _recorder.keep(make())


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
        batch = _take(client) if is_first else Batch("")
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
            return Batch("")
    client.hsetnx(_TAKEN, _BATCH_ID.decode(), new_id("use"))
    fields: Any = client.hgetall(_TAKEN)
    batch = Batch(fields.pop(_BATCH_ID).decode())
    fields.pop(_SAMPLES, None)
    last_use: dict[str, float] = {}
    for name, value in fields.items():
        connection_id, which, kind = name.decode().rsplit("|", 2)
        if kind == _LAST_USE:
            last_use[connection_id] = float(value)
        elif kind == _SAMPLE:
            batch.samples.append(Sample(**json.loads(value)))
        else:
            batch.periods.setdefault((connection_id, int(which)), {})[kind] = int(value)
    batch.samples.sort(key=lambda sample: sample.at)
    for connection_id, at in last_use.items():
        batch.counts[connection_id] = Usage(0, 0, datetime.fromtimestamp(at, UTC))
    for (connection_id, _), bag in batch.periods.items():
        if (used := batch.counts.get(connection_id)) is not None:
            calls, errors = used.calls + bag.get(CALLS, 0), used.errors + bag.get(ERRORS, 0)
            batch.counts[connection_id] = replace(used, calls=calls, errors=errors)
    return batch


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


# KEYS: hash of sums, mark of this batch. ARGV: how many arguments are numbers and how many last uses; then pairs of a
# field and its value: numbers, last uses, samples. Of these only so many wait at a time.
_ADD = f"""
if not redis.call('SET', KEYS[2], '1', 'NX', 'EX', 600) then return 0 end
local uses = 3 + ARGV[1]
local samples = uses + ARGV[2]
for i = 3, uses - 1, 2 do redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1]) end
for i = uses, samples - 1, 2 do
  local last = tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or 0)
  if tonumber(ARGV[i + 1]) > last then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
end
for i = samples, #ARGV, 2 do
  if redis.call('HINCRBY', KEYS[1], '{_SAMPLES.decode()}', 1) <= {_MOST_SAMPLES_WAITING} then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
return 1
"""

# KEYS: lease, and what goes with it. ARGV: who holds it. Only the holder may end it.
_RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', unpack(KEYS))
"""
