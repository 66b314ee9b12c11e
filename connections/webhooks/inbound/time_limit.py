"""Ends a function that takes too long, wherever it hangs: nothing else would end somebody's handler."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

__all__ = ["TookTooLong", "call_within"]

_AGAIN_SECONDS = 1.0

Result = TypeVar("Result")


class TookTooLong(KeyboardInterrupt):
    """Raised in the midst of what has taken too long: no `Exception`, which a handler may well catch.

    As the interruption that it is, it makes psycopg cancel a query that it waits for.
    """


def call_within(seconds: float, function: Callable[[], Result]) -> Result:
    """Call a function, and raise `TookTooLong` in its midst after so many seconds, and each second from then on.

    Whatever it makes of that, other than to return, counts as `TookTooLong` as well. By an alarm, which only a
    process's main thread hears: that is where Celery's processes run their tasks. In another thread there is no limit.
    """
    if threading.current_thread() is not threading.main_thread():
        return function()
    own, rang, is_over = sys._getframe(), False, False  # noqa: SLF001

    def expire(_: int, frame: FrameType | None) -> None:
        nonlocal rang
        # Not while the alarm is being set or put off, which has to come to its end.
        if frame is not own and not is_over:
            rang = True
            raise TookTooLong

    before = signal.signal(signal.SIGALRM, expire)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_SECONDS)
        return function()
    except BaseException as error:
        if rang:
            raise TookTooLong from error
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        is_over = True
        signal.signal(signal.SIGALRM, before)
