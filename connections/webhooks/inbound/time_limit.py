"""Ends a function that takes too long, wherever it hangs: nothing else would end somebody's handler."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["TookTooLong", "limited"]


class TookTooLong(BaseException):
    """Raised in the midst of what has taken too long; no `Exception`, which a handler may well catch."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise `TookTooLong` in the block after so many seconds.

    By an alarm, which only a process's main thread hears: that is where Celery's processes run their tasks. In another
    thread there is no limit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(*_: object) -> None:
        raise TookTooLong

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
