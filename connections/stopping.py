"""How a sweep learns that its worker is to stop: it sends no more, and ends when those under way have answered.

Celery tells its main process alone, so the word goes to the forked ones through a byte that they share; a supervisor
that signals them itself is heard as well.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import RawValue

__all__ = ["stop", "watched"]

_told = RawValue("b", 0)


def stop() -> None:
    """Tell this process and those that it has forked since this module was imported."""
    _told.value = 1


@contextmanager
def watched() -> Iterator[Callable[[], bool]]:
    """Give a function that tells whether it is time to stop; until the block ends SIGTERM is put off."""
    is_signalled = threading.Event()
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if is_main else None
    if before is not None:
        signal.signal(signal.SIGTERM, lambda *_: is_signalled.set())
    try:
        yield lambda: bool(_told.value) or is_signalled.is_set()
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
        if is_signalled.is_set():
            signal.raise_signal(signal.SIGTERM)
