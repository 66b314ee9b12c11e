"""Tells a worker that there is work: many calls within a moment are one message, and nobody waits for it.

Only the quick way: whatever is due is found by the sweeps that Celery beat starts every few seconds, so a message that
is lost costs those seconds and nothing else.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading

from celery import current_app
from django.db import connection, transaction
from kombu.exceptions import OperationalError

__all__ = ["wake"]

logger = logging.getLogger(__name__)

_PAUSE_SECONDS = 0.05
_EXPIRES_SECONDS = 30
_AT_EXIT_SECONDS = 1.0


class _Waker:
    """One thread sends what was asked for since it last looked, which finds the rows that were committed before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: set[str] = set()
        self._has_work = threading.Event()
        self._is_idle = threading.Event()
        self._is_idle.set()
        self._thread: threading.Thread | None = None

    def want(self, task: str) -> None:
        with self._lock:
            self._is_idle.clear()
            self._wanted.add(task)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="wakeups", daemon=True)
                self._thread.start()
        self._has_work.set()

    def flush(self, seconds: float) -> None:
        self._is_idle.wait(seconds)

    def _run(self) -> None:
        while True:
            self._has_work.wait()
            self._has_work.clear()
            with self._lock:
                wanted, self._wanted = self._wanted, set()
            for task in sorted(wanted):
                _send(task)
            with self._lock:
                if not self._wanted:
                    self._is_idle.set()
            # Whoever comes meanwhile is in the next round.
            threading.Event().wait(_PAUSE_SECONDS)


_waker = _Waker()


def wake(task: str) -> None:
    """Have a worker run a task soon after the present transaction's commit; its name is Celery's."""
    if connection.in_atomic_block:
        transaction.on_commit(lambda: _waker.want(task))
    else:  # which `on_commit` would borrow a connection to find out
        _waker.want(task)


def _send(task: str) -> None:
    try:
        current_app.send_task(task, expires=_EXPIRES_SECONDS, retry=False, ignore_result=True)
    except (OperationalError, OSError) as error:
        logger.warning("%s was not woken (%s); it runs by its schedule", task, type(error).__name__)


def _start_afresh() -> None:
    """A forked child has its parent's memory and not its thread."""
    global _waker  # noqa: PLW0603
    _waker = _Waker()


os.register_at_fork(after_in_child=_start_afresh)
atexit.register(lambda: _waker.flush(_AT_EXIT_SECONDS))
