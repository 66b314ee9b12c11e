"""What is counted of calls, at no database write and no round trip for a call.

A call adds to this process's memory; a thread hands the sums to Valkey every half second (and at exit), and the
roll-up task takes them from there into the database with `drain`. A killed process loses at most half a second of
counts. Every hand-over carries an id that Valkey remembers, so that one whose answer was lost is not counted twice.
While Valkey is away the sums are kept here, up to a bound; what comes on top is lost. While nobody drains they pile up
in Valkey, up to a bound as well: further ones are counted with those of their hour, and in the end lost.

Of single calls the newest are kept, failed and good ones apart and each connection's apart, so that no connection and
no number of good calls displaces what others have to tell.
"""

from __future__ import annotations

import atexit
import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from connections.client import usage_store
from connections.client.measures import CALLS, ERRORS, Bag
from connections.client.samples import Sample
from external_apis import valkey
from external_apis.handovers import Handover

__all__ = ["Batch", "Period", "Usage", "drain", "flush", "keep", "record"]

_LAST_USE = "at"
_MOST_PERIODS = 5_000
_MOST_SAMPLES, _MOST_SAMPLES_OF_ONE = 1_000, 50

Period = tuple[str, int]
"""A connection's id, and a minute since 1970."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What happened to one connection since the last roll-up."""

    calls: int
    errors: int
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class Batch:
    """What `drain` took; the ``id`` stays the same until the batch has been forgotten, so that it is applied once.

    ``counts`` sums the calls of ``periods`` up by connection. A full one is not all that is waiting.
    """

    id: str
    counts: dict[str, Usage] = field(default_factory=dict)
    periods: dict[Period, Bag] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    is_full: bool = False


class _Samples:
    """The newest single calls: by connection, failed and good ones apart, so many of each and so many in all."""

    def __init__(self) -> None:
        self.queues: dict[tuple[str, bool], deque[Sample]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, sample: Sample) -> None:
        key = (sample.connection_id, bool(sample.error))
        queue = self.queues.setdefault(key, deque())
        queue.append(sample)
        self._count += 1
        if len(queue) > _MOST_SAMPLES_OF_ONE:
            self._drop(key)
        elif self._count > _MOST_SAMPLES:
            self._drop(max(self.queues, key=lambda other: len(self.queues[other])))

    def _drop(self, key: tuple[str, bool]) -> None:
        self.queues[key].popleft()
        self._count -= 1
        if not self.queues[key]:
            del self.queues[key]


@dataclass(slots=True)
class _Sums:
    """``id`` is given when they are handed over."""

    id: str = ""
    periods: dict[Period, Bag] = field(default_factory=dict)
    last_use: dict[str, float] = field(default_factory=dict)
    samples: _Samples = field(default_factory=_Samples)

    def __bool__(self) -> bool:
        return bool(self.periods or self.samples)

    def arguments(self) -> list[Any]:
        """Return them as the script takes them: numbers with the names of what they add to, last uses, and calls."""
        numbers = [
            item
            for (name, minute), bag in self.periods.items()
            for kind, number in bag.items()
            for item in (f"{name}|{minute}|{kind}", f"{name}|{minute - minute % 60}|{kind}", number)
        ]
        uses = [item for name, at in self.last_use.items() for item in (f"{name}|0|{_LAST_USE}", at)]
        samples = [
            item
            for (name, is_error), queue in self.samples.queues.items()
            for sample in queue
            for item in (f"{name}|{'failed' if is_error else 'good'}|", json.dumps(sample.facts()))
        ]
        return [len(numbers), len(uses), *numbers, *uses, *samples]


class _Recorder(Handover[_Sums]):
    """This process's counts that Valkey does not have yet."""

    what, id_prefix, every_seconds = "calls", "use", 0.5

    def __init__(self) -> None:
        super().__init__()
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
            self._sums.samples.add(sample)
        self._wake()

    def wants(self, one_in: int) -> bool:
        if not one_in:
            return False
        with self._lock:
            self._good += 1
            return self._good % one_in == 0

    def _begin(self) -> _Sums:
        return _Sums()

    def _send(self, batch: _Sums) -> None:
        usage_store.add(batch.id, batch.arguments())


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
    """Take the counts of all processes, by connection id, for the time of the block; of very many only a part.

    They are forgotten when the block ends, and kept for the next drain, under the same id, when it raises or its
    process dies. One block at a time: a second one gets an empty batch. Raises `ServiceUnavailable` without Valkey.
    """
    flush()
    with valkey.translate_errors():
        holder = usage_store.lease()
        taken = usage_store.take() if holder else None
    if holder is None:
        yield Batch("")
        return
    try:
        yield Batch("") if taken is None else _read(taken)
    except BaseException:
        with valkey.translate_errors():
            usage_store.release(holder)
        raise
    with valkey.translate_errors():
        usage_store.release(holder, forgets=True)


def _read(taken: usage_store.Taken) -> Batch:
    batch = Batch(taken.batch_id, is_full=taken.is_full)
    last_use: dict[str, float] = {}
    totals: dict[str, tuple[int, int]] = {}
    for name, value in taken.sums.items():
        connection_id, minute, kind = name.rsplit("|", 2)
        if kind == _LAST_USE:
            last_use[connection_id] = float(value)
        else:
            batch.periods.setdefault((connection_id, int(minute)), {})[kind] = int(value)
    batch.samples.extend(Sample(**json.loads(call)) for call in taken.calls)
    batch.samples.sort(key=lambda sample: sample.at)
    for (connection_id, _), bag in batch.periods.items():
        calls, errors = totals.get(connection_id, (0, 0))
        totals[connection_id] = (calls + bag.get(CALLS, 0), errors + bag.get(ERRORS, 0))
    # A part of the sums may hold a connection's last use without its calls, or the other way round.
    for connection_id in last_use.keys() | totals.keys():
        at, numbers = last_use.get(connection_id), totals.get(connection_id, (0, 0))
        if at is not None or any(numbers):
            batch.counts[connection_id] = Usage(*numbers, None if at is None else datetime.fromtimestamp(at, UTC))
    return batch


def _start_afresh() -> None:
    """A forked child has neither its parent's thread nor a claim to its parent's counts."""
    global _recorder  # noqa: PLW0603
    _recorder = _Recorder()


os.register_at_fork(after_in_child=_start_afresh)
atexit.register(flush)
