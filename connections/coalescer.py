"""A thread that acts in rounds: what many callers ask for within a moment is one round's, and none of them waits."""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Coalescer"]

logger = logging.getLogger(__name__)

_AT_EXIT_SECONDS = 1.0

Key = TypeVar("Key")
Value = TypeVar("Value")


class Coalescer(Generic[Key, Value]):
    """Calls ``act`` with what was put in since it last did, at most once in ``pause_seconds``; made once a process.

    What a round fails at is lost with a line in the log. The process's end waits a second for the last round, and a
    forked child begins with nothing.
    """

    _lock: threading.Lock
    _batch: dict[Key, Value]
    _has_work: threading.Event
    _is_idle: threading.Event
    _thread: threading.Thread | None

    def __init__(self, name: str, act: Callable[[dict[Key, Value]], None], *, pause_seconds: float) -> None:
        self.name = name
        self._act = act
        self._pause_seconds = pause_seconds
        self._start_afresh()
        os.register_at_fork(after_in_child=self._start_afresh)
        atexit.register(self.flush, _AT_EXIT_SECONDS)

    def put(self, change: Callable[[dict[Key, Value]], object]) -> None:
        """Have ``change`` add to the next round's batch, under the lock; it must not wait for anything."""
        with self._lock:
            change(self._batch)
            self._is_idle.clear()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
                self._thread.start()
        self._has_work.set()

    def flush(self, seconds: float) -> bool:
        """Wait until everything that was put in is done; False when that took longer."""
        return self._is_idle.wait(seconds)

    def _run(self) -> None:
        while True:
            self._has_work.wait()
            self._has_work.clear()
            with self._lock:
                batch, self._batch = self._batch, {}
            try:
                self._act(batch)
            except Exception as error:  # whatever it is: the next round is to come
                logger.warning("A round of %s failed (%s)", self.name, type(error).__name__)
            with self._lock:
                if not self._batch:
                    self._is_idle.set()
            # Whoever comes meanwhile is in the next round.
            threading.Event().wait(self._pause_seconds)

    def _start_afresh(self) -> None:
        """A forked child has its parent's memory and not its thread."""
        self._lock = threading.Lock()
        self._batch = {}
        self._has_work = threading.Event()
        self._is_idle = threading.Event()
        self._is_idle.set()
        self._thread = None
