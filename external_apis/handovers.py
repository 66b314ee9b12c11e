"""What a process counts, kept in its memory and handed to Valkey by a thread, in batches of which each counts once."""

from __future__ import annotations

import logging
import threading
import time
from typing import Generic, Protocol, TypeVar

import redis

from external_apis.ids import new_id

__all__ = ["Handover", "Sums"]

logger = logging.getLogger(__name__)


class Sums(Protocol):
    """What was counted; false while that is nothing. ``id`` is given when they are handed over."""

    id: str

    def __bool__(self) -> bool: ...


_Sums = TypeVar("_Sums", bound=Sums)


class Handover(Generic[_Sums]):
    """This process's sums that Valkey does not have yet; subclasses add to ``_sums`` under ``_lock`` and call `_wake`.

    A batch keeps its id until Valkey has confirmed it, so that one whose answer was lost can be sent again. A forked
    child needs a new one: it has neither its parent's thread nor a claim to its parent's counts.
    """

    what: str
    """Of what these are counts, as the log and the thread call it."""
    id_prefix: str
    every_seconds: float

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums = self._begin()
        self._batch: _Sums | None = None
        self._sending = threading.Lock()
        self._has_work = threading.Event()
        self._thread: threading.Thread | None = None

    def flush(self) -> bool:
        """Hand everything to Valkey; False when it is away, and the counts stay here."""
        with self._sending:
            while True:
                with self._lock:
                    if self._batch is None and self._sums:
                        self._batch, self._sums = self._sums, self._begin()
                        self._batch.id = new_id(self.id_prefix)
                if self._batch is None:
                    return True
                try:
                    self._send(self._batch)
                except redis.RedisError:
                    return False
                self._batch = None

    def _begin(self) -> _Sums:
        """Return sums of nothing."""
        raise NotImplementedError

    def _send(self, batch: _Sums) -> None:
        """Give Valkey a batch, once however often it is called for the same id. Raises redis-py's errors."""
        raise NotImplementedError

    def _wake(self) -> None:
        """Have the sums handed over soon; call it without the lock."""
        if self._has_work.is_set():
            return
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self.what, daemon=True)
                self._thread.start()
        self._has_work.set()

    def _run(self) -> None:
        is_away = False
        while self._has_work.wait():
            time.sleep(self.every_seconds)
            self._has_work.clear()
            was_away, is_away = is_away, not self.flush()
            if is_away:
                self._has_work.set()
                if not was_away:
                    logger.warning("Valkey is away; counts of %s are kept in memory until it is back.", self.what)
