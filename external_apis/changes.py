"""News of changed rows, so that no process uses for long what it keeps opened in memory.

Whoever changes a row announces its names (ids, a slug); when the transaction has committed they go into a stream in
Valkey. A process that keeps things holds a `Watch`, whose thread waits for the stream and lets go of what is named. A
watch that has not heard from Valkey for a moment says so: then nothing that is kept may be used.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Collection, Iterable
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

import redis
from django.db import transaction

from external_apis import valkey

__all__ = ["Watch", "announce", "announce_everything", "forget_everything", "is_pending"]

logger = logging.getLogger(__name__)

_STREAM = f"{valkey.PREFIX}changes"
_EVERYTHING = "*"
"""Stands in the stream for every name."""
_KEPT_NEWS = 10_000
_BLOCK_MS = 200
_SILENCE_SECONDS = 0.8
_RETRY_SECONDS = 0.5
_ASK_AGAIN_SECONDS = 2.0

_OWN_MARK = uuid4().hex  # a process id alone is not unique among machines
_watches: list[Watch] = []


def announce(names: Iterable[str], using: str | None = None) -> None:
    """Tell every process that what these names stand for has changed, once the current transaction has committed.

    This process knows at once, the others within a second. Without Valkey the news is sent as soon as it is back; the
    others keep nothing in the meantime, because they do not hear from it either.
    """
    transaction.on_commit(_Publication(frozenset(names)), using=using, robust=True)


def announce_everything() -> None:
    """Let every process go of all that it keeps, once the current transaction has committed."""
    announce([_EVERYTHING])


def is_pending(using: str | None = None) -> bool:
    """Tell whether the current transaction has announced something that only it can see yet."""
    return any(isinstance(entry[1], _Publication) for entry in transaction.get_connection(using).run_on_commit)


def forget_everything() -> None:
    """Let this process go of all that it keeps, after a change that nobody announces, as when tables are emptied."""
    for watch in _watches:
        watch.hear(None)


class _Publication:
    """What runs when the transaction has committed; a class, so that `is_pending` finds it."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def __call__(self) -> None:
        for watch in _watches:
            watch.hear(self._names)
        if not _publish(self._names):
            threading.Thread(target=_publish_later, args=(self._names,), name="changes", daemon=True).start()


def _publish(names: frozenset[str]) -> bool:
    try:
        valkey.client().xadd(_STREAM, {"names": " ".join(names), "by": _speaker()}, maxlen=_KEPT_NEWS, approximate=True)
    except redis.RedisError:
        return False
    return True


def _speaker() -> str:
    """This process, of all that share the stream: its watches have heard its own news already."""
    return f"{_OWN_MARK}:{os.getpid()}"


def _publish_later(names: frozenset[str]) -> None:
    logger.warning("Valkey is away; other processes hear of a change when it is back.")
    while not _publish(names):
        sleep(_RETRY_SECONDS)


class Watch:
    """Calls ``forget`` with changed names, or with None for everything, until ``is_needed`` says that it need not.

    ``is_needed`` is asked a few times a second. ``forget`` is called from the watch's thread and from that of a change.
    """

    def __init__(self, forget: Callable[[Collection[str] | None], None], is_needed: Callable[[], bool]) -> None:
        self._forget, self._is_needed = forget, is_needed
        self._heard_at = self._away_until = 0.0
        self._starting, self._counting = threading.Lock(), threading.Lock()
        self._thread: threading.Thread | None = None
        self.news_count = 0
        """Grows with every piece of news: what was read before it did may be old."""
        _watches.append(self)

    def is_current(self) -> bool:
        """Tell whether all news up to a moment ago has been heard."""
        return monotonic() - self._heard_at < _SILENCE_SECONDS

    def start(self) -> bool:
        """Listen from now on; False when Valkey is away, or another thread is just starting."""
        if self.is_current():
            return True
        if monotonic() < self._away_until or not self._starting.acquire(blocking=False):
            return False
        try:
            if self._thread is not None and self._thread.is_alive():
                return False
            latest: Any = valkey.client().xrevrange(_STREAM, count=1)
            self.hear(None)
            self._heard_at = monotonic()
            position = latest[0][0] if latest else b"0-0"
            self._thread = threading.Thread(target=self._run, args=(position,), name="changes", daemon=True)
            self._thread.start()
        except redis.RedisError:
            self._away_until = monotonic() + _ASK_AGAIN_SECONDS
            return False
        finally:
            self._starting.release()
        return True

    def hear(self, names: Collection[str] | None) -> None:
        with self._counting:
            self.news_count += 1
        self._forget(None if names is not None and _EVERYTHING in names else names)

    def close(self) -> None:
        """Hear no more. A forked child has its parent's memory but not its thread, and needs a watch of its own."""
        self._heard_at, self._thread = 0.0, None
        _watches.remove(self)

    def _run(self, position: bytes) -> None:
        own = threading.current_thread()
        client = valkey.client()
        while self._is_needed() and self._thread is own:
            try:
                answer: Any = client.xread({_STREAM: position}, count=1_000, block=_BLOCK_MS)
            except redis.RedisError:
                break
            if not self.is_current():  # so much may have been said meanwhile that the stream has dropped some of it
                self.hear(None)
            for _, entries in answer:
                for entry_id, fields in entries:
                    position = entry_id
                    if fields.get(b"by", b"").decode() != _speaker():
                        self.hear(fields.get(b"names", b"").decode().split())
            self._heard_at = monotonic()
        if self._thread is own:
            self._heard_at = 0.0
            self.hear(None)
