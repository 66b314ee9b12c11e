"""A clean stop at Ctrl-C and SIGTERM: an import ends after the batch that it is at."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

__all__ = ["Stop", "watched"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_WAITS = b"Stopping behind this batch; Ctrl-C again breaks off at once.\n"


class Stop:
    """Ask it between two batches. ``exit_code`` is a shell's for the signal that came: 130 at Ctrl-C, else 143."""

    def __init__(self) -> None:
        self.exit_code = 0

    def __bool__(self) -> bool:
        return self.exit_code != 0

    def ask(self, number: int) -> None:
        """Note a signal."""
        self.exit_code = 128 + number


@contextmanager
def watched() -> Iterator[Stop]:
    """Give a `Stop` that knows of SIGINT and SIGTERM until the block ends; a second SIGINT breaks off at once, as the
    first one says on stderr.

    In another thread than the main one, which hears of no signals, it is never asked.
    """
    stop = Stop()

    def hear(number: int, frame: FrameType | None) -> None:
        if stop and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.ask(number)
        if number == signal.SIGINT:
            with suppress(OSError):
                os.write(2, _WAITS)  # not through a stream, which the signal may have interrupted

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, hear) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
