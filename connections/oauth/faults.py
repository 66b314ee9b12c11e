"""Named points of a renewal at which a test lets a worker die or wait; in an installation that serves nothing happens.

``settings.FAULT_POINT`` is empty unless the environment asks for one twice (see `config.settings`).
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Final, Literal, get_args

from django.conf import settings

__all__ = ["POINTS", "Point", "reach"]

Point = Literal["claimed", "before_send", "after_answer", "spooled", "before_commit", "after_commit", "settled"]
POINTS: Final[tuple[str, ...]] = get_args(Point)
_LONGEST_PAUSE_SECONDS = 60.0


def reach(point: Point) -> None:
    """Die here by SIGKILL if ``FAULT_POINT`` is the point's name; with ``@path`` behind it, make that file and wait
    until somebody removes it."""
    if not settings.FAULT_POINT:
        return
    name, _, path = settings.FAULT_POINT.partition("@")
    if name != point:
        return
    if not path:
        os.kill(os.getpid(), signal.SIGKILL)
    marker = Path(path)
    marker.touch()
    until = time.monotonic() + _LONGEST_PAUSE_SECONDS
    while marker.exists() and time.monotonic() < until:
        time.sleep(0.01)
